"""How far two labellings of the same frames agree, whatever their units are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError, MismatchError
from vocable.evaluation.joint_counts import mutual_information
from vocable.units.units import Units
from vocable.units.usage import entropy_of


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
    """Compare two labellings, frame by frame.

    Raises:
        MismatchError: they are not of the same utterances and frames.
    """
    if len(first) != len(second):
        raise MismatchError(f"{len(first)} utterances can't be compared with {len(second)}: give two labellings of one manifest")
    differing = np.flatnonzero(first.lengths != second.lengths)
    if len(differing):
        row = int(differing[0])
        raise MismatchError(
            f"line {row + 1} has {first.lengths[row]} labels in one and {second.lengths[row]} in the other: "
            "give two labellings of the same frames"
        )
    shape = int(first.values.max(initial=0)) + 1, int(second.values.max(initial=0)) + 1
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (first.values.astype(np.intp), second.values.astype(np.intp)), 1)
    frames = max(len(first.values), 1)
    mean = (entropy_of(counts.sum(axis=1)) + entropy_of(counts.sum(axis=0))) / 2
    return Agreement(
        same=float((first.values == second.values).mean()) if len(first.values) else 1.0,
        matched=float(counts[best_matching(counts)].sum() / frames),
        nmi=mutual_information(counts) / mean if mean > 0 else 1.0,
        frames=len(first.values),
    )


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
