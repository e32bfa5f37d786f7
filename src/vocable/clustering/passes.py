"""A pass of Lloyd's algorithm: label all frames, and add up what the next centroids and the decision to stop are made of.

Labels and sums are exact, and what is added up besides is added piece by piece in the order of the frames; so a pass has the same
outcome for frames in memory and in a stream, for any blocks and any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.cluster_sums import PIECE_ROWS, ClusterSums, Grid, by_label
from vocable.clustering.farthest import Farthest
from vocable.clustering.labellers import Labeller
from vocable.clustering.sources import ArraySource, FrameSource, pieces

_TRUE_PART = 1e-6  # float64's rounding is then below 1e-9 of what a difference leaves
_CACHED_VALUES = 1 << 15
_LABELLED_ROWS = 1 << 14  # by a thread at a time
_SORTED_ROWS = 1 << 16  # rows whose labels are sorted together, for long runs of one label

Weights = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a pass found."""

    sums: ClusterSums
    """Of the frames under their nearest centroids."""
    inertia: float
    """Sum of the squared distances."""


@dataclass(frozen=True)
class Measures:
    """How passes measure."""

    grid: Grid
    n_clusters: int
    limit: int
    """How many of the farthest frames are kept."""
    anchor: NDArray[np.float64]
    """A point amid the frames, shape (dim,)."""
    exact: bool
    """Whether the spread is measured in float64; otherwise in the frames' own type, in less time."""

    def spread(self, frames: Array) -> NDArray[np.float64]:
        """Return the squared distance of each frame from the anchor."""
        out = np.empty(len(frames))
        anchor = self.anchor if self.exact else self.anchor.astype(frames.dtype)
        rows = max(1, _CACHED_VALUES // frames.shape[1])
        for at in range(0, len(frames), rows):
            away = frames[at : at + rows] - anchor
            out[at : at + rows] = np.einsum("ij,ij->i", away, away)
        return out

    def inertia(self, spread: float, sums: ClusterSums, centroids: Array) -> float | None:
        """Return the sum of the squared distances of frames from the centroids they are summed under.

        It follows from the sums: what the frames spread around the anchor, less what the clusters spread around it. None where
        so little is left of the difference that its digits aren't true.

        Args:
            spread: sum of the squared distances of all frames from the anchor.
            sums: of the frames.
            centroids: shape (clusters, dim).
        """
        away = centroids.astype(np.float64) - self.anchor
        between = 2 * np.einsum("kd,kd->", away, sums.around(self.anchor)) - sums.weights @ np.einsum("kd,kd->k", away, away)
        inertia = spread - float(between)
        return inertia if inertia > _TRUE_PART * spread else None


class Walk(Protocol):
    """Goes through the frames of a source."""

    @property
    def labels(self) -> Labels | None:
        """Those of the last pass, if the frames are in memory."""

    def __call__(self, centroids: Array) -> Outcome:
        """Make a pass: label all frames with the nearest of some centroids."""

    def farthest(self) -> Farthest:
        """Return the frames that the last pass found farthest from their centroids."""


@dataclass(frozen=True)
class Hands:
    """What does the work."""

    labeller: Labeller
    threads: ThreadPoolExecutor
    workers: int
    """Threads there are."""
    memory: int
    """Bytes that frames may take."""

    def map(self, function: Callable[[Any], T], items: Iterator[Any]) -> Iterator[T]:
        """Map with threads, only a few items ahead, so that a stream isn't drawn into memory."""
        waiting: list[Future[T]] = []
        for item in items:
            waiting.append(self.threads.submit(function, item))
            if len(waiting) >= 2 * self.workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def walk_through(source: FrameSource, weights: Weights | None, measures: Measures, hands: Hands) -> Walk:
    """Return what goes through a source, pass by pass."""
    if isinstance(source, ArraySource):
        walk = None if weights is not None else hands.labeller.walk(source, measures)
        return walk or _Remembered(source.frames, weights, measures, hands)
    return _Streamed(source, measures, hands)


class _Remembered:
    """Frames in memory with their labels, so that a pass need only add up those whose label changed."""

    def __init__(self, frames: Array, weights: Weights | None, measures: Measures, hands: Hands) -> None:
        self.labels: Labels | None = None
        self._frames, self._weights, self._measures, self._hands = frames, weights, measures, hands
        self._prepared = hands.labeller.prepared(frames, measures.anchor, measures.n_clusters, hands.memory)
        self._sums = ClusterSums(measures.grid, measures.n_clusters)
        self._nearest: NearestCentroid | None = None

    def __call__(self, centroids: Array) -> Outcome:
        before, labels = self.labels, np.empty(len(self._frames), dtype=np.int32)
        self._nearest = nearest = self._hands.labeller(centroids, self._measures.anchor)

        def relabel(piece: slice) -> None:
            labels[piece] = nearest(self._prepared[piece])

        for _ in self._in_pieces(relabel, _LABELLED_ROWS):
            pass
        self._add_up(before, labels)
        self.labels = labels
        inertia = self._measures.inertia(self._spread, self._sums, centroids)
        if inertia is None:
            inertia = sum(self._in_pieces(lambda piece: self._weighed(self._distances(piece), piece)), start=0.0)
        return Outcome(self._sums, inertia)

    def farthest(self) -> Farthest:
        farthest = Farthest.none(self._frames.shape[1], self._frames.dtype, self._measures.limit)
        of_piece: Callable[[slice], Farthest] = lambda piece: Farthest.of(  # noqa: E731
            self._frames[piece], self._distances(piece), self._measures.limit
        )
        for part in self._in_pieces(of_piece):
            farthest = farthest.merged(part)
        return farthest

    @cached_property
    def _spread(self) -> float:
        measures = self._measures
        return sum(self._in_pieces(lambda piece: self._weighed(measures.spread(self._frames[piece]), piece)), start=0.0)

    def _in_pieces(self, function: Callable[[slice], T], rows: int = PIECE_ROWS) -> Iterator[T]:
        cuts = (slice(at, at + rows) for at in range(0, len(self._frames), rows))
        return self._hands.map(function, cuts)

    def _distances(self, piece: slice) -> NDArray[np.float64]:
        assert self._nearest is not None
        assert self.labels is not None
        return self._nearest.squared_distances(self._frames[piece], self.labels[piece])

    def _weighed(self, distances: NDArray[np.float64], piece: slice) -> float:
        return float(distances.sum() if self._weights is None else distances @ self._weights[piece])

    def _add_up(self, before: Labels | None, labels: Labels) -> None:
        """Bring the sums up to date with new labels."""
        moved = None if before is None else np.flatnonzero(before != labels)
        if before is not None and moved is not None and 2 * len(moved) < len(labels):
            self._add(moved, before, -1)
            self._add(moved, labels, 1)
        else:  # to take away and add more than half costs more than to add all
            self._sums = ClusterSums(self._measures.grid, self._measures.n_clusters)
            self._add(np.arange(len(labels)), labels, 1)

    def _add(self, rows: NDArray[np.intp], labels: Labels, sign: int) -> None:
        """Add some rows to the sums of their labels, or take them away, each worker a share."""

        def share(rows: NDArray[np.intp]) -> ClusterSums:
            sums = self._sums if self._hands.workers == 1 else ClusterSums(self._measures.grid, self._measures.n_clusters)
            for at in range(0, len(rows), _SORTED_ROWS):
                some = rows[at : at + _SORTED_ROWS]
                some = some[by_label(labels[some], self._measures.n_clusters)]
                sums.add_sorted(self._frames, some, labels[some], self._weights, sign)
            return sums

        if self._hands.workers == 1:
            share(rows)
            return
        for sums in self._hands.threads.map(share, np.array_split(rows, self._hands.workers)):
            self._sums.merge(sums)


class _Streamed:
    """Frames that come anew for each pass."""

    labels: Labels | None = None

    def __init__(self, source: FrameSource, measures: Measures, hands: Hands) -> None:
        self._source, self._measures, self._hands = source, measures, hands
        self._farthest = Farthest.none(len(measures.anchor), np.dtype(np.float32), measures.limit)

    def __call__(self, centroids: Array) -> Outcome:
        nearest, shared = self._hands.labeller(centroids, self._measures.anchor), _Shared(self._measures)
        inertia, spread = 0.0, 0.0
        self._farthest = Farthest.none(centroids.shape[1], centroids.dtype, self._measures.limit)
        add = partial(self._labelled, nearest=nearest, shared=shared)
        for near, wide, far in self._hands.map(add, pieces(self._source.blocks(), PIECE_ROWS)):
            inertia += near
            spread += wide
            self._farthest = self._farthest.merged(far)
        sums = shared.total()
        found = self._measures.inertia(spread, sums, centroids)
        return Outcome(sums, inertia if found is None else found)

    def farthest(self) -> Farthest:
        return self._farthest

    def _labelled(self, frames: Array, nearest: NearestCentroid, shared: _Shared) -> tuple[float, float, Farthest]:
        labels = nearest(frames)
        shared.add(frames, labels)
        distances, spread = nearest.squared_distances(frames, labels), self._measures.spread(frames)
        return float(distances.sum()), float(spread.sum()), Farthest.of(frames, distances, self._measures.limit)


class _Shared:
    """Sums that several threads add to, each to one of its own while it does; being exact, they may be merged in any order."""

    def __init__(self, measures: Measures) -> None:
        self._measures, self._lock = measures, Lock()
        self._free = [ClusterSums(measures.grid, measures.n_clusters)]

    def add(self, frames: Array, labels: Labels) -> None:
        with self._lock:
            sums = self._free.pop() if self._free else ClusterSums(self._measures.grid, self._measures.n_clusters)
        sums.add(frames, labels)
        with self._lock:
            self._free.append(sums)

    def total(self) -> ClusterSums:
        """Return the sums of all that was added."""
        first, *others = self._free
        for other in others:
            first.merge(other)
        return first
