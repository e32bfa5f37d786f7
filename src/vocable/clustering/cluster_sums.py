"""Sums over clusters that are exact, so that they don't depend on the order in which frames come.

Each value is rounded to a fixed grid, 2^32 steps to the largest value of a sample, and added as an integer. Integer sums are
the same for any blocks, workers and order, and adding a frame undoes subtracting it; so a pass may be cut up, spread, resumed,
or brought up to date from the frames that moved, with the same bits in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, Labels
from vocable.errors import InputError

_BITS = 32
_NORM_BITS = 30
_WEIGHT_BITS = 24
_LIMIT = 2.0 ** (_BITS + 16)  # of a value on the grid: room for 2^15 rows of it in an int64
_HALF = 2.0**32


@dataclass(frozen=True)
class Grid:
    """Where the integers stand: value = shift + integer / scale."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    """Powers of two, shape (dim,)."""
    norm_scale: float
    weight_scale: float

    @classmethod
    def of(cls, sample: Array, weights: NDArray[np.float64] | None = None) -> Grid:
        """Fit the grid to a sample of the frames, shape (frames, dim)."""
        shift = sample.mean(axis=0, dtype=np.float64)
        largest = np.abs(sample - shift).max(axis=0)
        overall = float(largest.max()) or 1.0
        # A value that never changes in the sample may do so elsewhere: it is measured by the others' steps.
        scale = np.exp2(_BITS - np.ceil(np.log2(np.where(largest > 0, largest, overall))))
        norm_scale = float(np.exp2(_NORM_BITS - np.ceil(np.log2(float((largest**2).sum()) or 1.0))))
        weight_scale = 1.0 if weights is None else float(np.exp2(_WEIGHT_BITS - np.ceil(np.log2(float(weights.max()) or 1.0))))
        return cls(shift, scale, norm_scale, weight_scale)


class ClusterSums:
    """Weights, sums of frames and sum of squared norms of the clusters."""

    def __init__(self, grid: Grid, n_clusters: int) -> None:
        self.grid = grid
        self._weights = np.zeros(n_clusters, dtype=np.int64)
        self._sums = np.zeros((n_clusters, len(grid.shift)), dtype=np.int64)
        self._norm = 0  # a Python integer, which has no largest value

    def add(self, frames: Array, labels: Labels, weights: NDArray[np.float64] | None = None, sign: int = 1) -> None:
        """Add frames to the clusters of their labels, or with sign -1 take them away again.

        Raises:
            InputError: a value is so far outside the sample that the sums could overflow.
        """
        if not len(frames):
            return
        moved = frames - self.grid.shift
        norms = (moved * moved).sum(axis=1)
        if weights is not None:
            moved *= weights[:, None]
            norms *= weights
        moved *= self.grid.scale
        if not np.abs(moved).max() < _LIMIT:
            raise InputError("some frames hold values 65536 times larger than all of a sample: look for a broken file")
        order = np.argsort(labels, kind="stable")
        present, firsts = np.unique(labels[order], return_index=True)
        self._sums[present] += sign * np.add.reduceat(np.rint(moved[order]).astype(np.int64), firsts, axis=0)
        steps = np.ones(len(labels), np.int64) if weights is None else np.rint(weights * self.grid.weight_scale).astype(np.int64)
        self._weights[present] += sign * np.add.reduceat(steps[order], firsts)
        self._norm += sign * _exact_sum(np.rint(norms * self.grid.norm_scale))

    def merge(self, other: ClusterSums) -> None:
        """Add what another has counted on the same grid."""
        self._weights += other._weights
        self._sums += other._sums
        self._norm += other._norm

    @property
    def weights(self) -> NDArray[np.float64]:
        """Number of frames, or their weight, in each cluster, shape (clusters,)."""
        return self._weights / self.grid.weight_scale

    def means(self, otherwise: Array) -> Array:
        """Return the mean frame of each cluster in the type of `otherwise`, whose rows stand in for empty clusters."""
        weights = self.weights
        filled = weights > 0
        out = otherwise.copy()
        out[filled] = self.grid.shift + self._sums[filled] / self.grid.scale / weights[filled, None]
        return out

    def inertia(self, centroids: Array) -> float:
        """Return the sum of squared distances to `centroids`, for labels as they were added: Σ‖x‖² - 2 Σ c·Σx + Σ n‖c‖²."""
        moved = centroids.astype(np.float64) - self.grid.shift
        products = (moved * (self._sums / self.grid.scale)).sum()
        own = (self.weights * (moved**2).sum(axis=1)).sum()
        return max(0.0, float(self._norm / self.grid.norm_scale - 2 * products + own))


def _exact_sum(integers: NDArray[np.float64]) -> int:
    """Add whole numbers below 2^64, in halves of 32 bits."""
    high = np.floor(integers / _HALF)
    low = integers - high * _HALF
    return (int(high.astype(np.int64).sum()) << 32) + int(low.astype(np.int64).sum())
