"""Lloyd's algorithm on growing samples: many cheap passes over few frames, then few over all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.cluster_sums import ClusterSums, Grid
from vocable.clustering.farthest import Farthest
from vocable.clustering.fit_state import FitState
from vocable.clustering.labellers import CpuLabeller, Labeller
from vocable.clustering.passes import Hands, Measures, Outcome, Walk, walk_through
from vocable.clustering.samples import Samples, not_anew
from vocable.clustering.seeding import Seeding, seed_centroids
from vocable.clustering.sources import FrameSource, Surveyed
from vocable.clustering.spread import SpreadSamples, SpreadSource, SpreadWalk
from vocable.clustering.trajectory import Progress
from vocable.execution.threads import single_threaded

SEEDING_FRAMES = 60
"""Frames for each centroid in the sample that seeding sees; with fewer, inertia suffers at 768 dimensions."""

_ENOUGH_SEEDING_FRAMES = 30_000  # and more only for 20 to a centroid: the time of a draw is the product of both
_LEAST_SEEDING_FRAMES = 20

_GROWTH = 4
_LARGEST_SAMPLE = 0.5  # a pass over a larger one costs about as much as one over all
_LONG_PASS = 1e9  # products in a pass over a quarter of a million frames of 39 values and 100 clusters
_FEW_VALUES = 1 << 22  # so few take little time in float64
_SQUARED_SAFELY = (1e-12, 1e12)  # largest values whose squares float32 holds
_REPAIRED = 128  # empty clusters that one pass fills from all its frames; more are rare, and filled from the sample


@dataclass(frozen=True, kw_only=True)
class LloydSettings:
    """How a fit is run."""

    n_clusters: int
    seeding: Seeding
    n_init: int
    max_iter: int
    tol: float | None
    """Stop when a pass lowers the inertia by less than this part of it; None takes `tolerance`."""
    seed: int
    workers: int
    memory: int = 4 << 30
    """Bytes that a sample may take to be kept; larger ones are gone through in the source, pass by pass."""
    labeller: Labeller = field(default_factory=CpuLabeller)
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
    count = surveyed.count
    if isinstance(surveyed.source, SpreadSource):
        samples: Samples = SpreadSamples(surveyed, settings.seed, settings.memory)
    else:
        samples = Samples(surveyed, weights, settings.seed, settings.memory)
    fraction = seeding_fraction(count, settings.n_clusters)
    sample, sample_weights = samples.frames(fraction)
    grid = Grid.of(surveyed.largest, count, weights, sample)
    with single_threaded() if settings.workers > 1 else nullcontext(), ThreadPoolExecutor(settings.workers) as threads:
        state = None if settings.state is None else FitState(settings.state, _key(surveyed, settings, grid, given))
        fitter = _Fitter(settings, _measures(surveyed, settings, grid, sample), sample, sample_weights, threads, state)
        begun = state.read() if state is not None else None
        if begun is None:
            begun = Progress.at(1, given if given is not None else fitter.best_start())
            if state is not None:
                state.write(begun)
        centroids = begun.centroids
        level = 0
        while (fraction := fraction * _GROWTH) < _LARGEST_SAMPLE:
            level += 1
            if begun.level <= level:
                tol = fitter.tolerance(int(fraction * count))
                centroids = fitter.settled(*samples.source(fraction), centroids, tol, level, begun).means
        fit = fitter.fit(surveyed, weights, centroids, level + 1, begun)
    if weights is None and fit.weights.sum() != count:
        raise not_anew(count, int(fit.weights.sum()))
    if state is not None:
        state.flush()
    return fit


def seeding_fraction(count: int, n_clusters: int) -> float:
    """Return the part of the frames that seeding sees: all of few, else an expected 60 for each centroid, or 20 of very many."""
    wanted = min(SEEDING_FRAMES * n_clusters, max(_ENOUGH_SEEDING_FRAMES, _LEAST_SEEDING_FRAMES * n_clusters))
    return 1.0 if count <= 2 * wanted else wanted / count


def _measures(surveyed: Surveyed, settings: LloydSettings, grid: Grid, sample: Array) -> Measures:
    least, most = _SQUARED_SAFELY
    exact = surveyed.count * surveyed.dim <= _FEW_VALUES or not least < surveyed.largest.max() < most
    limit = min(settings.n_clusters, _REPAIRED)
    return Measures(grid, settings.n_clusters, limit, sample.mean(axis=0, dtype=np.float64), exact)


def tolerance(frames: int, n_clusters: int, dim: int) -> float:
    """Return by what part of the inertia a pass over so many frames should lower it, to be followed by another.

    Quick passes are worth making for less.
    """
    return float(np.clip(5e-4 * np.sqrt(frames * n_clusters * dim / _LONG_PASS), 1e-4, 5e-4))


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
        measures: Measures,
        sample: Array,
        sample_weights: NDArray[np.float64] | None,
        threads: ThreadPoolExecutor,
        state: FitState | None,
    ) -> None:
        self._settings, self._measures, self._threads, self._state = settings, measures, threads, state
        self._sample, self._sample_weights = sample, sample_weights

    def tolerance(self, frames: int) -> float:
        """Return the tolerance of passes over so many frames."""
        return tolerance(frames, self._settings.n_clusters, self._sample.shape[1])

    def best_start(self) -> Array:
        """Return the seeded centroids; of several starts, those with the lowest inertia after some passes over the sample."""
        settings = self._settings
        generator = np.random.default_rng(settings.seed)
        best: Progress | None = None
        for _ in range(settings.n_init):
            start = seed_centroids(
                self._sample, settings.n_clusters, settings.seeding, generator, self._sample_weights, settings.labeller.draws_on
            )
            found = self.settled(
                settings.labeller.placed(self._sample), self._sample_weights, start, self.tolerance(len(self._sample))
            )
            if best is None or found.history[-1] < best.history[-1]:
                best = found
        assert best is not None
        return best.means

    def settled(
        self,
        source: FrameSource,
        weights: NDArray[np.float64] | None,
        centroids: Array,
        tol: float,
        level: int | None = None,
        begun: Progress | None = None,
    ) -> Progress:
        """Move centroids until their inertia on a sample settles.

        Args:
            source: of the frames.
            weights: of the frames.
            centroids: to start from.
            tol: as of the settings.
            level: number of the sample, for the state that is kept; none is kept without it.
            begun: an earlier run's progress, which counts if it is of this level.
        """
        start = _start(level, centroids, begun)
        if start.ending:
            return start
        walk = self._walk(source, weights)
        return next(after for _, after in self._passes(walk, start, tol, level) if after.ending)

    def fit(
        self,
        surveyed: Surveyed,
        weights: NDArray[np.float64] | None,
        centroids: Array,
        level: int,
        begun: Progress,
    ) -> Fit:
        """Move centroids until they settle on all frames; what is returned belongs to the centroids returned."""
        walk = self._walk(surveyed.source, weights)
        before = _start(level, centroids, begun)
        tol = self.tolerance(surveyed.count) if self._settings.tol is None else self._settings.tol
        for outcome, after in self._passes(walk, before, tol, level):
            if after.done:
                history = after.history
                return Fit(after.centroids, outcome.inertia, len(history), walk.labels, outcome.sums.weights, history)
        raise AssertionError("passes end")

    def _walk(self, source: FrameSource, weights: NDArray[np.float64] | None) -> Walk:
        if isinstance(source, SpreadSource):
            return SpreadWalk(source, self._measures)
        settings = self._settings
        hands = Hands(settings.labeller, self._threads, settings.workers, settings.memory)
        return walk_through(source, weights, self._measures, hands)

    def _passes(self, walk: Walk, progress: Progress, tol: float, level: int | None) -> Iterator[tuple[Outcome, Progress]]:
        """Make passes, and yield what each found and where it leads."""
        while not progress.done:
            outcome = walk(progress.centroids)
            inertia = outcome.inertia / float(outcome.sums.weights.sum())
            means, fresh = self._repaired(progress.centroids, outcome.sums, walk.farthest)
            progress = progress.after(inertia, means, fresh, tol, self._settings.max_iter)
            if level is not None and not progress.done:
                self._note(progress)
            yield outcome, progress

    def _note(self, progress: Progress) -> None:
        """Keep the progress, and tell of it."""
        if self._state is not None:
            self._state.write(progress)
        if self._settings.report is not None:
            self._settings.report(f"sample {progress.level}, pass {len(progress.history)}, {progress.history[-1]:.6g} a frame")

    def _repaired(self, centroids: Array, sums: ClusterSums, farthest: Callable[[], Farthest]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the means of the clusters, and which of them had no frames and were given some of their own.

        Those move to the frames that lay farthest from their centroids, as in scikit-learn; where the pass kept fewer than there
        are empty clusters, frames of the sample serve for the others.
        """
        means, fresh = sums.means(centroids), sums.weights <= 0
        empty = np.flatnonzero(fresh)
        if not len(empty):
            return means, fresh
        frames = farthest().distinct()
        if len(frames) < len(empty):
            nearest = NearestCentroid(means[~fresh])
            distances = nearest.squared_distances(self._sample, nearest(self._sample))
            more = self._sample[np.argsort(-distances, kind="stable")[: len(empty) - len(frames)]]
            frames = np.concatenate([frames, more])
        count = min(len(empty), len(frames))
        means[empty[:count]] = frames[:count]
        return means, fresh


def _start(level: int | None, centroids: Array, begun: Progress | None) -> Progress:
    """Return where passes over a sample begin: where an earlier run left it, or at the centroids given."""
    return begun if begun is not None and begun.level == level else Progress.at(level or 0, centroids)
