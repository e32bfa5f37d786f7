from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clustering.made import mixture
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.seeding import seed_centroids, seeding_for


def test_above_2048_clusters_seeding_changes() -> None:
    assert seeding_for("k-means++", 2048) == "greedy k-means++"
    assert seeding_for("k-means++", 2049) == "k-means||"
    assert seeding_for("random", 5000) == "random"


@pytest.mark.parametrize("seeding", ["greedy k-means++", "k-means||", "random"])
def test_seeds_are_distinct_frames_and_follow_the_generator(seeding: Any) -> None:
    frames = mixture(3000, clusters=50)
    seeds = seed_centroids(frames, 100, seeding, np.random.default_rng(0))
    assert len(np.unique(seeds, axis=0)) == 100
    assert (seeds[:, None] == frames).all(axis=2).any(axis=1).all()
    assert np.array_equal(seeds, seed_centroids(frames[::-1], 100, seeding, np.random.default_rng(0)))


def test_parallel_seeding_is_nearly_as_good_as_greedy() -> None:
    frames = mixture(4000, clusters=60)

    def cost(seeding: Any) -> float:
        from vocable.clustering.assignment import NearestCentroid

        total = 0.0
        for seed in range(3):
            nearest = NearestCentroid(seed_centroids(frames, 60, seeding, np.random.default_rng(seed)))
            total += float(nearest.squared_distances(frames, nearest(frames)).sum())
        return total

    assert cost("greedy k-means++") < cost("k-means||") < 1.6 * cost("greedy k-means++") < cost("random")


def test_parallel_seeding_ends_when_hardly_any_frames_are_distinct() -> None:
    frames = np.repeat(mixture(70), 20, axis=0)
    assert len(np.unique(seed_centroids(frames, 60, "k-means||", np.random.default_rng(0)), axis=0)) == 60


def test_candidates_of_parallel_seeding_weigh_what_they_stand_for() -> None:
    """Among blobs in scattered noise most candidates are noise, and weighing each as one frame would seed the noise."""
    rng = np.random.default_rng(0)
    blobs = [centre + 0.3 * rng.standard_normal((400, 2)) for centre in 12 * rng.standard_normal((30, 2))]
    frames = np.concatenate([*blobs, rng.uniform(-40, 40, (600, 2))]).astype(np.float32)

    def cost(seeding: Any) -> float:
        total = 0.0
        for seed in range(8):
            nearest = NearestCentroid(seed_centroids(frames, 30, seeding, np.random.default_rng(seed)))
            total += float(nearest.squared_distances(frames, nearest(frames)).sum())
        return total

    assert cost("k-means||") < 1.6 * cost("greedy k-means++")


@pytest.mark.parametrize("seeding", ["greedy k-means++", "k-means||", "random"])
def test_frames_without_weight_are_never_seeds(seeding: Any) -> None:
    frames = mixture(600)
    weights = np.where(np.arange(600) % 3 == 0, 0.0, 2.0)
    seeds = seed_centroids(frames, 50, seeding, np.random.default_rng(0), weights)
    assert not (seeds[:, None] == frames[::3]).all(axis=2).any()


@pytest.mark.parametrize("seeding", ["greedy k-means++", "k-means||"])
def test_frames_of_many_values_are_seeded_nearly_as_well_in_fewer_directions(
    seeding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = mixture(3000, dim=200, clusters=80)

    def cost() -> float:
        total = 0.0
        for seed in range(4):
            nearest = NearestCentroid(seed_centroids(frames, 50, seeding, np.random.default_rng(seed)))
            total += float(nearest.squared_distances(frames, nearest(frames)).sum())
        return total

    fewer = cost()
    monkeypatch.setattr("vocable.clustering.seeding._MANY_VALUES", 1000)
    assert fewer < 1.05 * cost()
