"""Fits whose frames are worked on where they are made: over processes, or machines, a pass sends sums instead of frames.

What is made of frames is made of runs of them that are cut once and for all, and put together in the order of the runs, so that
it doesn't depend on who worked on which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, NearestCentroid
from vocable.clustering.cluster_sums import PIECE_ROWS, ClusterSums
from vocable.clustering.farthest import Farthest
from vocable.clustering.labellers import labeller_for
from vocable.clustering.passes import Measures, Outcome
from vocable.clustering.samples import Samples, chosen, not_anew
from vocable.clustering.sources import Extent, FrameSource, Surveyed, as_frames

Numbered = tuple[int, Array]
"""A block of frames, with the number of its first."""


class Fold(Protocol):
    """What is made of a run of frames. It is sent to whoever makes them, so it must pickle."""

    def open(self, device: str) -> Callable[[Iterable[Numbered]], Any]:
        """Return the function that makes it."""


@runtime_checkable
class SpreadSource(FrameSource, Protocol):
    """Frames that are made in runs, by others."""

    @property
    def expected_bytes(self) -> int:
        """About how many bytes all frames take."""

    def fold(self, job: Fold) -> Iterator[Any]:
        """Yield what a job makes of each run, in order."""

    def count_off(self, lengths: Sequence[int]) -> None:
        """Take in how many frames each block has, so that from now on they are numbered."""


def survey_spread(source: SpreadSource) -> Surveyed:
    """Go through a source once, and check and measure it, as `survey` does.

    Raises:
        InputError: as there.
    """
    extent = Extent()
    lengths: list[int] = []
    for own, counted in source.fold(_Survey()):
        extent.merge(own)
        lengths += counted
    extent.check()
    source.count_off(lengths)
    return Surveyed(source, extent.count, extent.largest, extent.dtype)


@dataclass(frozen=True)
class _Survey:
    def open(self, device: str) -> Callable[[Iterable[Numbered]], tuple[Extent, list[int]]]:
        del device

        def run(blocks: Iterable[Numbered]) -> tuple[Extent, list[int]]:
            extent, lengths = Extent(), []
            for _, block in blocks:
                frames = as_frames(block)
                extent.add(frames)
                lengths.append(len(frames))
            return extent, lengths

        return run


class SpreadSamples(Samples):
    """Samples of a source that others make."""

    def __init__(self, surveyed: Surveyed, seed: int, memory: int) -> None:
        assert isinstance(surveyed.source, SpreadSource)
        super().__init__(surveyed, None, seed, memory)
        self._spread = surveyed.source

    def frames(self, fraction: float) -> tuple[Array, None]:
        """Return the frames of a sample.

        Raises:
            InputError: there are none when the source is gone through again.
        """
        parts = [part for part in self._spread.fold(_Taken(self._seed, fraction)) if part is not None]
        if not parts:
            raise not_anew(self._surveyed.count, 0)
        return np.concatenate(parts), None

    def stream(self, fraction: float) -> FrameSource:
        """Return a sample as a source whose frames are made anew for each pass."""
        return _Thinned(self._spread, self._seed, fraction)


@dataclass(frozen=True)
class _Taken:
    """The frames of a sample."""

    seed: int
    fraction: float

    def open(self, device: str) -> Callable[[Iterable[Numbered]], Array | None]:
        del device

        def run(blocks: Iterable[Numbered]) -> Array | None:
            parts = [block[chosen(self.seed, first, len(block), self.fraction)] for first, block in blocks]
            return np.concatenate(parts) if parts else None

        return run


@dataclass(frozen=True)
class _OfSample:
    """What another job makes of the frames of a sample."""

    job: Fold
    seed: int
    fraction: float

    def open(self, device: str) -> Callable[[Iterable[Numbered]], Any]:
        inner = self.job.open(device)

        def run(blocks: Iterable[Numbered]) -> Any:
            return inner(
                (first, block[chosen(self.seed, first, len(block), self.fraction)]) for first, block in blocks if len(block)
            )

        return run


class _Thinned:
    """A sample of a source."""

    def __init__(self, source: SpreadSource, seed: int, fraction: float) -> None:
        self._source, self._seed, self._fraction = source, seed, fraction

    @property
    def expected_bytes(self) -> int:
        return int(self._source.expected_bytes * self._fraction)

    def fold(self, job: Fold) -> Iterator[Any]:
        return self._source.fold(_OfSample(job, self._seed, self._fraction))

    def count_off(self, lengths: Sequence[int]) -> None:
        raise AssertionError("a sample's frames keep their numbers in the whole")

    def blocks(self) -> Iterator[Array]:
        return (part for part in self.fold(_Taken(self._seed, 1.0)) if part is not None)


@dataclass(frozen=True)
class _Found:
    """What a pass finds in a run of frames."""

    sums: ClusterSums
    inertia: float
    spread: float
    farthest: Farthest


@dataclass(frozen=True)
class _Pass:
    """A pass: label frames, and add up what comes of it."""

    centroids: Array
    measures: Measures
    frames: int
    """About how many are labelled by one process in all passes."""

    def open(self, device: str) -> Callable[[Iterable[Numbered]], _Found]:
        nearest = labeller_for(device, self.frames)(self.centroids, self.measures.anchor)
        return lambda blocks: self._of(blocks, nearest)

    def _of(self, blocks: Iterable[Numbered], nearest: NearestCentroid) -> _Found:
        measures = self.measures
        sums = ClusterSums(measures.grid, measures.n_clusters)
        farthest = Farthest.none(self.centroids.shape[1], self.centroids.dtype, measures.limit)
        inertia = spread = 0.0
        for _, block in blocks:
            for at in range(0, len(block), PIECE_ROWS):
                frames = block[at : at + PIECE_ROWS].astype(self.centroids.dtype, copy=False)
                labels = nearest(frames)
                sums.add(frames, labels)
                distances = nearest.squared_distances(frames, labels)
                inertia += float(distances.sum())
                spread += float(measures.spread(frames).sum())
                farthest = farthest.merged(Farthest.of(frames, distances, measures.limit))
        return _Found(sums, inertia, spread, farthest)


class SpreadWalk:
    """Goes through a source pass by pass, where its frames are made."""

    labels: NDArray[np.int32] | None = None

    def __init__(self, source: SpreadSource, measures: Measures) -> None:
        self._source, self._measures = source, measures
        self._farthest = Farthest.none(len(measures.anchor), np.dtype(np.float32), measures.limit)

    def __call__(self, centroids: Array) -> Outcome:
        """Make a pass."""
        measures = self._measures
        sums = ClusterSums(measures.grid, measures.n_clusters)
        self._farthest = Farthest.none(centroids.shape[1], centroids.dtype, measures.limit)
        inertia = spread = 0.0
        frames = self._source.expected_bytes // (4 * centroids.shape[1])
        for found in self._source.fold(_Pass(centroids, measures, frames)):
            sums.merge(found.sums)
            inertia += found.inertia
            spread += found.spread
            self._farthest = self._farthest.merged(found.farthest)
        known = measures.inertia(spread, sums, centroids)
        return Outcome(sums, inertia if known is None else known)

    def farthest(self) -> Farthest:
        """Return the frames that the last pass found farthest from their centroids."""
        return self._farthest
