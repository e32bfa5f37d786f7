"""How well the speakers of the VoicePrivacy challenge's data sets are hidden: its trials, scored by a verifier.

A speaker is enrolled by the mean of what the verifier makes of the utterances of `NAME_enrolls`, and compared by its cosine with
single utterances of `NAME_trials_f` and `NAME_trials_m`, as the file `trials` of these says. Of the challenge's attackers, here
are those whose verifier heard no anonymized speech before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import Skipped
from vocable.audio.kaldi_sets import KaldiSet, is_kaldi_set, kaldi_sets_in, numbered_lines
from vocable.audio.manifest import Manifest
from vocable.errors import InputError
from vocable.evaluation.intervals import interval
from vocable.evaluation.verification import EqualErrorRate, Scores, Trials, drawn_rates, scored_trials
from vocable.recipes.anonymity import Pairs, PrivacyScores, percent, speakers_of
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.judging import Judging

_ENROLLED, _TRIED, _LIST = "_enrolls", ("_trials", "_trials_f", "_trials_m"), "trials"
_ATTACKERS = ("original", "ignorant", "lazy_informed")


@dataclass(frozen=True)
class VoicePrivacyScores:
    """How often a verifier is wrong about who speaks."""

    sets: dict[str, PrivacyScores]
    """Of each set of trials."""
    means: dict[str, PrivacyScores]
    """Of the sets that share enrolments, such as those of women and of men."""
    missing: list[str]
    """Utterances of which nothing was made; trials of them are left out."""
    skipped: list[Skipped]
    """Files, as they were or as they are said now, that couldn't be used; their trials are left out, too."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each set of trials, and each mean."""
        named = [*self.sets.items(), *((f"mean of {name}", scores) for name, scores in self.means.items())]
        return [{"trials": name, **{who.replace("_", "-"): _shown(scores, who) for who in _ATTACKERS}} for name, scores in named]


def score_voice_privacy(originals: Path, anonymized: Path, suffix: str, verifier: str, judging: Judging) -> VoicePrivacyScores:
    """Score how well speakers of data sets are hidden.

    Args:
        originals: a folder of data sets in Kaldi's form, among them enrolments and trials.
        anonymized: a folder of what was made of them.
        suffix: of the names of the latter.
        verifier: its name.
        judging: where it works, and folder for what is found.

    Raises:
        InputError: there are no trials, or no anonymized data set, or a line of a list can't be used.
    """
    sets = {item.name: item for item in kaldi_sets_in(originals, suffix)}
    bases = [name.removesuffix(_ENROLLED) for name in sets if name.endswith(_ENROLLED)]
    tried = {base: [name for end in _TRIED if (name := f"{base}{end}") in sets] for base in bases}
    if not any(tried.values()):
        raise InputError(
            f"{originals} has no NAME{_ENROLLED} with NAME{_TRIED[1]} or NAME{_TRIED[2]}: give the challenge's data sets' folder"
        )
    for name in [name for base, own in tried.items() if own for name in (f"{base}{_ENROLLED}", *own)]:
        if not is_kaldi_set(anonymized / f"{name}{suffix}"):
            raise InputError(f"{anonymized} has no data set {name}{suffix}: anonymize {name}, or give another folder or --suffix")
    found: dict[str, PrivacyScores] = {}
    means: dict[str, PrivacyScores] = {}
    missing: list[str] = []
    skipped: list[Skipped] = []
    for base, own in tried.items():
        scored: list[_Scored] = []
        sides = _Sides.read(sets[f"{base}{_ENROLLED}"], anonymized, suffix, verifier, judging) if own else None
        for name in own:
            assert sides is not None
            of_trials = _Sides.read(sets[name], anonymized, suffix, verifier, judging)
            scored.append(_Scored.of(sides, of_trials))
            found[name] = scored[-1].scores
            missing += of_trials.missing
            skipped += of_trials.skipped
        if sides is not None:
            missing += sides.missing
            skipped += sides.skipped
        if len(scored) > 1:
            means[base] = _mean(scored)
    return VoicePrivacyScores(found, means, sorted(missing), sorted(skipped))


@dataclass(frozen=True)
class _Sides:
    """A data set, and what a verifier makes of it as it was and as it is said now."""

    source: KaldiSet
    manifest: Manifest
    speakers: list[str]
    described: tuple[NDArray[np.float64], NDArray[np.float64]]
    missing: list[str]
    skipped: list[Skipped]

    @classmethod
    def read(cls, source: KaldiSet, anonymized: Path, suffix: str, verifier: str, judging: Judging) -> _Sides:
        pairs = Pairs.read(source.folder, anonymized / f"{source.name}{suffix}", CorpusSettings(), judging.folder)
        speakers = speakers_of(pairs.originals)
        if speakers is None:
            raise InputError(f"{source.folder} has no utt2spk, so who speaks isn't known: add it")
        before, now = (judging.described(side, verifier) for side in (pairs.originals, pairs.anonymized))
        return cls(source, pairs.originals, speakers, (before, now), pairs.missing, pairs.skipped)

    def means(self, names: Sequence[str], side: int) -> NDArray[np.float64]:
        """Return the mean of each speaker's descriptions, as they are, of shape (speakers, dim)."""
        of_whom = np.array(self.speakers)
        return np.stack([self.described[side][of_whom == name].mean(axis=0) for name in names])


@dataclass(frozen=True)
class _Scored:
    """Trials with the scores that attackers give them."""

    trials: Trials
    of_attackers: dict[str, Scores]
    scores: PrivacyScores

    @classmethod
    def of(cls, enrolled: _Sides, tried: _Sides) -> _Scored:
        names = sorted(set(enrolled.speakers))
        trials = Trials.listed(_listed(enrolled, tried), names, tried.manifest.ids, tried.speakers)
        means = [enrolled.means(names, side) for side in (0, 1)]
        of_attackers = {
            who: trials.scores(means[one], tried.described[other])
            for who, one, other in zip(_ATTACKERS, (0, 0, 1), (0, 1, 1), strict=True)
        }
        rates = {who: scored_trials(trials, scores) for who, scores in of_attackers.items()}
        return cls(trials, of_attackers, PrivacyScores(**rates, utterances=len(tried.manifest)))


def _listed(enrolled: _Sides, tried: _Sides) -> list[tuple[str, str]]:
    """Return the trials whose utterances and speakers there is speech of, both as it was and as it is said now.

    Raises:
        InputError: a line can't be read, names whom nobody knows, or says of a trial what utt2spk denies.
    """
    path = tried.source.folder / _LIST
    known = {row.id: row.speaker for row in tried.source.utterances()}
    speakers = {row.speaker for row in enrolled.source.utterances()}
    there, enrolled_there = set(tried.manifest.ids), set(enrolled.speakers)
    found = []
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 3 or fields[2] not in ("target", "nontarget"):
            raise InputError(
                f"{path} line {number} should be a speaker, an utterance, and target or nontarget, but reads {line!r}"
            )
        who, name, kind = fields
        if who not in speakers:
            raise InputError(f"{path} line {number}: {enrolled.source.folder} enrols nobody called {who}: mend the line")
        if name not in known:
            raise InputError(f"{path} line {number}: {tried.source.folder} has no utterance {name}: mend the line")
        if (known[name] == who) != (kind == "target"):
            raise InputError(f"{path} line {number} says {kind}, but by utt2spk {known[name]} speaks {name}: mend one of them")
        if name in there and who in enrolled_there:
            found.append((who, name))
    return found


def _mean(scored: Sequence[_Scored]) -> PrivacyScores:
    """Return the mean rates of sets of trials, each of speakers of its own, who are drawn by themselves."""
    rates = {}
    for who in _ATTACKERS:
        each = [getattr(item.scores, who) for item in scored]
        draws = [drawn_rates(item.trials, item.of_attackers[who], seed) for seed, item in enumerate(scored)]
        low, high = interval(np.mean(draws, axis=0))
        rate = float(np.mean([item.rate for item in each]))
        rates[who] = EqualErrorRate(rate, low, high, sum(item.targets for item in each), sum(item.others for item in each))
    return PrivacyScores(**rates, utterances=sum(item.scores.utterances for item in scored))


def _shown(scores: PrivacyScores, who: str) -> str:
    found: EqualErrorRate = getattr(scores, who)
    return percent(found.rate, found.low, found.high)
