"""How well anonymized speech hides who speaks, and how much of what is said is left: originals beside what was made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import Skipped
from vocable.audio.kaldi_sets import KaldiSet, is_kaldi_set
from vocable.audio.manifest import Manifest
from vocable.errors import InputError
from vocable.evaluation.recognition import ErrorRate, character_errors, pitch_correlation, word_errors
from vocable.evaluation.verification import EqualErrorRate, Trials, scored_trials
from vocable.execution.engine import Engine, Work
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.judging import Judging
from vocable.recipes.row_files import row_of, write_rows
from vocable.recipes.workplace import NAME

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Utterances as they were, and as they are said now, row by row."""

    originals: Manifest
    anonymized: Manifest
    missing: list[str]
    """Originals of which nothing was made."""
    skipped: list[Skipped]
    """Files of both sides that couldn't be used."""

    @classmethod
    def read(cls, originals: Path, anonymized: Path, corpus: CorpusSettings, folder: Path) -> Pairs:
        """Find utterances of one name in two folders, data sets in Kaldi's form, or manifests.

        Raises:
            InputError: none is in both.
        """
        opened = [_opened(source, corpus, folder) for source in (originals, anonymized)]
        before, now = (side.manifest for side in opened)
        there = {name: row for row, name in enumerate(now.ids)}
        rows = [row for row, name in enumerate(before.ids) if name in there]
        if not rows:
            raise InputError(f"{anonymized} has no utterance that {originals} has: give what was made of it")
        missing = [name for name in before.ids if name not in there]
        kept = before.select(rows)
        return cls(
            kept, now.select([there[name] for name in kept.ids]), missing, [item for side in opened for item in side.skipped]
        )


def speakers_of(manifest: Manifest) -> list[str] | None:
    """Return who speaks each utterance; None where nobody says it."""
    named = [item.speaker for item in manifest]
    return None if None in named else [str(name) for name in named]


def trials_of(manifest: Manifest, groups: Sequence[str] | None = None) -> Trials:
    """Return all pairs of utterances.

    Args:
        manifest: of the utterances.
        groups: of each, such as genders, within which trials are made.

    Raises:
        InputError: nobody says who speaks, or there are too few.
    """
    if (speakers := speakers_of(manifest)) is None:
        raise InputError(
            "who speaks isn't known: give --speakers (in a file of conditions audio.speakers) with a pattern such as "
            "'{speaker}/*', or a table"
        )
    return Trials.of(manifest.ids, speakers, groups)


@dataclass(frozen=True)
class PrivacyScores:
    """How often a verifier is wrong about who speaks."""

    original: EqualErrorRate
    """Of originals among themselves."""
    ignorant: EqualErrorRate
    """Of an attacker who compares anonymized speech with originals."""
    lazy_informed: EqualErrorRate
    """Of one who anonymizes what it is compared with, too."""
    utterances: int

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each attacker."""
        named = (
            ("originals among themselves", self.original),
            ("ignorant: anonymized against originals", self.ignorant),
            ("lazy-informed: anonymized against anonymized", self.lazy_informed),
        )
        return [{"attacker": name, **_interval("EER", found.rate, found.low, found.high)} for name, found in named]


@dataclass(frozen=True)
class IntelligibilityScores:
    """How much of what is said a recogniser gets."""

    words: ErrorRate
    characters: ErrorRate
    original: ErrorRate | None
    """Of words in the originals, where transcripts are given."""
    pitch: float
    """Mean correlation of pitch with the originals'."""
    utterances: int

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each score."""
        named = [("words", self.words), ("characters", self.characters)]
        if self.original is not None:
            named.insert(0, ("words of the originals", self.original))
        rows = [{"errors in": name, **_interval("rate", found.rate, found.low, found.high)} for name, found in named]
        return [*rows, {"errors in": "correlation of pitch", "rate": f"{self.pitch:.3f}", "95 % of draws": ""}]


def score_privacy(pairs: Pairs, verifier: str, judging: Judging, groups: Sequence[str] | None = None) -> PrivacyScores:
    """Score how well speakers are hidden.

    Args:
        pairs: of utterances.
        verifier: its name.
        judging: where it works.
        groups: of utterances, such as genders, within which trials are made.

    Raises:
        InputError: nobody says who speaks, or there are too few.
    """
    trials = trials_of(pairs.originals, groups)
    before, now = (judging.described(side, verifier) for side in (pairs.originals, pairs.anonymized))
    original, ignorant, informed = (
        scored_trials(trials, trials.scores(one, other)) for one, other in ((before, before), (before, now), (now, now))
    )
    return PrivacyScores(original, ignorant, informed, len(pairs.originals))


def score_intelligibility(
    pairs: Pairs, recogniser: str, judging: Judging, transcripts: dict[str, str] | None = None
) -> IntelligibilityScores:
    """Score what is left of what is said.

    Args:
        pairs: of utterances.
        recogniser: its name.
        judging: where it works.
        transcripts: of the utterances, by name; without them, what the recogniser reads out of the originals counts as said.

    Raises:
        InputError: an utterance has no transcript.
    """
    given = None if transcripts is None else transcripts_of(pairs.originals, transcripts)
    speakers = speakers_of(pairs.originals)
    read = [judging.read(side, recogniser) for side in (pairs.originals, pairs.anonymized)]
    said = read[0] if given is None else given
    return IntelligibilityScores(
        word_errors(said, read[1], speakers),
        character_errors(said, read[1], speakers),
        None if transcripts is None else word_errors(said, read[0], speakers),
        mean_pitch_correlation(judging.pitches(pairs.originals), judging.pitches(pairs.anonymized)),
        len(pairs.originals),
    )


def mean_pitch_correlation(before: Sequence[Values], now: Sequence[Values]) -> float:
    """Return the mean correlation of the pitch of utterances, of those where it is known; NaN if it is nowhere."""
    found = [pitch_correlation(one, other) for one, other in zip(before, now, strict=True)]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def read_transcripts(source: Path) -> dict[str, str]:
    """Read transcripts: a file, or all .trans.txt files in a folder, with lines of an utterance's name and its words.

    Raises:
        InputError: there is none.
    """
    files = sorted(source.rglob("*.trans.txt")) if source.is_dir() else [source]
    found: dict[str, str] = {}
    last: dict[str, set[str]] = {}
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} can't be read as text ({error}): give transcripts") from error
        for line in lines:
            name, *words = line.split(maxsplit=1)[:2] or [""]
            if name:
                found[name] = words[0] if words else ""
                last.setdefault(_last(name), set()).add(found[name])
    if not found:
        raise InputError(f"{source} holds no transcripts: give a file of lines 'utterance words', or a folder of .trans.txt")
    return found | {name: texts.pop() for name, texts in last.items() if name not in found and len(texts) == 1}


def transcripts_of(manifest: Manifest, transcripts: dict[str, str]) -> list[str]:
    """Return the transcript of each utterance.

    Raises:
        InputError: one has none.
    """
    return [_transcript(name, transcripts) for name in manifest.ids]


def _transcript(name: str, transcripts: dict[str, str]) -> str:
    found = transcripts.get(name, transcripts.get(_last(name)))
    if found is None:
        raise InputError(
            f"{name} has no transcript, or several could be meant: give those of all utterances, by their whole names"
        )
    return found


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _opened(source: Path, corpus: CorpusSettings, folder: Path) -> Corpus:
    require_source(source)
    if is_kaldi_set(source):
        listed = write_rows(folder / NAME, "listed", map(row_of, KaldiSet(source).utterances()))
    else:
        listed = source
    with Engine(Work()) as engine:
        opened = open_corpus(listed, corpus, engine, folder / NAME)
    require_usable(opened, source)
    return opened


def grouped(path: Path, speakers: Sequence[str]) -> list[str]:
    """Return the group of each utterance's speaker.

    Args:
        path: a file of lines 'speaker group'.
        speakers: of the utterances.

    Raises:
        InputError: it can't be read, or lacks a speaker.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as text ({error}): give lines 'speaker group'") from error
    if wrong := next((number for number, line in enumerate(lines, 1) if len(line) != 2), None):
        raise InputError(f"{path} line {wrong} should be a speaker and a group")
    known = dict(lines)
    if lacking := next((name for name in speakers if name not in known), None):
        raise InputError(f"{path} doesn't say which group {lacking} belongs to: add it")
    return [known[name] for name in speakers]


def percent(rate: float, low: float, high: float) -> str:
    """Return a rate with its bounds as people write it."""
    return f"{rate:.1%} ({low:.1%} – {high:.1%})"


def finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _interval(name: str, rate: float, low: float, high: float) -> dict[str, str]:
    return {name: f"{rate:.1%}", "95 % of draws": f"{low:.1%} – {high:.1%}"}
