"""What can be read out of frames, pooled frames or units: the accuracy of a probe on utterances that it wasn't fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.intervals import DRAWS, interval
from vocable.evaluation.linear_probe import LinearProbe
from vocable.units.units import Sequence as UnitSequence
from vocable.units.units import run_lengths

Labels = Sequence[str]


@dataclass(frozen=True)
class ProbeScore:
    """How much a probe gets right."""

    accuracy: float
    low: float
    """Of the 95 % interval over utterances."""
    high: float
    chance: float
    """What always saying the most frequent label of the fitting gets right."""
    items: int
    """That were scored: frames, or utterances."""
    utterances: int
    classes: int
    """Labels that the probe knows."""

    def rows(self) -> dict[str, Any]:
        """Return the score as JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Labelled:
    """What a probe is fitted to, or scored on: of frames or of utterances."""

    values: NDArray[Any]
    """Frames of shape (items, dim), or units of shape (items,)."""
    labels: Labels
    utterances: NDArray[np.int64]
    """Which each item is of."""

    def __len__(self) -> int:
        return len(self.labels)


def check_labels(fitted: Labels, scored: Labels) -> None:
    """Refuse labels that no probe can be fitted to, or scored on.

    Raises:
        InputError: there is nothing to score, or there are fewer than two labels to fit.
    """
    if not len(scored) or not len(fitted):
        raise InputError("a probe needs utterances to be fitted to and others to be scored on: give more speech")
    if len(set(fitted)) < 2:
        raise InputError("a probe needs two labels or more: give speech of more kinds")


def linear_score(fitted: Labelled, scored: Labelled, seed: int = 0) -> ProbeScore:
    """Fit a linear probe to frames, or pooled frames, and score it on others.

    Raises:
        InputError: there is nothing to score, or there are fewer than two labels to fit.
    """
    check_labels(fitted.labels, scored.labels)
    probe = LinearProbe.fit(np.ascontiguousarray(fitted.values, np.float32), list(fitted.labels), seed)
    return _score(probe(np.ascontiguousarray(scored.values, np.float32)), fitted, scored)


def unit_score(fitted: Labelled, scored: Labelled) -> ProbeScore:
    """Score units, one-hot: of those, no linear probe says more than each unit's most frequent label, so that is what is said.

    Raises:
        InputError: there is nothing to score, or there are fewer than two labels to fit.
    """
    check_labels(fitted.labels, scored.labels)
    names = sorted(set(fitted.labels))
    number = {name: at for at, name in enumerate(names)}
    units = 1 + max(int(fitted.values.max()), int(scored.values.max()))
    counts = np.zeros((units, len(names)), dtype=np.int64)
    np.add.at(counts, (fitted.values, np.array([number[name] for name in fitted.labels])), 1)
    most = counts.sum(axis=0).argmax()
    said = np.where(counts.any(axis=1), counts.argmax(axis=1), most)
    return _score([names[at] for at in said[scored.values]], fitted, scored)


def pooled(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and deviation of an utterance's frames of shape (frames, dim), of shape (2 · dim,)."""
    wide = frames.astype(np.float64)
    return np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)


def histogram(units: UnitSequence, clusters: int) -> NDArray[np.float32]:
    """Return which part of an utterance's frames has each unit, of shape (clusters,)."""
    counts = np.bincount(units.astype(np.int64), minlength=clusters)
    return (counts / max(len(units), 1)).astype(np.float32)


def run_histogram(units: UnitSequence, clusters: int) -> NDArray[np.float32]:
    """Return which part of an utterance's runs has each unit, and their mean length in frames, of shape (2 · clusters,)."""
    values, lasting = run_lengths(units)
    runs = np.bincount(values.astype(np.int64), minlength=clusters)
    frames = np.bincount(values.astype(np.int64), weights=lasting, minlength=clusters)
    return np.concatenate([runs / max(len(values), 1), frames / np.maximum(runs, 1)]).astype(np.float32)


def _score(said: Labels, fitted: Labelled, scored: Labelled) -> ProbeScore:
    right = np.array([one == other for one, other in zip(said, scored.labels, strict=True)], dtype=np.float64)
    names, counts = np.unique(list(fitted.labels), return_counts=True)
    usual = str(names[counts.argmax()])
    chance = float(np.mean([name == usual for name in scored.labels]))
    _, owners = np.unique(scored.utterances, return_inverse=True)
    low, high = _interval(np.bincount(owners, weights=right).astype(np.float64), np.bincount(owners))
    return ProbeScore(float(right.mean()), low, high, chance, len(scored), int(owners.max()) + 1, len(names))


def _interval(right: NDArray[np.floating], items: NDArray[np.integer]) -> tuple[float, float]:
    """Return the bounds of the accuracy over draws of utterances, with `right` of the `items` of each."""
    drawn = np.random.default_rng(0).integers(0, len(items), (DRAWS, len(items)))
    return interval(right[drawn].sum(axis=1) / items[drawn].sum(axis=1))
