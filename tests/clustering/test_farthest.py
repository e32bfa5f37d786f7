from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustering.made import Stream
from vocable.clustering import KMeans
from vocable.clustering.farthest import Farthest


@given(
    distances=st.lists(st.integers(0, 9).map(float), max_size=60),
    limit=st.integers(1, 7),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_the_farthest_of_pieces_are_those_of_the_whole(distances: list[float], limit: int, cuts: list[int]) -> None:
    values = np.array(distances)
    frames = np.arange(len(values), dtype=np.float32)[:, None]
    expected = np.argsort(-values, kind="stable")[:limit]
    found = Farthest.none(1, np.dtype(np.float32), limit)
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    for first, last in itertools.pairwise(edges):
        found = found.merged(Farthest.of(frames[first:last], values[first:last], limit))
    assert found.frames[:, 0].astype(int).tolist() == expected.tolist()


def test_a_frame_that_stands_twice_serves_once() -> None:
    frames = np.array([[1, 0], [1, -0.0], [2, 0], [1, 0]], np.float32)
    assert Farthest.of(frames, np.ones(4), 4).distinct().tolist() == [[1, 0], [2, 0]]


@pytest.mark.parametrize("stream", [False, True])
def test_rare_frames_get_clusters_of_their_own(stream: bool) -> None:
    """Of 8000 equal frames and six others, seeding sees hardly any other; scikit-learn finds them all."""
    frames = np.zeros((8006, 3), np.float32)
    frames[[5, 1000, 3000, 5000, 7000, 8005]] = np.eye(6, 3, dtype=np.float32) * 3 + np.arange(6, dtype=np.float32)[:, None]
    for seed in range(3):
        model = KMeans(7, random_state=seed, memory=1000 if stream else 1 << 30)
        model.fit(Stream(frames) if stream else frames)
        assert model.inertia_ < 1e-6
        assert len(np.unique(model.predict(frames))) == 7
