"""The way of centroids from pass to pass.

The centroids of the next pass lie beyond the means of their clusters, by a part of the means' last step: momentum, which comes
lower in fewer passes than going to the means, and to better optima. Where it raised the inertia it is taken back; once the
inertia has settled, passes go to the means themselves, until it settles there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Progress:
    """Where a fit stands after a pass."""

    level: int
    """Which of the growing samples is being gone through, from 1."""
    centroids: Array
    """Of the next pass, shape (clusters, dim)."""
    means: Array
    """Of the clusters of the last pass, shape (clusters, dim)."""
    steady: NDArray[np.bool_]
    """Which of them are means of frames, so that a step from them tells of a direction; shape (clusters,)."""
    history: list[float]
    """Inertia per frame after each pass over that sample, but for those taken back."""
    extrapolated: bool = False
    """Whether the centroids lie beyond the means."""
    ending: bool = False
    """Whether the inertia has settled, or the passes are nearly spent."""
    done: bool = False
    """Whether the last pass was the last."""

    @classmethod
    def at(cls, level: int, centroids: Array) -> Self:
        """Return where a sample's passes begin."""
        return cls(level, centroids, centroids, np.zeros(len(centroids), dtype=np.bool_), [])

    def after(self, inertia: float, means: Array, fresh: NDArray[np.bool_], tol: float, max_iter: int) -> Progress:
        """Return where a pass leads.

        Args:
            inertia: per frame, of this progress's centroids.
            means: of their clusters.
            fresh: which of these are no means, but frames given to clusters without any.
            tol: part of the inertia by which a pass has to lower it.
            max_iter: passes, not counting the one that only finds the labels of the last centroids.
        """
        if self.extrapolated and inertia > self.history[-1]:
            return replace(self, centroids=self.means, steady=np.zeros_like(self.steady), extrapolated=False)
        history = [*self.history, inertia]
        settled = len(history) > 1 and history[-2] - inertia <= tol * history[-2]
        if len(history) > max_iter or (not self.extrapolated and (settled or np.array_equal(means, self.centroids))):
            return replace(self, history=history, ending=True, done=True)
        ending = self.ending or settled or len(history) == max_iter
        steps = self.steady & ~fresh
        centroids = means if ending or not steps.any() else self._beyond(means, steps)
        return Progress(self.level, centroids, means, ~fresh, history, centroids is not means, ending)

    def _beyond(self, means: Array, steps: NDArray[np.bool_]) -> Array:
        """Return the means, moved on by a part of the step that some of them made."""
        out = means.copy()
        with np.errstate(over="ignore"):
            moved = means[steps] + _MOMENTUM * (means[steps].astype(np.float64) - self.means[steps])
            out[steps] = moved
        return np.where(np.isfinite(out), out, means)
