"""Which centroid is nearest: exactly the argmin that float64 gives, at the speed of the frames' own precision.

A block of frames is scored against all centroids in one matrix product. A bound on its rounding error tells which centroids
could be nearest; where that is more than one, float64 decides, and equal distances go to the lowest id. So a label depends on
the frame and the centroids alone: not on batches, blocks, threads, BLAS or device.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.int32]
_SCORE_BYTES = 1 << 21  # of a block: threads that label many small ones wait for each other
_SQUARED_SAFELY = 1e150
_FEW_ROWS = 1024
_SQUARE_ERROR = 1.02  # |x|², as it is computed, times this is no less than |x|²
_CACHED_VALUES = 1 << 16  # of frames whose distances are taken, for the second-level cache


class _Space(NamedTuple):
    """What the work on a block of frames is done in, had once for all blocks."""

    centred: Array
    """Frames around the centroids' mean, and a last column of ones."""
    scores: Array
    possible: NDArray[np.bool_]
    every: NDArray[np.intp]
    """Numbers of the rows."""


class NearestCentroid:
    """Labels frames with the nearest of some centroids.

    Args:
        centroids: shape (clusters, dim), float32 or float64.
        shift: a point around which scores are computed, shape (dim,); that amid the centroids by default.

    Raises:
        InputError: the centroids aren't a finite matrix.
    """

    def __init__(self, centroids: Array, shift: Array | None = None) -> None:
        if centroids.ndim != 2 or not len(centroids) or not np.isfinite(centroids).all():
            raise InputError(f"centroids should be finite numbers of shape (clusters, dim), but have shape {centroids.shape}")
        self.centroids = np.ascontiguousarray(centroids)
        self._wide = self.centroids.astype(np.float64)
        dtype = self.centroids.dtype
        # Distances don't change when everything is moved; around the centroids' mean the products' errors are smallest.
        self._shift = (self._wide.mean(axis=0) if shift is None else shift).astype(dtype)
        rows = max(1, _SCORE_BYTES // (dtype.itemsize * len(centroids)))
        self._rows = int(np.clip(1 << (rows.bit_length() - 1), 64, 4096))
        self._spaces: list[_Space] = []
        unit = float(np.finfo(dtype).eps) / 2
        # Rounding x, c and |c|²/2, and a dot product of dim + 1 terms in any order (Higham 2002, section 3.1).
        self._product_error = (centroids.shape[1] + 9) * unit
        # Products too small for the type become zero; such frames are all decided in float64.
        tiny = float(np.finfo(dtype).tiny)
        self._least_error = 2 * (centroids.shape[1] + 2) * tiny
        self._least_square = centroids.shape[1] * tiny

    @cached_property
    def _norms(self) -> NDArray[np.float64]:
        """Lengths of the centroids around the point."""
        norms: NDArray[np.float64] = np.linalg.norm(self._wide - self._shift, axis=1)
        return norms

    @cached_property
    def _longest(self) -> float:
        return float(self._norms.max())

    @cached_property
    def _columns(self) -> Array:
        """Centroids around the point, and a last row for -|c|²/2, which a 1 after each frame's values brings into the product."""
        bias = -0.5 * self._norms[None] ** 2
        with np.errstate(over="ignore"):
            return np.concatenate([(self._wide - self._shift).T, bias]).astype(self.centroids.dtype)

    @cached_property
    def _any_bound(self) -> tuple[Any, Any]:
        return self._bound(self._longest)

    @cached_property
    def _largest_square(self) -> float:
        """Of frames' lengths, so that (|x| + |c|) |c| has room in the type."""
        limits = np.finfo(self.centroids.dtype)
        room = float(limits.max) / 2
        reach = room / max(self._longest, float(limits.tiny)) - self._longest
        return min(reach, np.sqrt(room) if room < 1e50 else 1e150) ** 2 / _SQUARE_ERROR if reach > 0 else 0.0

    def __call__(self, frames: Array) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        frames = self._checked(frames)
        labels = np.empty(len(frames), dtype=np.int32)
        try:
            space = self._spaces.pop()  # each thread that labels takes one of its own
        except IndexError:
            space = self._space(self._rows)
        doubts = []
        with np.errstate(over="ignore"):  # frames whose scores would overflow are decided in float64
            for first in range(0, len(frames), self._rows):
                piece = slice(first, first + self._rows)
                if (others := self._label(frames[piece], labels[piece], space)) is not None:
                    doubts.append(others + first * len(self.centroids))
        self._spaces.append(space)
        if doubts:
            self._settle(frames, np.concatenate(doubts), labels)
        return labels

    def squared_distances(self, frames: Array, labels: Labels) -> NDArray[np.float64]:
        """Return the squared distance of each frame from the centroid of its label, computed in float64."""
        out = np.empty(len(frames))
        rows = max(1, _CACHED_VALUES // frames.shape[1])
        for first in range(0, len(frames), rows):
            piece = slice(first, first + rows)
            differences = np.take(self._wide, labels[piece], axis=0, mode="clip")
            differences -= frames[piece]
            out[piece] = np.einsum("ij,ij->i", differences, differences)
        return out

    def _checked(self, frames: Array) -> Array:
        if frames.ndim != 2 or frames.shape[1] != self.centroids.shape[1]:
            raise InputError(
                f"frames of shape {frames.shape} can't be labelled with centroids of {self.centroids.shape[1]} values"
            )
        return frames.astype(self.centroids.dtype, copy=False)

    def _space(self, rows: int) -> _Space:
        dtype = self.centroids.dtype
        shape = (rows, len(self.centroids))
        centred, scores = np.ones((rows, len(self._columns)), dtype), np.empty(shape, dtype)
        return _Space(centred, scores, np.empty(shape, dtype=np.bool_), np.arange(rows))

    def _label(self, frames: Array, labels: Labels, space: _Space) -> NDArray[np.intp] | None:
        """Label a block, and return which other centroids may be nearer, as frame times number of centroids plus centroid."""
        count = len(frames)
        centred, scores = space.centred[:count], space.scores[:count]
        possible, every = space.possible[:count], space.every[:count]
        values = np.subtract(frames, self._shift, out=centred[:, :-1])
        longest = _square_of_longest(centred, values)
        if self._may_overflow(longest):
            rows, candidates = np.divmod(np.arange(possible.size), len(self.centroids))
            self._decide(frames, rows, candidates, labels)
            return None
        np.matmul(centred, self._columns, out=scores)
        best = scores.argmax(axis=1)
        labels[:] = best
        lowest = scores[every, best]
        lowest -= 2 * self._error_bound(longest)
        np.greater_equal(scores, lowest[:, None], out=possible)
        possible[every, best] = False
        others = possible.ravel().nonzero()[0]  # hardly any, which it is quick to find
        if len(others) <= count:
            return others if len(others) else None
        rows, candidates = np.nonzero(self._possible(scores, values))
        self._decide(frames, rows, candidates, labels)
        return None

    def _settle(self, frames: Array, others: NDArray[np.intp], labels: Labels) -> None:
        """Decide between the labels that some frames have and others that may be nearer, given as `_label` returns them."""
        clusters = len(self.centroids)
        doubtful = np.unique(others // clusters)
        pairs = np.sort(np.concatenate([others, doubtful * clusters + labels[doubtful]]))
        self._decide(frames, *np.divmod(pairs, clusters), labels)

    def _may_overflow(self, square: float) -> bool:
        """Tell whether a score of frames may be too large for the type; `square` is that of the longest's length."""
        return not square < self._largest_square

    def _error_bound(self, squares: Any) -> Any:
        """Return how far a score may be from the exact one, for frames whose lengths have these squares: a number, or many."""
        constant, linear = self._any_bound
        return squares * linear + constant

    def _bound(self, norms: Any) -> tuple[Any, Any]:
        """Return how far scores may be off with centroids of these norms around the mean: a constant, and a factor of |x|².

        They bound product_error (|x| + |c|/2) |c| for rounding as the type rounds, 4 dim eps (|x| + |c|)² for float64's rounding,
        and least_error, since |x| |c| is no more than (|x|² + |c|²) / 2.
        """
        wide = 8 * len(self._shift) * float(np.finfo(np.float64).eps)
        factor = (self._product_error / 2 + wide) * _SQUARE_ERROR
        constant = (self._product_error + wide) * norms**2 * _SQUARE_ERROR + self._least_error + factor * self._least_square
        return constant, factor

    def _possible(self, scores: Array, values: Array) -> NDArray[np.bool_]:
        """Return which centroids could be nearest, by a bound for each: one that lies far out doesn't blur the others."""
        norms = self._norms[None]
        squares = np.einsum("ij,ij->i", values, values, dtype=np.float64)
        lengths = np.sqrt(squares[:, None] * _SQUARE_ERROR + self._least_square)
        wide = 4 * len(self._shift) * float(np.finfo(np.float64).eps) * (lengths + norms) ** 2
        bounds = self._product_error * (lengths + norms / 2) * norms + wide + self._least_error
        possible: NDArray[np.bool_] = scores + bounds >= (scores - bounds).max(axis=1, keepdims=True)
        return possible

    def _decide(self, frames: Array, rows: NDArray[np.intp], candidates: NDArray[np.intp], labels: Labels) -> None:
        """Set the labels of some frames to the nearest of their candidates by float64 distances.

        Args:
            frames: shape (frames, dim).
            rows: the frame of each pair, rising, shape (pairs,).
            candidates: the centroid of each pair, rising for each frame, shape (pairs,).
            labels: shape (frames,), changed.
        """
        distances = np.empty(len(rows))
        step = max(1, _CACHED_VALUES // frames.shape[1])
        for first in range(0, len(rows), step):
            piece = slice(first, first + step)
            differences = np.take(self._wide, candidates[piece], axis=0, mode="clip")
            differences -= np.take(frames, rows[piece], axis=0, mode="clip")
            distances[piece] = np.square(differences, out=differences).sum(axis=1)
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        least = np.minimum.reduceat(distances, firsts)
        lowest = np.flatnonzero(distances == np.repeat(least, np.diff(firsts, append=len(rows))))
        lowest = lowest[np.flatnonzero(np.diff(rows[lowest], prepend=-1))]  # of equal ones the first
        labels[rows[lowest]] = candidates[lowest]


def _square_of_longest(centred: Array, values: Array) -> float:
    """Return no less than the largest squared length among frames.

    Args:
        centred: the frames with a column of ones, which lie in memory in one run, so that their largest value is found quickly.
        values: the same without that column.
    """
    if len(values) < _FEW_ROWS:  # a looser bound would cost more, in doubts, than is saved
        return float(np.einsum("ij,ij->i", values, values).max()) * _SQUARE_ERROR
    largest = max(float(centred.max()), -float(centred.min()))
    if largest <= 1:
        largest = max(float(values.max()), -float(values.min()))
    return values.shape[1] * largest**2 if largest < _SQUARED_SAFELY else np.inf
