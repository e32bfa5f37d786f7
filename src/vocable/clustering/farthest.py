"""The frames that lie farthest from their centroids: where empty clusters start anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array


@dataclass(frozen=True)
class Farthest:
    """Some frames with their squared distances, farthest first; of equal distances the earlier frame comes first.

    Args:
        frames: shape (frames, dim).
        distances: shape (frames,), falling.
        limit: how many are kept.
    """

    frames: Array
    distances: NDArray[np.float64]
    limit: int

    @classmethod
    def none(cls, dim: int, dtype: np.dtype[Any], limit: int) -> Self:
        """Return what has seen no frame yet."""
        return cls(np.empty((0, dim), dtype=dtype), np.empty(0), limit)

    @classmethod
    def of(cls, frames: Array, distances: NDArray[np.float64], limit: int) -> Self:
        """Take the farthest of some frames."""
        if len(distances) > 4 * limit:  # partial order first; what it leaves out is nearer than all it takes
            least = -np.partition(-distances, limit - 1)[limit - 1]
            rows = np.flatnonzero(distances >= least)
        else:
            rows = np.arange(len(distances))
        rows = rows[np.argsort(-distances[rows], kind="stable")][:limit]
        return cls(frames[rows], distances[rows], limit)

    def merged(self, later: Farthest) -> Farthest:
        """Return the farthest of these frames and of some that come after them."""
        if len(self.distances) == self.limit and (not len(later.distances) or later.distances[0] <= self.distances[-1]):
            return self
        distances = np.concatenate([self.distances, later.distances])
        return Farthest.of(np.concatenate([self.frames, later.frames]), distances, self.limit)

    def distinct(self) -> Array:
        """Return the frames without repetitions, farthest first."""
        seen: set[bytes] = set()
        rows = []
        for row, frame in enumerate(self.frames + 0.0):  # + 0.0 makes -0 and 0 equal
            content = frame.tobytes()
            if content not in seen:
                seen.add(content)
                rows.append(row)
        return self.frames[rows]
