"""Mini-batch k-means as scikit-learn's MiniBatchKMeans runs it, with the options of fairseq's learn_kmeans.

After Sculley, "Web-scale k-means clustering" (2010), with scikit-learn's choices: the best of several starts by inertia on a
validation sample; batches drawn with replacement; an exponentially weighted average of the batches' inertia that ends the run
when it has not improved for a while; clusters with too little weight moved to random frames of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, NearestCentroid
from vocable.clustering.seeding import Seeding, seed_centroids
from vocable.clustering.sources import RowSource


@dataclass(frozen=True, kw_only=True)
class MiniBatchSettings:
    """How a run goes; fairseq's values are in its documentation of learn_kmeans."""

    n_clusters: int
    seeding: Seeding
    n_init: int
    max_iter: int
    """In passes over the frames, counted by batches."""
    batch_size: int
    tol: float
    """End when the centroids' squared movement is at most this part of the frames' variance; 0 turns it off."""
    max_no_improvement: int | None
    reassignment_ratio: float
    init_size: int | None
    seed: int


@dataclass(frozen=True)
class MiniBatchFit:
    """Centroids with the weight each has gathered, and the number of batches seen."""

    centroids: Array
    weights: NDArray[np.float64]
    steps: int


def fit_minibatch(
    source: RowSource, settings: MiniBatchSettings, weights: NDArray[np.float64] | None = None, given: Array | None = None
) -> MiniBatchFit:
    """Cluster frames that can be had by number."""
    generator = np.random.default_rng(settings.seed)
    count = len(source)
    batch_size = min(settings.batch_size, count)
    centroids = given.copy() if given is not None else _best_start(source, weights, settings, generator)
    chances = None if weights is None else weights / weights.sum()
    batches = MiniBatches(np.zeros(len(centroids)), settings.reassignment_ratio, generator)
    stop = _Stopping(settings, count, batch_size, _variance(source) if settings.tol > 0 else 0.0)
    for step in range(max(1, settings.max_iter * count // batch_size)):
        # Weights decide how often frames are drawn, and count no second time; as in scikit-learn since 1.9.
        rows = generator.integers(0, count, batch_size) if chances is None else generator.choice(count, batch_size, p=chances)
        each = np.ones(batch_size)
        before = centroids.copy()
        inertia = batches.update(source.take(rows), each, centroids)
        if stop.now(step, inertia / each.sum(), float(((centroids - before).astype(np.float64) ** 2).sum())):
            break
    return MiniBatchFit(centroids, batches.gathered, step + 1)


class MiniBatches:
    """Moves centroids batch by batch, and now and then lets weak clusters start anew.

    Args:
        gathered: weight of all frames each cluster has had, shape (clusters,); changed.
        reassignment_ratio: clusters with less than this part of the largest weight start anew.
        generator: of random numbers, for that.
    """

    def __init__(self, gathered: NDArray[np.float64], reassignment_ratio: float, generator: np.random.Generator) -> None:
        self.gathered = gathered
        self._ratio, self._generator = reassignment_ratio, generator
        self._seen = 0

    def update(self, frames: Array, each: NDArray[np.float64], centroids: Array) -> float:
        """Move centroids, in place, towards the frames nearest to them, and return the batch's inertia before.

        Args:
            frames: a batch, shape (frames, dim).
            each: weights of the frames.
            centroids: shape (clusters, dim), changed.
        """
        self._seen += len(frames)
        reassign = self._seen >= 10 * len(centroids) or not self.gathered.all()
        nearest = NearestCentroid(centroids)
        labels = nearest(frames)
        inertia = float((nearest.squared_distances(frames, labels) * each).sum())
        order = np.argsort(labels, kind="stable")
        present, firsts = np.unique(labels[order], return_index=True)
        sums = np.add.reduceat((frames * each[:, None])[order].astype(np.float64), firsts, axis=0)
        new = self.gathered[present] + np.add.reduceat(each[order], firsts)
        moved = new > 0
        at = present[moved]
        centroids[at] = (centroids[at] * self.gathered[at, None] + sums[moved]) / new[moved, None]
        self.gathered[present] = new
        if reassign:
            self._seen = 0
            if self._ratio > 0:
                _reassign(frames, centroids, self.gathered, self._ratio, self._generator)
        return inertia


def _reassign(
    frames: Array, centroids: Array, gathered: NDArray[np.float64], ratio: float, generator: np.random.Generator
) -> None:
    weak = gathered < ratio * gathered.max()
    if weak.sum() > 0.5 * len(frames):  # as many as half the batch, the weakest first
        weak[np.argsort(gathered)[int(0.5 * len(frames)) :]] = False
    if weak.any():
        centroids[weak] = frames[generator.choice(len(frames), int(weak.sum()), replace=False)]
        gathered[weak] = gathered[~weak].min()


def _best_start(
    source: RowSource, weights: NDArray[np.float64] | None, settings: MiniBatchSettings, generator: np.random.Generator
) -> Array:
    count = len(source)
    size = settings.init_size or 3 * settings.batch_size
    if size < settings.n_clusters:
        size = 3 * settings.n_clusters
    size = min(size, count)
    check = generator.integers(0, count, size)
    frames, each = source.take(check), _weights_of(check, weights)
    best, least = None, np.inf
    for _ in range(settings.n_init):
        rows = generator.choice(count, size, replace=False) if size < count else np.arange(count)
        start = seed_centroids(source.take(rows), settings.n_clusters, settings.seeding, generator, _weights_of(rows, weights))
        nearest = NearestCentroid(start)
        inertia = float((nearest.squared_distances(frames, nearest(frames)) * each).sum())
        if inertia < least:
            best, least = start, inertia
    assert best is not None
    return best


def _weights_of(rows: NDArray[np.integer[Any]], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.ones(len(rows)) if weights is None else weights[rows]


def _variance(source: RowSource) -> float:
    """Return the mean variance of the values, which scales the tolerance."""
    count, total, squares = 0, 0.0, 0.0
    for block in source.blocks():
        wide = block.astype(np.float64)
        count += len(wide)
        total, squares = total + wide.sum(axis=0), squares + (wide**2).sum(axis=0)
    return float(np.mean(squares / count - (total / count) ** 2))


class _Stopping:
    """Decides when enough batches were seen."""

    def __init__(self, settings: MiniBatchSettings, count: int, batch_size: int, variance: float) -> None:
        self._patience = settings.max_no_improvement
        self._movement_limit = settings.tol * variance
        self._alpha = min(1.0, 2 * batch_size / (count + 1))
        self._average: float | None = None
        self._least = np.inf
        self._without = 0

    def now(self, step: int, inertia: float, movement: float) -> bool:
        if step == 0:  # the first batch's inertia is that of the start
            return False
        self._average = inertia if self._average is None else self._average * (1 - self._alpha) + inertia * self._alpha
        if self._movement_limit > 0 and movement <= self._movement_limit:
            return True
        self._without = 0 if self._average < self._least else self._without + 1
        self._least = min(self._least, self._average)
        return self._patience is not None and self._without >= self._patience
