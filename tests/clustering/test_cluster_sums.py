from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clustering.made import mixture
from vocable.clustering.cluster_sums import ClusterSums, Grid
from vocable.errors import InputError


def grid_of(frames: NDArray[np.floating], weights: NDArray[np.float64] | None = None, count: int | None = None) -> Grid:
    return Grid.of(np.abs(frames).max(axis=0).astype(np.float64), count or len(frames), weights)


def exact_mean(frames: NDArray[np.floating], weights: NDArray[np.float64]) -> list[float]:
    parts = [Fraction(float(weight)) for weight in weights]
    return [
        float(sum(part * Fraction(float(value)) for part, value in zip(parts, column, strict=True)) / sum(parts))
        for column in frames.T
    ]


@given(st.integers(0, 1000), st.integers(2, 50))
def test_sums_do_not_depend_on_order_or_cuts(seed: int, cuts: int) -> None:
    rng = np.random.default_rng(seed)
    frames = (rng.standard_normal((400, 3)) * 10.0 ** rng.integers(-6, 6, 3)).astype(np.float32)
    labels, weights = rng.integers(0, 7, 400).astype(np.int32), rng.random(400)
    grid = grid_of(frames, weights)
    whole, cut = ClusterSums(grid, 7), ClusterSums(grid, 7)
    whole.add(frames, labels, weights)
    for part in np.array_split(rng.permutation(400), cuts):
        other = ClusterSums(grid, 7)
        other.add(frames[part], labels[part], weights[part])
        cut.merge(other)
    centroids = rng.standard_normal((7, 3)).astype(np.float32)
    assert np.array_equal(whole.means(centroids), cut.means(centroids))
    assert np.array_equal(whole.weights, cut.weights)
    cut.add(frames, labels, weights, sign=-1)
    assert not cut.weights.any()
    assert np.array_equal(cut.means(centroids), centroids)


def test_sums_of_more_rows_than_are_added_at_a_time_are_the_same() -> None:
    frames, labels = mixture(30_000), np.random.default_rng(0).integers(0, 5, 30_000).astype(np.int32)
    whole, cut = (ClusterSums(grid_of(frames), 5) for _ in range(2))
    whole.add(frames, labels)
    for at in range(0, 30_000, 7):
        cut.add(frames[at : at + 7], labels[at : at + 7])
    assert np.array_equal(whole.means(frames[:5]), cut.means(frames[:5]))
    assert whole.weights.tolist() == np.bincount(labels).tolist()


@given(
    seed=st.integers(0, 1000),
    spread=st.integers(0, 12),
    weighted=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    shift=st.sampled_from([0.0, 1e4, -3e-3]),
)
def test_means_are_exact_beside_any_outlier(seed: int, spread: int, weighted: bool, dtype: type, shift: float) -> None:
    """One frame 10^spread times as large as the others takes hardly anything from their digits."""
    rng = np.random.default_rng(seed)
    frames = (shift + rng.standard_normal((40, 2))).astype(dtype)
    frames[7] *= 10.0**spread
    weights = 10.0 ** rng.integers(-2, 3, 40) if weighted else np.ones(40)
    labels = (rng.permutation(40) % 3).astype(np.int32)
    sums = ClusterSums(grid_of(frames, weights if weighted else None), 3)
    sums.add(frames, labels, weights if weighted else None)
    means = sums.means(np.zeros((3, 2)))
    for unit in range(3):
        inside = labels == unit
        largest = np.abs(frames[inside]).max(axis=0).astype(np.float64)
        assert np.all(
            np.abs(means[unit] - exact_mean(frames[inside], weights[inside])) <= (1e-6 if weighted else 1e-10) * largest
        )
    assert sums.weights == pytest.approx([weights[labels == unit].sum() for unit in range(3)], rel=1e-12)


def test_a_grid_has_room_for_all_frames() -> None:
    frames = mixture(100)
    for count in (100, 1 << 20, 1 << 23, 1 << 24, 10**10, 10**14):
        grid = grid_of(frames, count=count)
        assert (count + 1) * 2.0**grid.bits < 2.0**63
        sums = ClusterSums(grid, 1)
        sums.add(frames, np.zeros(100, np.int32))
        assert np.allclose(sums.means(frames[:1])[0], frames.mean(axis=0), rtol=1e-4)
        assert sums.weights.tolist() == [100]


@pytest.mark.parametrize("scale", [1e-300, 1e-45, 1e-20, 1.0, 1e20, 1e150])
def test_frames_may_be_of_any_size(scale: float) -> None:
    frames = mixture(200).astype(np.float64) * scale
    sums = ClusterSums(grid_of(frames), 1)
    sums.add(frames, np.zeros(200, np.int32))
    if scale > 1e-200:
        assert np.allclose(sums.means(frames[:1])[0] / scale, frames.mean(axis=0) / scale, rtol=1e-12)


def test_a_column_that_never_changes_is_kept() -> None:
    frames = np.full((50, 2), 3.25)
    sums = ClusterSums(grid_of(frames), 1)
    sums.add(frames, np.zeros(50, np.int32))
    assert sums.means(np.zeros((1, 2))).tolist() == [[3.25, 3.25]]


def test_frames_that_were_not_there_at_first_are_refused() -> None:
    sums = ClusterSums(grid_of(mixture(100)), 2)
    for value in (1e6, -1e6, np.nan, np.inf):
        with pytest.raises(InputError, match="should give the same frames each time"):
            sums.add(np.full((1, 8), value, np.float32), np.zeros(1, np.int32))


@given(st.integers(0, 1000), st.integers(2, 20))
def test_without_a_finer_grid_means_are_as_good_as_float32_holds(seed: int, cuts: int) -> None:
    rng = np.random.default_rng(seed)
    frames = (rng.standard_normal((3000, 3)) * 10.0 ** rng.integers(-6, 6, 3) + 1).astype(np.float32)
    labels = rng.integers(0, 40, 3000).astype(np.int32)
    grid = Grid.of(np.abs(frames).max(axis=0).astype(np.float64), 3000, typical=frames)
    assert not grid.fine
    sums, cut = ClusterSums(grid, 40), ClusterSums(grid, 40)
    sums.add(frames, labels)
    for part in np.array_split(rng.permutation(3000), cuts):
        cut.add(frames[part], labels[part])
    means = sums.means(np.zeros((40, 3)))
    assert np.array_equal(means, cut.means(np.zeros((40, 3))))
    exact = np.array([frames[labels == unit].astype(np.float64).mean(axis=0) for unit in range(40)])
    assert np.all(np.abs(means - exact) <= 2.0**-25 * np.abs(frames).mean(axis=0, dtype=np.float64))
    around = (exact - 1) * np.bincount(labels)[:, None]
    assert np.allclose(sums.around(np.ones(3)), around, atol=1e-6 * np.abs(around).max())


def test_values_that_are_tiny_beside_the_largest_ask_for_a_finer_grid() -> None:
    frames = mixture(1000)
    largest = np.abs(frames).max(axis=0).astype(np.float64)
    assert not Grid.of(largest, 1000, typical=frames).fine
    assert Grid.of(largest * 1e6, 1000, typical=frames).fine
    assert Grid.of(largest, 1000, typical=frames.astype(np.float64)).fine
    assert Grid.of(largest, 1000, np.ones(1000), frames).fine
