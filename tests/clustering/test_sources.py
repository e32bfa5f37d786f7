from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clustering.made import Stream, mixture
from vocable.clustering import KMeans
from vocable.clustering.samples import Samples, hashes
from vocable.clustering.sources import ArraySource, pieces, survey
from vocable.errors import InputError


@given(st.integers(0, 2**63), st.integers(0, 5000), st.integers(1, 2000))
def test_samples_follow_from_numbers_alone(seed: int, first: int, count: int) -> None:
    drawn = hashes(seed, first, count)
    assert np.array_equal(drawn, np.concatenate([hashes(seed, first + at, 1) for at in range(count)]))


def test_samples_have_the_size_that_was_asked_for_and_are_nested() -> None:
    frames = np.arange(100_000, dtype=np.float32)[:, None]
    samples = Samples(survey(ArraySource(frames), 1 << 30), None, 7, 1 << 30)
    before = np.empty((0, 1), np.float32)
    for fraction in (0.01, 0.3, 0.9, 1.0):
        found, _ = samples.frames(fraction)
        assert len(found) == pytest.approx(fraction * len(frames), rel=0.1)
        assert np.isin(before, found).all()
        before = found


@pytest.mark.parametrize("fraction", [0.02, 0.4, 1.0])
def test_samples_of_a_stream_are_those_of_the_array(fraction: float) -> None:
    frames = mixture(30_000)
    expected, _ = Samples(survey(ArraySource(frames), 1 << 30), None, 3, 1 << 30).frames(fraction)
    streamed = Samples(survey(Stream(frames), 1000), None, 3, 1 << 30)
    assert np.array_equal(streamed.frames(fraction)[0], expected)
    for memory in (1 << 30, 1000):  # held, or gone through in the stream
        source, _ = Samples(survey(Stream(frames), 1000), None, 3, memory).source(fraction)
        assert isinstance(source, ArraySource) == (memory > 1000)
        assert np.array_equal(np.concatenate(list(source.blocks())), expected)


def test_impossible_streams_are_refused() -> None:
    model = KMeans(2, random_state=0)

    class Blocks:
        def __init__(self, *blocks: NDArray[np.float32]) -> None:
            self._blocks = blocks

        def blocks(self) -> Iterator[NDArray[np.float32]]:
            yield from self._blocks

    with pytest.raises(InputError, match="no frames to cluster"):
        model.fit(Blocks())
    with pytest.raises(InputError, match="others have 8 values"):
        model.fit(Blocks(mixture(5), mixture(5, dim=7)))
    with pytest.raises(InputError, match="some blocks of frames are float32, others float64"):
        model.fit(Blocks(mixture(5), mixture(5).astype(np.float64)))
    with pytest.raises(InputError, match=r"shape \(8,\), not"):
        model.fit(Blocks(mixture(5)[0]))
    spoiled = mixture(5)
    spoiled[2, 3] = np.inf
    with pytest.raises(InputError, match="NaN or infinity"):
        model.fit(Blocks(mixture(5), spoiled))
    with pytest.raises(InputError, match="beyond 1e.150"):
        model.fit(Blocks(mixture(5) * np.float64(1e160)))
    with pytest.raises(InputError, match="not with a stream"):
        model.fit(Blocks(mixture(5)), sample_weight=np.ones(5))


def test_a_small_stream_is_gone_through_once() -> None:
    stream = Stream(mixture(3000))
    KMeans(5, random_state=0).fit(stream)
    assert stream.passes == 1


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 12))
def test_pieces_hold_the_same_frames_in_the_same_order(sizes: list[int], rows: int) -> None:
    whole = np.arange(2 * sum(sizes)).reshape(-1, 2)
    blocks = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    cut = list(pieces(iter(blocks), rows))
    assert [len(piece) for piece in cut[:-1]] == [rows] * (len(cut) - 1)
    assert all(0 < len(piece) <= rows for piece in cut)
    assert np.array_equal(np.concatenate([*cut, whole[:0]]), whole)


def test_a_stream_that_does_not_start_anew_is_refused() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = iter([mixture(3000)])

        def blocks(self) -> Iterator[NDArray[np.float32]]:
            return self.left

    assert KMeans(3, random_state=0).fit(Once()).n_frames_ == 3000  # it fits into memory
    with pytest.raises(InputError, match="start anew"):
        KMeans(3, random_state=0, memory=100).fit(Once())


@pytest.mark.parametrize("dtype", [np.float16, np.int16, bool, np.float64])
@pytest.mark.parametrize("memory", [1 << 30, 100])
def test_streams_of_other_types_are_converted(dtype: type, memory: int) -> None:
    frames = mixture(3000).astype(dtype)
    expected = KMeans(4, random_state=0).fit(frames.astype(np.float32 if dtype is np.float16 else np.float64))
    found = KMeans(4, random_state=0, memory=memory).fit(Stream(frames))
    assert np.array_equal(found.cluster_centers_, expected.cluster_centers_)
    assert found.inertia_ == expected.inertia_


def test_samples_that_fit_into_memory_are_drawn_once() -> None:
    """A stream is gone through once for each sample that is kept, not once for each pass over it; the result is the same."""
    frames = mixture(40_000)
    small, large = Stream(frames), Stream(frames)
    tight = KMeans(20, random_state=0, memory=1000).fit(small)
    roomy = KMeans(20, random_state=0, memory=frames.nbytes - 1).fit(large)
    assert roomy.labels_ is None
    assert np.array_equal(tight.cluster_centers_, roomy.cluster_centers_)
    assert tight.history_ == roomy.history_
    assert large.passes == 1 + 1 + 2 + len(roomy.history_) < small.passes  # survey, seeding, two samples, all frames
