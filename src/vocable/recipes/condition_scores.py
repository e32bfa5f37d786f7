"""What judges make of conditions of anonymization, and of the differences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.audio.manifest import Manifest
from vocable.evaluation.intervals import interval
from vocable.evaluation.recognition import ErrorRate, character_errors, drawn_word_errors, word_errors
from vocable.evaluation.verification import EqualErrorRate, Scores, Trials, drawn_rates, equal_error_rate
from vocable.recipes.anonymity import grouped, mean_pitch_correlation, percent, speakers_of, transcripts_of, trials_of
from vocable.recipes.anonymization_conditions import JudgesSettings
from vocable.recipes.judging import Judging
from vocable.recipes.noise import WhiteNoise, noise_with_errors

_SEARCHED = 40  # utterances by which the loudness of noise is looked for

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ConditionScores:
    """What became of speech in a condition."""

    name: str
    ignorant: EqualErrorRate
    """Of an attacker who compares it with originals."""
    lazy_informed: EqualErrorRate
    """Of one who does the same to what it is compared with."""
    words: ErrorRate | None
    """None where what is read out of the originals counts as said, and it is they that are read."""
    characters: ErrorRate | None
    pitch: float
    """Mean correlation with the originals'."""
    noise: WhiteNoise | None = None
    """That was added."""

    def row(self) -> dict[str, str]:
        """Return the row of a table."""
        rates = {
            "EER, ignorant": self.ignorant, "EER, lazy-informed": self.lazy_informed, "words": self.words,
            "characters": self.characters,
        }  # fmt: skip
        shown = {name: "–" if rate is None else percent(rate.rate, rate.low, rate.high) for name, rate in rates.items()}
        loudest = ", louder isn't tried" if self.noise is not None and self.noise.is_loudest else ""
        level = "" if self.noise is None else f" ({self.noise.over:.1f} dB{loudest})"
        return {"condition": self.name + level, **shown, "pitch": f"{self.pitch:.2f}"}


@dataclass(frozen=True)
class Difference:
    """By how much scores of one condition are above those of another, with the bounds of 95 % of draws of speakers."""

    one: str
    other: str
    ignorant: tuple[float, float, float]
    lazy_informed: tuple[float, float, float]
    words: tuple[float, float, float]

    def row(self) -> dict[str, str]:
        """Return the row of a table, in percentage points."""
        named = {"EER, ignorant": self.ignorant, "EER, lazy-informed": self.lazy_informed, "words": self.words}
        shown = {name: f"{100 * value:+.1f} ({100 * low:+.1f} – {100 * high:+.1f})" for name, (value, low, high) in named.items()}
        return {"condition": f"{self.other}, less {self.one}", **shown}


@dataclass(frozen=True)
class Truth:
    """Who speaks, in which group, and what is said, by the names of utterances."""

    groups: dict[str, str] | None
    transcripts: dict[str, str] | None

    @classmethod
    def of(cls, manifest: Manifest, groups: Path | None, given: dict[str, str] | None) -> Truth:
        """Look it up for all utterances.

        Args:
            manifest: of the utterances.
            groups: a file of lines 'speaker group'.
            given: transcripts by the names of utterances.

        Raises:
            InputError: nobody says who speaks, or a speaker or an utterance isn't listed.
        """
        trials_of(manifest)  # says now whether speakers are known
        of_rows = None if groups is None else grouped(groups, speakers_of(manifest) or [])
        said = None if given is None else transcripts_of(manifest, given)
        return cls(
            None if of_rows is None else dict(zip(manifest.ids, of_rows, strict=True)),
            None if said is None else dict(zip(manifest.ids, said, strict=True)),
        )

    def of_rows(self, manifest: Manifest) -> tuple[Trials, list[str] | None]:
        """Return trials of a part of the utterances, and what is said in each."""
        groups = None if self.groups is None else [self.groups[name] for name in manifest.ids]
        said = None if self.transcripts is None else [self.transcripts[name] for name in manifest.ids]
        return trials_of(manifest, groups), said


@dataclass(frozen=True)
class Judges:
    """Judges at work on conditions of the same originals."""

    asked: JudgesSettings
    originals: Manifest
    truth: tuple[Trials, list[str] | None]
    """Trials of the originals, and what is said in them, where that is given."""
    judging: Judging

    @cached_property
    def before(self) -> tuple[Values, list[str], list[Values]]:
        """What they make of the originals: descriptions, words, pitch."""
        return (
            self.judging.described(self.originals, self.asked.verifier),
            self.judging.read(self.originals, self.asked.recogniser),
            self.judging.pitches(self.originals),
        )

    def of(self, sides: Sequence[Manifest], noise: WhiteNoise | None = None) -> Judged:
        """Return what they make of a condition, made once or several times."""
        times = len(sides)
        vectors, read, pitch = self.before
        trials, given = self.truth
        now = np.concatenate([self.judging.described(side, self.asked.verifier, noise) for side in sides])
        heard = [text for side in sides for text in self.judging.read(side, self.asked.recogniser, noise)]
        pitches = [item for side in sides for item in self.judging.pitches(side, noise)]
        repeated = trials.repeated(times)
        return Judged(
            repeated,
            (repeated.scores(np.tile(vectors, (times, 1)), now), repeated.scores(now, now)),
            (read if given is None else given) * times,
            heard,
            mean_pitch_correlation(pitch * times, pitches),
            noise,
            given is None and noise is None and sides[0] is self.originals,
        )

    def noise_like(self, found: Judged) -> WhiteNoise:
        """Return noise that costs as many words as a condition."""
        chosen = spread(len(self.originals), _SEARCHED)
        few, name = self.originals.select(chosen), self.asked.recogniser
        at = [row + first for first in range(0, len(found.said), len(self.originals)) for row in chosen]
        wanted = word_errors([found.said[row] for row in at], [found.heard[row] for row in at]).rate
        own = [found.said[row] for row in chosen]
        return noise_with_errors(wanted, lambda noise: word_errors(own, self.judging.read(few, name, noise)).rate)


@dataclass(frozen=True)
class Judged:
    """What judges made of a condition, of all its draws together."""

    trials: Trials
    scores: tuple[Scores, Scores]
    """Of all trials, for the ignorant and the lazy-informed attacker."""
    said: list[str]
    """In each utterance."""
    heard: list[str]
    pitch: float
    noise: WhiteNoise | None
    is_its_own_truth: bool
    """Whether what was read out of these very utterances counts as said."""

    def scored(self, name: str) -> ConditionScores:
        """Return the scores under a condition's name."""
        targets = self.trials.targets
        ignorant, informed = (
            EqualErrorRate(equal_error_rate(scores, targets), *interval(draws), int(targets.sum()), int((~targets).sum()))
            for scores, draws in zip(self.scores, self.drawn, strict=True)
        )
        words, characters = (
            None if self.is_its_own_truth else errors(self.said, self.heard, self.trials.tried)
            for errors in (word_errors, character_errors)
        )
        return ConditionScores(name, ignorant, informed, words, characters, self.pitch, self.noise)

    @cached_property
    def drawn(self) -> list[Values]:
        """Equal error rates of draws of speakers, for both attackers."""
        return [drawn_rates(self.trials, scores) for scores in self.scores]

    def less(self, other: Judged, own_name: str, other_name: str) -> Difference:
        """Return by how much scores are above another condition's."""
        sides = self, other
        ignorant, informed = (
            _difference(
                [equal_error_rate(found.scores[attacker], found.trials.targets) for found in sides],
                [found.drawn[attacker] for found in sides],
            )
            for attacker in (0, 1)
        )
        spoken = [(found.said, found.heard, found.trials.tried) for found in sides]
        words = _difference([word_errors(*own).rate for own in spoken], [drawn_word_errors(*own) for own in spoken])
        return Difference(other_name, own_name, ignorant, informed, words)


def _difference(rates: Sequence[float], draws: Sequence[Values]) -> tuple[float, float, float]:
    return (rates[0] - rates[1], *interval(draws[0] - draws[1]))


def spread(count: int, most: int) -> list[int]:
    """Return some of so many rows, from the first to the last."""
    found: list[int] = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    return found
