"""Speaker verification: how well a machine tells who speaks, which anonymized speech should make hard.

Pairs of utterances are trials: of one speaker, or of two. Their error is told by the equal error rate, at the threshold where as
many of the former are rejected as of the latter are accepted; with intervals over speakers, since utterances of one speaker
aren't independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.intervals import DRAWS, interval

Scores = NDArray[np.float64]
_AT_ONCE = 1 << 16  # trials, whose descriptions are multiplied together


@dataclass(frozen=True)
class Trials:
    """Pairs of enrolled and tried utterances.

    Args:
        enrolled: who speaks each enrolled utterance.
        tried: who speaks each tried one.
        pairs: of rows of both, of shape (trials, 2).
    """

    enrolled: tuple[str, ...]
    tried: tuple[str, ...]
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str], speakers: Sequence[str], groups: Sequence[str] | None = None) -> Trials:
        """Return all pairs of different utterances of a corpus that stands on both sides.

        Args:
            names: of the utterances.
            speakers: of each.
            groups: such as genders; pairs are then of one group. By default all belong to one.

        Raises:
            InputError: there are no pairs of one speaker, or none of two.
        """
        count = len(names)
        of_group = np.array(groups if groups is not None else [""] * count)
        first, second = np.nonzero(~np.eye(count, dtype=bool) & (of_group[:, None] == of_group[None]))
        made = cls(tuple(speakers), tuple(speakers), np.stack([first, second], axis=1))
        if not made.targets.any() or made.targets.all():
            raise InputError("verification needs several speakers, of whom one at least has two utterances: give more audio")
        return made

    @classmethod
    def listed(
        cls, listed: Sequence[tuple[str, str]], enrolled: Sequence[str], names: Sequence[str], speakers: Sequence[str]
    ) -> Trials:
        """Return the trials of a list: of speakers, each enrolled by one description of all their utterances, and utterances.

        Args:
            listed: a speaker and an utterance each.
            enrolled: speakers, as their descriptions are ordered.
            names: of the tried utterances.
            speakers: of each of these.

        Raises:
            InputError: there are no trials of one speaker, or none of two.
            KeyError: a speaker or an utterance isn't there.
        """
        first, second = ({name: row for row, name in enumerate(side)} for side in (enrolled, names))
        pairs = np.array([(first[who], second[name]) for who, name in listed], np.int64).reshape(-1, 2)
        made = cls(tuple(enrolled), tuple(speakers), pairs)
        if not made.targets.any() or made.targets.all():
            raise InputError("verification needs trials of one speaker, and of two: give a list with both")
        return made

    def repeated(self, times: int) -> Trials:
        """Return the same trials several times over, each time of utterances of their own, which follow those before."""
        pairs = [self.pairs + np.array([len(self.enrolled), len(self.tried)]) * at for at in range(times)]
        return Trials(self.enrolled * times, self.tried * times, np.concatenate(pairs))

    @property
    def targets(self) -> NDArray[np.bool_]:
        """Which trials are of one speaker, of shape (trials,)."""
        found: NDArray[np.bool_] = np.array(self.enrolled)[self.pairs[:, 0]] == np.array(self.tried)[self.pairs[:, 1]]
        return found

    def scores(self, enrolled: NDArray[np.floating], tried: NDArray[np.floating]) -> Scores:
        """Return the cosine of each trial's descriptions.

        Args:
            enrolled: of shape (utterances, dim).
            tried: of shape (utterances, dim).
        """
        one, other = (_unit(values) for values in (enrolled, tried))
        parts = (self.pairs[first : first + _AT_ONCE] for first in range(0, len(self.pairs), _AT_ONCE))
        found: Scores = np.concatenate([np.einsum("td,td->t", one[part[:, 0]], other[part[:, 1]]) for part in parts])
        return found


@dataclass(frozen=True)
class EqualErrorRate:
    """How often a machine is wrong about who speaks; 0.5 is no better than chance."""

    rate: float
    low: float
    """Bounds of 95 % of draws of speakers."""
    high: float
    targets: int
    """Trials of one speaker."""
    others: int


def equal_error_rate(scores: Scores, targets: NDArray[np.bool_]) -> float:
    """Return the rate at which trials of one speaker are rejected and of two accepted, between the nearest thresholds on a line.

    Args:
        scores: of trials, higher where they are more alike.
        targets: which are of one speaker.

    Raises:
        InputError: there are none of one kind, or a score is no number.
    """
    if not targets.any() or targets.all():
        raise InputError("an equal error rate needs trials of one speaker, and of two")
    if not np.isfinite(scores).all():
        raise InputError("some of the scores are no numbers: look what the verifier returns")
    order, edges = _in_order(scores)
    return _rate(edges, targets[order], np.ones(len(scores)))


def scored_trials(trials: Trials, scores: Scores, seed: int = 0) -> EqualErrorRate:
    """Return the equal error rate of trials, with an interval over speakers; the arguments are those of `drawn_rates`."""
    targets = trials.targets
    low, high = interval(drawn_rates(trials, scores, seed))
    return EqualErrorRate(equal_error_rate(scores, targets), low, high, int(targets.sum()), int((~targets).sum()))


def drawn_rates(trials: Trials, scores: Scores, seed: int = 0) -> NDArray[np.float64]:
    """Return the equal error rates of many draws of speakers, NaN where one has no trials of both kinds; of shape (draws,).

    Speakers are drawn with replacement; a trial counts as often as both of its speakers were drawn (of one speaker: as often as
    that one was). The draws of one seed are of the same speakers, so that rates of two conditions can be compared one by one.

    Args:
        trials: pairs of utterances.
        scores: of each.
        seed: of the draws.
    """
    order, edges = _in_order(scores)
    targets = trials.targets[order]
    spoken = [np.array(side)[trials.pairs[order, at]] for at, side in enumerate((trials.enrolled, trials.tried))]
    names, number = np.unique(np.concatenate(spoken), return_inverse=True)  # of whoever is in a trial
    first, second = np.split(number, 2)
    generator = np.random.default_rng(seed)
    rates = np.full(DRAWS, np.nan)
    for draw in range(DRAWS):
        drawn = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names)).astype(np.float64)
        times = drawn[first]
        times = np.where(targets, times, times * drawn[second])
        if times[targets].any() and times[~targets].any():
            rates[draw] = _rate(edges, targets, times)
    return rates


def _in_order(scores: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return trials by their scores, and how many lie below each threshold: one between any two scores, and one at each end."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.concatenate([[0], np.flatnonzero(np.diff(ordered) > 0) + 1, [len(scores)]])


def _rate(edges: NDArray[np.intp], targets: NDArray[np.bool_], times: NDArray[np.float64]) -> float:
    """Return the equal error rate of trials, in the order of their scores, that count so many times."""
    rejected, below = (np.concatenate([[0.0], np.cumsum(times * kind)])[edges] for kind in (targets, ~targets))
    rejected, accepted = rejected / rejected[-1], 1 - below / below[-1]
    at = int(np.argmax(rejected >= accepted))  # the difference grows with the threshold, from -1 to 1
    gap = (rejected - accepted)[[at - 1, at]]
    part = -gap[0] / (gap[1] - gap[0])
    return float(rejected[at - 1] + part * (rejected[at] - rejected[at - 1]))


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
