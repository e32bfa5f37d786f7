"""How far two labellings of the same frames agree, whatever their units are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError, MismatchError
from vocable.evaluation.joint_counts import normalized_mutual_information
from vocable.units.units import Units

_CHUNK = 1 << 22  # frames counted at a time


@dataclass(frozen=True)
class Agreement:
    """Two labellings compared."""

    same: float
    """Part of the frames with the very same unit."""
    matched: float
    """The same after the best one-to-one renaming of units."""
    nmi: float
    """Mutual information over the mean of both entropies."""
    frames: int

    def rows(self) -> dict[str, float | int]:
        """Return name → value."""
        return asdict(self)


def agreement(first: Units, second: Units) -> Agreement:
    """Compare two labellings, frame by frame; utterances are those of one id where both have ids.

    Raises:
        MismatchError: they are not of the same utterances and frames.
    """
    second = _in_order_of(first, second)
    if len(first) != len(second):
        raise MismatchError(f"{len(first)} utterances can't be compared with {len(second)}: give two labellings of one manifest")
    differing = np.flatnonzero(first.lengths != second.lengths)
    if len(differing):
        row = int(differing[0])
        raise MismatchError(
            f"line {row + 1} has {first.lengths[row]} labels in one and {second.lengths[row]} in the other: "
            "give two labellings of the same frames"
        )
    counts = _joint_counts(first.values, second.values)
    frames = max(len(first.values), 1)
    return Agreement(
        same=float((first.values == second.values).mean()) if len(first.values) else 1.0,
        matched=float(counts[best_matching(counts)].sum() / frames),
        nmi=normalized_mutual_information(counts),
        frames=len(first.values),
    )


def _in_order_of(first: Units, second: Units) -> Units:
    """Return the second labelling with its utterances in the order of the first's, as far as ids or headers tell."""
    if first.ids is not None and second.ids is not None and first.ids != second.ids:
        place = {name: at for at, name in enumerate(second.ids)}
        if set(place) != set(first.ids):
            odd = min(set(place) ^ set(first.ids))
            raise MismatchError(f"only one of the labellings has the utterance {odd!r}: give two labellings of one manifest")
        return Units.of([second[place[name]] for name in first.ids], second.header, first.ids)
    known = first.header.manifest, second.header.manifest
    if (first.ids is None or second.ids is None) and None not in known and known[0] != known[1]:
        raise MismatchError(
            "the labellings are of different manifests, and without ids their lines can't be told apart: "
            "label one manifest, or give both as .units"
        )
    return second


def _joint_counts(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """Return frames by both units, as far as they occur."""
    firsts, seconds = np.unique(first), np.unique(second)
    counts = np.zeros(max(len(firsts), 1) * max(len(seconds), 1), dtype=np.int64)
    for at in range(0, len(first), _CHUNK):
        piece = slice(at, at + _CHUNK)
        codes = np.searchsorted(firsts, first[piece]) * len(seconds) + np.searchsorted(seconds, second[piece])
        counts += np.bincount(codes, minlength=len(counts))
    return counts.reshape(max(len(firsts), 1), max(len(seconds), 1))


def best_matching(counts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns matched one to one with the largest sum.

    Raises:
        InputError: SciPy isn't installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise InputError("matching units takes SciPy: pip install 'vocable[evaluation]'") from error
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return rows, columns
