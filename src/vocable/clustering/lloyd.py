"""Lloyd's algorithm on growing samples: many cheap passes over few frames, then few over all.

Labels and sums are exact, and distances are added up piece by piece in the order of the frames; so the result is the same for
frames in memory and in a stream, for any blocks and any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.clustering.assignment import Array, Labeller, Labels, NearestCentroid
from vocable.clustering.cluster_sums import PIECE_ROWS, ClusterSums, Grid
from vocable.clustering.farthest import Farthest
from vocable.clustering.fit_state import FitState, Progress
from vocable.clustering.seeding import Seeding, seed_centroids
from vocable.clustering.sources import ArraySource, FrameSource, Surveyed, drawn, pieces, sampled
from vocable.errors import InputError

SEEDING_FRAMES = 60
"""Frames for each centroid in the sample that seeding sees; with fewer, inertia suffers at 768 dimensions."""

_GROWTH = 4
_REPAIRED = 128  # empty clusters that one pass fills from all its frames; more are rare, and filled from the sample
_EARLY_TOLERANCE = 1e-3  # on samples: what comes later moves the centroids more than the passes this saves


@dataclass(frozen=True, kw_only=True)
class LloydSettings:
    """How a fit is run."""

    n_clusters: int
    seeding: Seeding
    n_init: int
    max_iter: int
    tol: float
    """Stop when a pass lowers the inertia by less than this part of it."""
    seed: int
    workers: int
    memory: int = 4 << 30
    """Bytes that a sample may take to be kept; larger ones are gone through in the source, pass by pass."""
    labeller: Labeller = NearestCentroid
    state: Path | None = None
    """A file for the progress; a fit of the same kind to frames of the same number and range goes on from it."""
    report: Callable[[str], None] | None = None
    """Told how far the fit has come after each pass."""


@dataclass(frozen=True)
class Fit:
    """What a fit found."""

    centroids: Array
    inertia: float
    passes: int
    """Over all frames."""
    labels: Labels | None
    """Of the frames, if they were in memory."""
    weights: NDArray[np.float64]
    """Number of frames, or their weight, in each cluster."""
    history: list[float] = field(default_factory=list)
    """Inertia per frame after each pass over all frames."""


def fit_lloyd(
    surveyed: Surveyed,
    settings: LloydSettings,
    weights: NDArray[np.float64] | None = None,
    given: Array | None = None,
) -> Fit:
    """Cluster the frames of a source.

    Args:
        surveyed: the source; it is gone through once a pass, unless it is in memory.
        settings: how.
        weights: of the frames, none zero, for a source in memory.
        given: centroids to start from; frames are seeded otherwise.

    Raises:
        InputError: a stream doesn't give the same frames each time.
    """
    source, count = surveyed.source, surveyed.count
    fraction = seeding_fraction(count, settings.n_clusters)
    sample, sample_weights = _sample(source, weights, settings.seed, fraction, count)
    grid = Grid.of(surveyed.largest, count, weights)
    with ThreadPoolExecutor(settings.workers) as threads:
        state = None if settings.state is None else FitState(settings.state, _key(surveyed, settings, grid, given))
        fitter = _Fitter(settings, grid, sample, sample_weights, threads, state)
        begun = state.read() if state is not None else None
        centroids = begun.centroids if begun is not None else given if given is not None else fitter.best_start()
        level = 0
        while fraction * _GROWTH < 1:
            fraction *= _GROWTH
            level += 1
            if begun is None or begun.level <= level:
                held = int(fraction * surveyed.count) * surveyed.dim * surveyed.dtype.itemsize <= settings.memory
                part, part_weights = _level(source, weights, settings.seed, fraction, count, held)
                centroids = fitter.run(part, part_weights, centroids, _EARLY_TOLERANCE, level, begun).centroids
        fit = fitter.run(source, weights, centroids, settings.tol, level + 1, begun)
    if weights is None and fit.weights.sum() != count:
        raise _not_anew(count, int(fit.weights.sum()))
    if state is not None:
        state.flush()
    return fit


def seeding_fraction(count: int, n_clusters: int) -> float:
    """Return the part of the frames that seeding sees: all of few, else an expected 60 for each centroid."""
    wanted = SEEDING_FRAMES * n_clusters
    return 1.0 if count <= 2 * wanted else wanted / count


def _key(surveyed: Surveyed, settings: LloydSettings, grid: Grid, given: Array | None) -> str:
    """Return a digest of what a fit's passes depend on, as far as it is known without the frames themselves."""
    chosen = [getattr(settings, name) for name in ("n_clusters", "seeding", "n_init", "max_iter", "tol", "seed")]
    start = "" if given is None else digest_of_array(given)
    frames = [surveyed.count, surveyed.dtype.str, digest_of_array(surveyed.largest)]
    return digest_of([chosen, frames, grid.digest, start])


class _Fitter:
    """Runs Lloyd's passes, with what stays the same from level to level."""

    def __init__(
        self,
        settings: LloydSettings,
        grid: Grid,
        sample: Array,
        sample_weights: NDArray[np.float64] | None,
        threads: ThreadPoolExecutor,
        state: FitState | None,
    ) -> None:
        self._settings, self._grid, self._threads, self._state = settings, grid, threads, state
        self._sample, self._sample_weights = sample, sample_weights

    def best_start(self) -> Array:
        """Return the seeded centroids; of several starts, those with the lowest inertia after some passes over the sample."""
        settings = self._settings
        generator = np.random.default_rng(settings.seed)
        best: Fit | None = None
        for _ in range(settings.n_init):
            start = seed_centroids(self._sample, settings.n_clusters, settings.seeding, generator, self._sample_weights)
            fit = self.run(ArraySource(self._sample), self._sample_weights, start, _EARLY_TOLERANCE)
            if best is None or fit.inertia < best.inertia:
                best = fit
        assert best is not None
        return best.centroids

    def run(
        self,
        source: FrameSource,
        weights: NDArray[np.float64] | None,
        centroids: Array,
        tol: float,
        level: int | None = None,
        begun: Progress | None = None,
    ) -> Fit:
        """Alternate labels and means until the inertia settles; what is returned belongs to the centroids returned.

        Args:
            source: of the frames.
            weights: of the frames.
            centroids: to start from.
            tol: when to stop.
            level: number of the sample, for the state that is kept; none is kept without it.
            begun: an earlier run's progress, which counts if it is of this level.
        """
        memory = None
        if isinstance(source, ArraySource):
            memory = _Remembered(source.frames, weights, self._grid, self._settings.n_clusters)
        history = list(begun.history) if begun is not None and begun.level == level else []
        while True:
            sums, inertia, farthest = self._pass(source, memory, centroids)
            total = float(sums.weights.sum())
            history.append(inertia / total)
            updated = self._repaired(sums.means(centroids), sums, farthest)
            settled = len(history) > 1 and history[-2] - history[-1] <= tol * history[-2]
            if settled or len(history) > self._settings.max_iter or np.array_equal(updated, centroids):
                labels = memory.labels if memory is not None else None
                return Fit(centroids, inertia, len(history), labels, sums.weights, history)
            centroids = updated
            if level is not None:
                self._note(Progress(level, centroids, history))

    def _note(self, progress: Progress) -> None:
        """Keep the progress, and tell of it."""
        if self._state is not None:
            self._state.write(progress)
        if self._settings.report is not None:
            self._settings.report(f"sample {progress.level}, pass {len(progress.history)}, {progress.history[-1]:.6g} a frame")

    def _pass(self, source: FrameSource, memory: _Remembered | None, centroids: Array) -> tuple[ClusterSums, float, Farthest]:
        """Return the sums of all frames under their nearest centroids, the sum of their squared distances, and the farthest."""
        settings, workers = self._settings, self._settings.workers
        nearest, limit = settings.labeller(centroids), min(settings.n_clusters, _REPAIRED)
        if memory is not None:
            total, parts = memory.sums, memory.relabelled(nearest, limit, self._threads, workers)
        else:
            add = partial(_summed, nearest=nearest, grid=self._grid, n_clusters=settings.n_clusters, limit=limit)
            total = ClusterSums(self._grid, settings.n_clusters)
            parts = _ahead(self._threads, add, pieces(source.blocks(), PIECE_ROWS), 2 * workers)
        inertia, farthest = 0.0, Farthest.none(centroids.shape[1], centroids.dtype, limit)
        for part, distances, far in parts:
            total.merge(part)
            inertia += distances
            farthest = farthest.merged(far)
        return total, inertia, farthest

    def _repaired(self, centroids: Array, sums: ClusterSums, farthest: Farthest) -> Array:
        """Move the centroids of empty clusters to the frames that lay farthest from their own, as scikit-learn does.

        Where the pass kept fewer than there are empty clusters, frames of the sample serve for the others.
        """
        empty = np.flatnonzero(sums.weights <= 0)
        if not len(empty):
            return centroids
        frames = farthest.distinct()
        if len(frames) < len(empty):
            nearest = NearestCentroid(centroids[sums.weights > 0])
            distances = nearest.squared_distances(self._sample, nearest(self._sample))
            more = self._sample[np.argsort(-distances, kind="stable")[: len(empty) - len(frames)]]
            frames = np.concatenate([frames, more])
        centroids = centroids.copy()
        count = min(len(empty), len(frames))
        centroids[empty[:count]] = frames[:count]
        return centroids


_Part = tuple[ClusterSums, float, Farthest]


def _summed(frames: Array, nearest: NearestCentroid, grid: Grid, n_clusters: int, limit: int) -> _Part:
    """Return the sums of some frames under their nearest centroids, the sum of their squared distances, and the farthest."""
    labels = nearest(frames)
    part = ClusterSums(grid, n_clusters)
    part.add(frames, labels)
    distances = nearest.squared_distances(frames, labels)
    return part, float(distances.sum()), Farthest.of(frames, distances, limit)


class _Remembered:
    """Frames in memory with their labels, so that a pass need only add up those whose label changed."""

    def __init__(self, frames: Array, weights: NDArray[np.float64] | None, grid: Grid, n_clusters: int) -> None:
        self.frames, self.weights = frames, weights
        self.labels: Labels | None = None
        self.sums = ClusterSums(grid, n_clusters)
        self._grid, self._n_clusters = grid, n_clusters

    def relabelled(self, nearest: NearestCentroid, limit: int, threads: ThreadPoolExecutor, workers: int) -> Iterator[_Part]:
        """Label all frames anew, and yield for each piece what changes in the sums, with its distances and farthest frames.

        `labels` are the new ones when all pieces were had.
        """
        before = self.labels
        labels = np.empty(len(self.frames), dtype=np.int32)

        def relabel(piece: slice) -> _Part:
            frames, weights = self.frames[piece], None if self.weights is None else self.weights[piece]
            labels[piece] = new = nearest(frames)
            distances = nearest.squared_distances(frames, new)
            inertia = float(distances.sum() if weights is None else distances @ weights)
            part, far = ClusterSums(self._grid, self._n_clusters), Farthest.of(frames, distances, limit)
            if before is None:
                part.add(frames, new, weights)
                return part, inertia, far
            old = before[piece]
            moved = np.flatnonzero(new != old)
            weights = None if weights is None else weights[moved]
            part.add(frames[moved], old[moved], weights, sign=-1)
            part.add(frames[moved], new[moved], weights)
            return part, inertia, far

        cuts = [slice(at, at + PIECE_ROWS) for at in range(0, len(self.frames), PIECE_ROWS)]
        yield from _ahead(threads, relabel, iter(cuts), 2 * workers)
        self.labels = labels


@dataclass(frozen=True)
class _Thinned:
    """A sample of a stream."""

    source: FrameSource
    seed: int
    fraction: float

    def blocks(self) -> Iterator[Array]:
        return sampled(self.source, self.seed, self.fraction)


def _level(
    source: FrameSource, weights: NDArray[np.float64] | None, seed: int, fraction: float, count: int, held: bool
) -> tuple[FrameSource, NDArray[np.float64] | None]:
    """Return a sample of a source as a source: in memory if the source is, or if it can be held."""
    if not held and not isinstance(source, ArraySource):
        return _Thinned(source, seed, fraction), None
    frames, frame_weights = _sample(source, weights, seed, fraction, count)
    return ArraySource(frames), frame_weights


def _sample(
    source: FrameSource, weights: NDArray[np.float64] | None, seed: int, fraction: float, count: int
) -> tuple[Array, NDArray[np.float64] | None]:
    """Gather a sample of frames, and their weights."""
    if fraction >= 1 and isinstance(source, ArraySource):
        return source.frames, weights
    parts = list(sampled(source, seed, fraction))
    if not parts:
        raise _not_anew(count, 0)
    frames = np.concatenate(parts)
    return frames, None if weights is None else weights[drawn(seed, 0, count, fraction)]


def _not_anew(before: int, now: int) -> InputError:
    return InputError(f"a stream gave {before} frames at first, and {now} when gone through again: blocks() has to start anew")


def _ahead(threads: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterator[Any], window: int) -> Iterator[Any]:
    """Map with threads, `window` items ahead at most, so that a stream isn't drawn into memory."""
    waiting: list[Any] = []
    for item in items:
        waiting.append(threads.submit(function, item))
        if len(waiting) >= window:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
