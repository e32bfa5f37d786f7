"""How well anonymized speech hides who speaks, and how much of what is said is left: originals beside what was made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.anonymization.speech_parts import taken_apart
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.evaluation.recognisers import Recogniser
from vocable.evaluation.recognition import ErrorRate, character_errors, pitch_correlation, word_errors
from vocable.evaluation.verification import EqualErrorRate, Trials, scored_trials
from vocable.evaluation.verifiers import SAMPLE_RATE, Verifier
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.workplace import NAME


@dataclass(frozen=True)
class Pairs:
    """Utterances as they were, and as they are said now."""

    originals: list[tuple[Manifest, Utterance]]
    anonymized: list[tuple[Manifest, Utterance]]
    missing: list[str]
    """Originals of which nothing was made."""

    @classmethod
    def read(cls, originals: Path, anonymized: Path, corpus: CorpusSettings, folder: Path) -> Pairs:
        """Find utterances of one name in two folders or manifests.

        Raises:
            InputError: none is in both.
        """
        sides = [_opened(source, corpus, folder) for source in (originals, anonymized)]
        there = {item.id: item for item in sides[1]}
        found = [(item, there[item.id]) for item in sides[0] if item.id in there]
        if not found:
            raise InputError(f"{anonymized} has no utterance that {originals} has: give what was made of it")
        missing = [item.id for item in sides[0] if item.id not in there]
        return cls([(sides[0], one) for one, _ in found], [(sides[1], other) for _, other in found], missing)

    @property
    def names(self) -> list[str]:
        """Of the utterances."""
        return [item.id for _, item in self.originals]

    @property
    def speakers(self) -> list[str] | None:
        """Who speaks each; None where nobody says it."""
        named = [item.speaker for _, item in self.originals]
        return None if None in named else [str(name) for name in named]


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


def score_privacy(pairs: Pairs, describe: Verifier, groups: Sequence[str] | None = None) -> PrivacyScores:
    """Score how well speakers are hidden.

    Args:
        pairs: of utterances.
        describe: the verifier.
        groups: such as genders, within which trials are made.

    Raises:
        InputError: nobody says who speaks, or there are too few.
    """
    if (speakers := pairs.speakers) is None:
        raise InputError("who speaks isn't known: give --speakers with a pattern such as '{speaker}/*', or a table")
    trials = Trials.of(pairs.names, speakers, groups)
    before, now = (_described(side, describe) for side in (pairs.originals, pairs.anonymized))
    original, ignorant, informed = (
        scored_trials(trials, trials.scores(one, other)) for one, other in ((before, before), (before, now), (now, now))
    )
    return PrivacyScores(original, ignorant, informed, len(pairs.names))


def score_intelligibility(
    pairs: Pairs, write_down: Recogniser, transcripts: dict[str, str] | None = None
) -> IntelligibilityScores:
    """Score what is left of what is said.

    Args:
        pairs: of utterances.
        write_down: the recogniser.
        transcripts: of the utterances, by name; without them, what the recogniser reads out of the originals counts as said.

    Raises:
        InputError: an utterance has no transcript.
    """
    given = None if transcripts is None else [_transcript(name, transcripts) for name in pairs.names]
    speakers = pairs.speakers
    sides = ((pairs.originals, "originals"), (pairs.anonymized, "anonymized speech"))
    read = [[_text(write_down(waveform)) for waveform in _waveforms(side, what)] for side, what in sides]
    said = read[0] if given is None else given
    pitch = [
        pitch_correlation(taken_apart(one).pitch, taken_apart(other).pitch)
        for one, other in zip(_waveforms(pairs.originals, "pitch"), _waveforms(pairs.anonymized, "pitch"), strict=True)
    ]
    known = [value for value in pitch if np.isfinite(value)]
    return IntelligibilityScores(
        word_errors(said, read[1], speakers),
        character_errors(said, read[1], speakers),
        None if transcripts is None else word_errors(said, read[0], speakers),
        float(np.mean(known)) if known else float("nan"),
        len(pairs.names),
    )


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


def _transcript(name: str, transcripts: dict[str, str]) -> str:
    found = transcripts.get(name, transcripts.get(_last(name)))
    if found is None:
        raise InputError(
            f"{name} has no transcript, or several could be meant: give those of all utterances, by their whole names"
        )
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"the recogniser returned {value!r:.60} where text was wanted: let it return a str")
    return value


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _described(side: list[tuple[Manifest, Utterance]], describe: Verifier) -> NDArray[np.floating[Any]]:
    found: list[NDArray[np.floating[Any]]] = []
    for (_, item), waveform in zip(side, _waveforms(side, "speakers"), strict=True):
        made = np.asarray(describe(waveform))
        if (
            made.ndim != 1
            or made.dtype.kind not in "fiu"
            or not np.isfinite(made).all()
            or made.shape != (found or [made])[0].shape
        ):
            raise InputError(
                f"the verifier returned what describes nobody for {item.id}: let it return finite numbers, equally many"
            )
        found.append(made)
    return np.stack(found)


def _waveforms(side: list[tuple[Manifest, Utterance]], what: str) -> Iterator[Waveform]:
    """Yield the waveform of each utterance."""
    with progress(what, float(len(side)), "utterances") as shown:
        for manifest, item in side:
            yield read_waveform(manifest.where(item), SAMPLE_RATE, item.channel)
            shown.advance(1)


def _opened(source: Path, corpus: CorpusSettings, folder: Path) -> Manifest:
    require_source(source)
    with Engine(Work()) as engine:
        opened = open_corpus(source, corpus, engine, folder / NAME)
    require_usable(opened, source)
    return opened.manifest


def _interval(name: str, rate: float, low: float, high: float) -> dict[str, str]:
    return {name: f"{rate:.1%}", "95 % of draws": f"{low:.1%} – {high:.1%}"}
