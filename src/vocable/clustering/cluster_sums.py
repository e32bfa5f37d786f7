"""Sums over clusters that are exact, so that they don't depend on the order in which frames come.

Each value is measured in steps of a grid that spans all frames, and added as two integers: the nearest step, and what that
leaves in steps as much finer; so values far smaller than the largest keep their digits. Integer sums are the same for any blocks,
workers and order, and adding a frame undoes subtracting it; so a pass may be cut up, spread, resumed, or brought up to date from
the frames that moved, with the same bits in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of_array
from vocable.clustering.assignment import Array, Labels
from vocable.errors import InputError

PIECE_ROWS = 1 << 13
"""Rows added at a time: as float64, their integers add up without rounding."""

_CACHED_VALUES = 1 << 16  # float64 values that stay in the second-level cache
_LEAST_ROWS = 64

_PIECE_BITS = 39  # 53 bits of a float64, less those of PIECE_ROWS, and a sign
_SUM_BITS = 62
_LEAST = 1e-200  # with a smaller largest value, steps would be infinitely fine


@dataclass(frozen=True)
class Grid:
    """How values become integers: by a power of two for each column, of which the last is for weights."""

    scale: NDArray[np.float64]
    """Steps to 1, shape (dim + 1,)."""
    bits: int
    """Integers reach from -2^bits to 2^bits."""
    weight: float
    """A power of two, no less than any weight."""

    @classmethod
    def of(cls, largest: NDArray[np.float64], count: int, weights: NDArray[np.float64] | None = None) -> Grid:
        """Make the grid for frames.

        Args:
            largest: absolute value in each column, shape (dim,).
            count: number of frames.
            weights: of all frames.
        """
        bits = min(_PIECE_BITS, _SUM_BITS - count.bit_length())
        weight = 1.0 if weights is None else float(_power_above(weights.max()))
        scale = np.exp2(bits) / np.append(_power_above(np.maximum(largest, _LEAST)), 1.0)
        return cls(scale, bits, weight)

    @property
    def digest(self) -> str:
        """What tells this grid from others."""
        return digest_of_array(np.append(self.scale, [self.bits, self.weight]))


def _power_above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of two that are no less than positive values, and no more than twice that."""
    return np.ldexp(1.0, np.frexp(values)[1])


class ClusterSums:
    """Weights and sums of frames of the clusters."""

    def __init__(self, grid: Grid, n_clusters: int) -> None:
        self.grid = grid
        self._sums = np.zeros((2, n_clusters, len(grid.scale)), dtype=np.int64)

    def add(self, frames: Array, labels: Labels, weights: NDArray[np.float64] | None = None, sign: int = 1) -> None:
        """Add frames to the clusters of their labels, or with sign -1 take them away again.

        Raises:
            InputError: a value lies outside the grid: the frames are not those it was made for.
        """
        order = np.argsort(labels, kind="stable")
        step = min(PIECE_ROWS, max(_LEAST_ROWS, _CACHED_VALUES // len(self.grid.scale)))
        for first in range(0, len(frames), step):
            rows = order[first : first + step]
            self._add(self._columns(frames, rows, weights), labels[rows], sign)

    def _columns(self, frames: Array, rows: NDArray[np.intp], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return some frames on the grid, with their weights in the last column."""
        columns = np.empty((len(rows), len(self.grid.scale)))
        columns[:, :-1] = frames[rows]
        columns[:, -1] = 1.0
        if weights is not None:
            columns *= (weights[rows] / self.grid.weight)[:, None]
        columns *= self.grid.scale
        return columns

    def _add(self, columns: NDArray[np.float64], labels: Labels, sign: int) -> None:
        """Add rows whose labels are in order."""
        limit = np.exp2(self.grid.bits)
        if not max(columns.max(), -columns.min()) <= limit:
            raise InputError("a stream of frames should give the same frames each time, but some were not there at first")
        firsts = np.flatnonzero(np.diff(labels, prepend=-1))
        present = labels[firsts]
        for sums in self._sums:
            whole = np.rint(columns)
            sums[present] += sign * np.add.reduceat(whole, firsts, axis=0).astype(np.int64)
            columns = (columns - whole) * limit

    def merge(self, other: ClusterSums) -> None:
        """Add what another has counted on the same grid."""
        self._sums += other._sums

    @property
    def weights(self) -> NDArray[np.float64]:
        """Number of frames, or their weight, in each cluster, shape (clusters,)."""
        weights: NDArray[np.float64] = self._totals()[:, -1] / self.grid.scale[-1] * self.grid.weight
        return weights

    def means(self, otherwise: Array) -> Array:
        """Return the mean frame of each cluster in the type of `otherwise`, whose rows stand in for empty clusters."""
        totals = self._totals() / self.grid.scale
        filled = totals[:, -1] > 0
        out = otherwise.copy()
        out[filled] = totals[filled, :-1] / totals[filled, -1:]
        return out

    def _totals(self) -> NDArray[np.float64]:
        """Return the sums in steps of the grid."""
        totals: NDArray[np.float64] = np.zeros(self._sums.shape[1:])
        for sums in self._sums[::-1]:  # the finest first
            totals = totals / np.exp2(self.grid.bits) + sums
        return totals
