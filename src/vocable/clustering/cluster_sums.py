"""Sums over clusters that are exact, so that they don't depend on the order in which frames come.

Each value is measured in steps of a grid that spans all frames, and added as an integer: the nearest step. Where values far
smaller than the largest are to keep their digits, what that leaves is added too, in steps as much finer. Integer sums are the
same for any blocks, workers and order, and adding a frame undoes subtracting it; so a pass may be cut up, spread, resumed, or
brought up to date from the frames that moved, with the same bits in the end.
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

_CACHED_VALUES = 1 << 17  # float64 values that are near the processor
_LEAST_ROWS = 64
_FEW_CLUSTERS = 16  # so many are summed by a matrix product, which is exact here, being of integers; more by reduceat

_LARGEST_FLOAT32_SCALE = 2.0**100
_MEAN_BITS = 27  # steps of the grid to the mean value: an error below that of float32, 2^-24
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
    fine: bool
    """Whether what rounding to the grid leaves is added on a finer one."""

    @classmethod
    def of(
        cls, largest: NDArray[np.float64], count: int, weights: NDArray[np.float64] | None = None, typical: Array | None = None
    ) -> Grid:
        """Make the grid for frames.

        Args:
            largest: absolute value in each column, shape (dim,).
            count: number of frames.
            weights: of all frames.
            typical: some of the frames. If they are float32 and their values aren't tiny beside the largest, rounding to the
                grid takes less from a mean than float32 does, and the finer one isn't needed.
        """
        bits = min(_PIECE_BITS, _SUM_BITS - count.bit_length())
        weight = 1.0 if weights is None else float(_power_above(weights.max()))
        reach = np.where(largest > 0, _power_above(np.maximum(largest, _LEAST)), 1.0)
        scale = np.exp2(bits) / np.append(reach, 1.0)
        fine = typical is None or typical.dtype != np.float32 or weights is not None
        if not fine and typical is not None:
            steps = np.abs(typical).mean(axis=0, dtype=np.float64) * scale[:-1]
            fine = bool((steps < np.exp2(_MEAN_BITS))[largest > 0].any())
        return cls(scale, bits, weight, fine)

    @property
    def digest(self) -> str:
        """What tells this grid from others."""
        return digest_of_array(np.append(self.scale, [self.bits, self.weight, self.fine]))


def _power_above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of two that are no less than positive values, and no more than twice that."""
    return np.ldexp(1.0, np.frexp(values)[1])


class ClusterSums:
    """Weights and sums of frames of the clusters."""

    def __init__(self, grid: Grid, n_clusters: int) -> None:
        self.grid = grid
        self._sums = np.zeros((1 + grid.fine, n_clusters, len(grid.scale)), dtype=np.int64)

    def add(self, frames: Array, labels: Labels, weights: NDArray[np.float64] | None = None, sign: int = 1) -> None:
        """Add frames to the clusters of their labels, or with sign -1 take them away again.

        Args:
            frames: shape (frames, dim).
            labels: shape (frames,).
            weights: of the frames, shape (frames,).
            sign: 1 or -1.

        Raises:
            InputError: a value lies outside the grid: the frames are not those it was made for.
        """
        order = by_label(labels, self._sums.shape[1])
        self.add_sorted(frames, order, labels[order], weights, sign)

    def add_sorted(
        self,
        frames: Array,
        rows: NDArray[np.intp],
        labels: Labels,
        weights: NDArray[np.float64] | None = None,
        sign: int = 1,
    ) -> None:
        """Add the frames of some rows, given in the order of their labels; otherwise as `add`.

        Args:
            frames: shape (frames, dim).
            rows: numbers of frames, shape (rows,).
            labels: of those rows, rising, shape (rows,).
            weights: of all frames, shape (frames,).
            sign: 1 or -1.
        """
        step = min(PIECE_ROWS, max(_LEAST_ROWS, _CACHED_VALUES // len(self.grid.scale)))
        for first in range(0, len(rows), step):
            piece = slice(first, first + step)
            columns = self._on_grid(np.take(frames, rows[piece], axis=0, mode="clip"))
            each = None if weights is None else weights[rows[piece]] / self.grid.weight
            self._add(columns, labels[piece], each, sign)

    def _on_grid(self, frames: Array) -> NDArray[np.float64]:
        """Return frames in steps of the grid, not yet rounded."""
        scale = self.grid.scale[:-1]
        if frames.dtype == np.float32 and scale.min() >= 1 and scale.max() < _LARGEST_FLOAT32_SCALE:
            frames *= scale.astype(np.float32)  # powers of two: exact, and half the work
            self._check(frames)
            return frames.astype(np.float64)
        columns = frames * scale
        self._check(columns)
        return columns

    def _check(self, columns: Array) -> None:
        """Refuse frames beyond the grid, and what is no number."""
        if not max(columns.max(), -columns.min()) <= np.exp2(self.grid.bits):
            raise InputError("a stream of frames should give the same frames each time, but some were not there at first")

    def _add(self, columns: NDArray[np.float64], labels: Labels, each: NDArray[np.float64] | None, sign: int) -> None:
        """Add rows whose labels are in order."""
        firsts = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
        counts = np.append(firsts[1:], len(labels)) - firsts
        present = labels[firsts]
        limit = np.exp2(self.grid.bits)
        if each is None:
            self._sums[0, present, -1] += sign * (counts << self.grid.bits)
        else:
            columns *= each[:, None]
            self._add_weights(each * limit, present, firsts, sign)
        for sums in self._sums[..., :-1]:
            whole = np.rint(columns)
            sums[present] += sign * _sums_of_runs(whole, firsts, counts).astype(np.int64)
            if self.grid.fine:
                columns -= whole
                columns *= limit

    def _add_weights(self, steps: NDArray[np.float64], present: Labels, firsts: NDArray[np.intp], sign: int) -> None:
        for sums in self._sums[..., -1]:
            whole = np.rint(steps)
            sums[present] += sign * np.add.reduceat(whole, firsts).astype(np.int64)
            steps = (steps - whole) * np.exp2(self.grid.bits)

    def add_steps(self, steps: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add sums that were made elsewhere, on a grid without a finer one.

        Args:
            steps: sums of frames in steps of the grid, shape (clusters, dim).
            counts: of the frames, negative for such as are taken away, shape (clusters,).
        """
        self._sums[0, :, :-1] += steps
        self._sums[0, :, -1] += counts << self.grid.bits

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
        totals = self._totals()
        totals /= self.grid.scale
        filled = totals[:, -1] > 0
        out = otherwise.copy()
        out[filled] = totals[filled, :-1] / totals[filled, -1:]
        return out

    def around(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the weighted differences of each cluster's frames from a point, shape (clusters, dim)."""
        totals = self._totals()
        totals *= self.grid.weight / self.grid.scale  # powers of two
        around: NDArray[np.float64] = totals[:, :-1]
        around -= totals[:, -1:] * point
        return around

    def _totals(self) -> NDArray[np.float64]:
        """Return the sums in steps of the grid."""
        if not self.grid.fine:
            whole: NDArray[np.float64] = self._sums[0].astype(np.float64)
            return whole
        totals: NDArray[np.float64] = np.zeros(self._sums.shape[1:])
        for sums in self._sums[::-1]:  # the finest first
            totals = totals / np.exp2(self.grid.bits) + sums
        return totals


def by_label(labels: Labels, n_clusters: int) -> NDArray[np.intp]:
    """Return the order that sorts labels, frames of one label staying in their order."""
    return np.argsort(labels.astype(np.uint16) if n_clusters <= 1 << 16 else labels, kind="stable")  # 16 bits: a radix sort


def _sums_of_runs(whole: NDArray[np.float64], firsts: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sums of runs of rows of integers: exact in any order, so that a matrix product may do it."""
    if len(firsts) > _FEW_CLUSTERS:
        sums: NDArray[np.float64] = np.add.reduceat(whole, firsts, axis=0)
        return sums
    members = np.zeros((len(firsts), len(whole)))
    for run, first, count in zip(members, firsts, counts, strict=True):
        run[first : first + count] = 1.0
    return members @ whole
