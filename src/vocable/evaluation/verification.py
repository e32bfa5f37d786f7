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
        found: Scores = (one @ other.T)[self.pairs[:, 0], self.pairs[:, 1]]
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
    return _rate(*_in_order(scores), targets, np.ones(len(scores)))


def scored_trials(trials: Trials, scores: Scores, seed: int = 0) -> EqualErrorRate:
    """Return the equal error rate of trials, with an interval over speakers.

    Speakers are drawn with replacement; a trial counts as often as both of its speakers were drawn (of one speaker: as often as
    that one was).

    Args:
        trials: pairs of utterances.
        scores: of each.
        seed: of the draws.
    """
    targets = trials.targets
    names = sorted({*trials.enrolled, *trials.tried})
    number = {name: at for at, name in enumerate(names)}
    first = np.array([number[name] for name in trials.enrolled])[trials.pairs[:, 0]]
    second = np.array([number[name] for name in trials.tried])[trials.pairs[:, 1]]
    generator = np.random.default_rng(seed)
    order, edges = _in_order(scores)
    rates = []
    for _ in range(DRAWS):
        drawn = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
        times = np.where(targets, drawn[first], drawn[first] * drawn[second])
        if times[targets].any() and times[~targets].any():
            rates.append(_rate(order, edges, targets, times.astype(np.float64)))
    low, high = interval(rates)
    return EqualErrorRate(equal_error_rate(scores, targets), low, high, int(targets.sum()), int((~targets).sum()))


def _in_order(scores: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return trials by their scores, and how many lie below each threshold: one between any two scores, and one at each end."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.concatenate([[0], np.flatnonzero(np.diff(ordered) > 0) + 1, [len(scores)]])


def _rate(order: NDArray[np.intp], edges: NDArray[np.intp], targets: NDArray[np.bool_], times: NDArray[np.float64]) -> float:
    """Return the equal error rate of trials that count so many times."""
    rejected, below = (np.concatenate([[0.0], np.cumsum(times[order] * kind[order])])[edges] for kind in (targets, ~targets))
    rejected, accepted = rejected / rejected[-1], 1 - below / below[-1]
    at = int(np.argmax(rejected >= accepted))  # the difference grows with the threshold, from -1 to 1
    gap = (rejected - accepted)[[at - 1, at]]
    part = -gap[0] / (gap[1] - gap[0])
    return float(rejected[at - 1] + part * (rejected[at] - rejected[at - 1]))


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
