"""Which centroid is nearest: exactly the argmin that float64 gives, at the speed of the frames' own precision.

A block of frames is scored against all centroids in one matrix product. A bound on its rounding error tells which centroids
could be nearest; where that is more than one, float64 decides, and equal distances go to the lowest id. So a label depends on
the frame and the centroids alone: not on batches, blocks, threads, BLAS or device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.int32]
_SCORE_BYTES = 1 << 20  # scores of a block stay in the second-level cache
_PAIR_VALUES = 1 << 22  # float64 values held while close pairs are compared


Labeller = Callable[[Array], "NearestCentroid"]
"""Makes, of centroids, what labels frames with them on some device."""


class NearestCentroid:
    """Labels frames with the nearest of some centroids.

    Args:
        centroids: shape (clusters, dim), float32 or float64.

    Raises:
        InputError: the centroids aren't a finite matrix.
    """

    def __init__(self, centroids: Array) -> None:
        if centroids.ndim != 2 or not len(centroids) or not np.isfinite(centroids).all():
            raise InputError(f"centroids should be finite numbers of shape (clusters, dim), but have shape {centroids.shape}")
        self.centroids = np.ascontiguousarray(centroids)
        self._wide = self.centroids.astype(np.float64)
        dtype = self.centroids.dtype
        # Distances don't change when everything is moved; around the centroids' mean the products' errors are smallest.
        self._shift = self._wide.mean(axis=0).astype(dtype)
        centred = self._wide - self._shift
        squares = (centred**2).sum(axis=1)
        self._columns = np.ascontiguousarray(centred.astype(dtype).T)
        with np.errstate(over="ignore"):
            self._bias = (-0.5 * squares).astype(dtype)
        self._norms = np.sqrt(squares)
        self._longest = float(self._norms.max())
        self._rows = int(np.clip(_SCORE_BYTES // (dtype.itemsize * len(centroids)), 64, 4096))
        unit = float(np.finfo(dtype).eps) / 2
        # Rounding x, c, the bias and the sum, and a dot product of dim terms in any order (Higham 2002, section 3.1).
        self._product_error = (centroids.shape[1] + 8) * unit
        self._bias_error = 4 * unit
        # Products too small for the type become zero; such frames are all decided in float64.
        tiny = float(np.finfo(dtype).tiny)
        self._least_error = 2 * (centroids.shape[1] + 2) * tiny
        self._least_length = float(np.sqrt(centroids.shape[1] * tiny))

    def __call__(self, frames: Array) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        frames = self._checked(frames)
        labels = np.empty(len(frames), dtype=np.int32)
        with np.errstate(over="ignore"):  # frames whose scores would overflow are decided in float64
            for first in range(0, len(frames), self._rows):
                self._label(frames[first : first + self._rows], labels[first : first + self._rows])
        return labels

    def squared_distances(self, frames: Array, labels: Labels) -> NDArray[np.float64]:
        """Return the squared distance of each frame from the centroid of its label, computed in float64."""
        out = np.empty(len(frames))
        rows = max(1, _PAIR_VALUES // self._wide.shape[1])
        for first in range(0, len(frames), rows):
            piece = slice(first, first + rows)
            out[piece] = ((frames[piece].astype(np.float64) - self._wide[labels[piece]]) ** 2).sum(axis=1)
        return out

    def _checked(self, frames: Array) -> Array:
        if frames.ndim != 2 or frames.shape[1] != self.centroids.shape[1]:
            raise InputError(
                f"frames of shape {frames.shape} can't be labelled with centroids of {self.centroids.shape[1]} values"
            )
        return frames.astype(self.centroids.dtype, copy=False)

    def _label(self, frames: Array, labels: Labels) -> None:
        centred = frames - self._shift
        lengths = np.sqrt(np.einsum("ij,ij->i", centred, centred)) * 1.01 + self._least_length
        if self._may_overflow(lengths):
            labels[:] = self._decide(frames, np.ones((len(frames), len(self.centroids)), dtype=np.bool_))
            return
        scores = centred @ self._columns
        scores += self._bias
        best = scores.argmax(axis=1)
        labels[:] = best
        threshold = scores[np.arange(len(frames)), best] - 2 * self._error_bound(lengths)
        possible = scores >= threshold[:, None].astype(scores.dtype)
        close = np.flatnonzero(np.count_nonzero(possible, axis=1) > 1)
        if len(close):
            labels[close] = self._decide(frames[close], self._possible(scores[close], lengths[close]))

    def _may_overflow(self, lengths: Any) -> bool:
        """Tell whether a score of frames of these lengths may be too large for the type; NumPy or torch."""
        longest = float(lengths.max())
        return not (longest + self._longest) * self._longest < float(np.finfo(self.centroids.dtype).max) / 2

    def _error_bound(self, lengths: Any) -> Any:
        """Return how far a score may be from the exact one, for frames of these lengths; NumPy or torch."""
        return self._bound(lengths, self._longest)

    def _bound(self, lengths: Any, norms: Any) -> Any:
        """Return how far the scores of frames of these lengths may be off with centroids of these norms, around the mean."""
        wide = 4 * len(self._shift) * float(np.finfo(np.float64).eps) * (lengths + norms) ** 2
        return (self._product_error * lengths + self._bias_error * norms) * norms + wide + self._least_error

    def _possible(self, scores: Array, lengths: Array) -> NDArray[np.bool_]:
        """Return which centroids could be nearest, by a bound for each: one that lies far out doesn't blur the others."""
        bounds = self._bound(lengths[:, None].astype(np.float64), self._norms)
        possible: NDArray[np.bool_] = scores + bounds >= (scores - bounds).max(axis=1, keepdims=True)
        return possible

    def _decide(self, frames: Array, possible: NDArray[np.bool_]) -> Labels:
        """Return the label of each frame among the possible ones, by float64 distances."""
        rows, candidates = np.nonzero(possible)
        distances = np.empty(len(rows))
        step = max(1, _PAIR_VALUES // frames.shape[1])
        for first in range(0, len(rows), step):
            piece = slice(first, first + step)
            distances[piece] = ((frames[rows[piece]].astype(np.float64) - self._wide[candidates[piece]]) ** 2).sum(axis=1)
        order = np.lexsort((candidates, distances, rows))
        firsts = np.searchsorted(rows, np.arange(len(frames)))  # pairs are in the order of rows, sorted or not
        return candidates[order][firsts].astype(np.int32)
