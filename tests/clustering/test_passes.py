from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustering.made import Stream, mixture
from vocable.clustering.cluster_sums import Grid
from vocable.clustering.labellers import CpuLabeller
from vocable.clustering.passes import Hands, Measures, Walk, walk_through
from vocable.clustering.sources import ArraySource


def walks(frames: np.ndarray, clusters: int, threads: ThreadPoolExecutor, weights: np.ndarray | None = None) -> list[Walk]:
    """Of frames in memory and, if they have no weights, of the same in a stream."""
    grid = Grid.of(np.abs(frames).max(axis=0).astype(np.float64), len(frames), weights, frames[:500])
    measures = Measures(grid, clusters, 5, frames.mean(axis=0, dtype=np.float64), exact=True)
    hands = [Hands(CpuLabeller(), threads, workers, 1 << 30) for workers in (1, 2)]
    found = [walk_through(ArraySource(frames), weights, measures, each) for each in hands]
    return found if weights is not None else [*found, walk_through(Stream(frames), None, measures, hands[1])]


@given(seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 50.0, 1e4]), weighted=st.booleans())
def test_the_inertia_that_follows_from_sums_is_that_of_the_distances(seed: int, offset: float, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    frames = mixture(3000, clusters=9, seed=seed) + np.float32(offset)
    weights = rng.random(3000) + 0.1 if weighted else None
    centroids = frames[rng.choice(3000, 9, replace=False)]
    with ThreadPoolExecutor(2) as threads:
        for walk in walks(frames, 9, threads, weights):
            for moved in (centroids, centroids + np.float32(0.5), centroids[::-1]):
                outcome = walk(moved)
                distances = ((frames[:, None].astype(np.float64) - moved) ** 2).sum(axis=2).min(axis=1)
                assert outcome.inertia == pytest.approx(distances @ (np.ones(3000) if weights is None else weights), rel=1e-9)


def test_an_inertia_of_which_hardly_anything_is_left_is_measured() -> None:
    """Two tight clusters far apart: the difference of two large sums would be noise."""
    rng = np.random.default_rng(0)
    frames = np.repeat([[0.0], [1e6]], 1000, axis=0) + rng.standard_normal((2000, 1))
    centroids = np.array([[0.0], [1e6]])
    expected = ((frames[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).sum()
    with ThreadPoolExecutor(2) as threads:
        for walk in walks(frames, 2, threads):
            assert walk(centroids).inertia == pytest.approx(expected, rel=1e-12)


def test_passes_over_an_array_and_a_stream_have_the_same_outcome() -> None:
    frames = mixture(40_000, clusters=30)
    with ThreadPoolExecutor(2) as threads:
        found = walks(frames, 30, threads)
        for centroids in (frames[:30], frames[30:60], frames[60:90] + np.float32(100)):
            outcomes = [walk(centroids) for walk in found]
            for walk, outcome in zip(found, outcomes, strict=True):
                assert np.array_equal(outcome.sums.means(centroids), outcomes[0].sums.means(centroids))
                assert outcome.inertia == outcomes[0].inertia
                assert np.array_equal(walk.farthest().frames, found[0].farthest().frames)
