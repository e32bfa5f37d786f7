from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clustering.made import KINDS, brute_force
from vocable.clustering import labellers
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.assignment_screened import ScreenedNearestCentroid
from vocable.clustering.assignment_torch import TorchNearestCentroid
from vocable.clustering.labellers import labeller_for
from vocable.clustering.rounded_frames import Directions, RoundedFrames
from vocable.errors import InputError
from vocable.execution import processor

Maker = Callable[[NDArray[np.float32]], Callable[[NDArray[np.float32]], NDArray[np.int32]]]


def in_bfloat16(centroids: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.int32]]:
    return ScreenedNearestCentroid(centroids) if centroids.dtype == np.float32 else NearestCentroid(centroids)


def prepared_in_bfloat16(centroids: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.int32]]:
    if centroids.dtype != np.float32:
        return NearestCentroid(centroids)
    shift = centroids[0] * np.float32(0.9)
    return lambda frames: ScreenedNearestCentroid(centroids, shift)(RoundedFrames(frames, shift))


def some_directions(dim: int) -> Directions:
    """Return a few directions drawn by chance, which leave much out."""
    drawn = np.random.default_rng(dim).standard_normal((dim, max(1, dim // 3)))
    return Directions(np.linalg.qr(drawn)[0].astype(np.float32))


def along_directions(centroids: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.int32]]:
    if centroids.dtype != np.float32:
        return NearestCentroid(centroids)
    directions, shift = some_directions(centroids.shape[1]), centroids[0] * np.float32(0.9)
    return lambda frames: ScreenedNearestCentroid(centroids, shift)(RoundedFrames(frames, shift, directions))


def along_directions_in_float32(centroids: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.int32]]:
    if centroids.dtype != np.float32:
        return NearestCentroid(centroids)
    return ScreenedNearestCentroid(centroids, None, some_directions(centroids.shape[1]), "float32")


MAKERS: list[Maker] = [
    NearestCentroid, lambda centroids: TorchNearestCentroid(centroids, "cpu"), in_bfloat16, prepared_in_bfloat16,
    along_directions, along_directions_in_float32,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 300),
    dim=st.integers(1, 60),
    clusters=st.integers(1, 80),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_labels_are_the_argmin_of_float64(
    make: Maker, kind: str, seed: int, count: int, dim: int, clusters: int, dtype: type
) -> None:
    rng = np.random.default_rng(seed)
    made = KINDS[kind](rng.standard_normal((count, dim)), rng.standard_normal((clusters, dim)), rng)
    frames, centroids = (values.astype(dtype) for values in made)
    labels = make(centroids)(frames)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, brute_force(frames, centroids))


@pytest.mark.parametrize("make", MAKERS)
def test_labels_do_not_depend_on_batches(make: Maker) -> None:
    rng = np.random.default_rng(0)
    frames, label = rng.standard_normal((5000, 39)).astype(np.float32), make(rng.standard_normal((100, 39)).astype(np.float32))
    whole = label(frames)
    for size in (1, 7, 64, 1000):
        assert np.array_equal(np.concatenate([label(frames[at : at + size]) for at in range(0, len(frames), size)]), whole)


def test_a_centroid_far_out_does_not_blur_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length says nothing of the errors of the others' scores: hardly any frame is in doubt because of it."""
    rng = np.random.default_rng(0)
    frames, centroids = (rng.standard_normal((size, 39)).astype(np.float32) for size in (2000, 200))
    centroids[0] *= 1e4
    pairs = []
    decide = NearestCentroid._decide

    def counted(self: NearestCentroid, close: NDArray[np.float32], rows: Any, candidates: Any, labels: Any) -> None:
        pairs.append(len(candidates))
        decide(self, close, rows, candidates, labels)

    monkeypatch.setattr(NearestCentroid, "_decide", counted)
    assert np.array_equal(NearestCentroid(centroids)(frames), brute_force(frames, centroids))
    assert sum(pairs) < 2 * len(frames)


def test_frames_in_the_middle_go_to_the_lower_id() -> None:
    centroids = np.array([[0, 0], [2, 0], [0, 0]], np.float32)
    assert NearestCentroid(centroids)(np.array([[1, 0], [0, 5], [2, 9]], np.float32)).tolist() == [0, 0, 1]


def test_distances_are_those_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    frames, centroids = rng.standard_normal((50, 4)), rng.standard_normal((3, 4))
    nearest = NearestCentroid(centroids)
    distances = nearest.squared_distances(frames, nearest(frames))
    assert np.allclose(distances, ((frames[:, None] - centroids) ** 2).sum(axis=2).min(axis=1))


def test_impossible_centroids_and_frames_are_refused() -> None:
    for centroids in (np.zeros(3), np.zeros((0, 3)), np.full((2, 3), np.nan)):
        with pytest.raises(InputError, match="centroids should be finite"):
            NearestCentroid(centroids)
    with pytest.raises(InputError, match=r"frames of shape \(2, 4\) can't be labelled with centroids of 3 values"):
        NearestCentroid(np.zeros((2, 3)))(np.zeros((2, 4)))


def test_devices_have_their_labellers() -> None:
    centroids = np.zeros((2, 3), np.float32)
    assert type(labeller_for("cpu")(centroids)) is NearestCentroid
    assert isinstance(labeller_for("cpu:0")(centroids), TorchNearestCentroid)


def test_bfloat16_is_for_large_jobs_on_processors_that_are_fast_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    many, few = np.zeros((1000, 768), np.float32), np.zeros((100, 39), np.float32)
    for fast in (True, False):
        monkeypatch.setattr(labellers, "bfloat16_speed", lambda fast=fast: 2.0 if fast else 1.0)
        label = labeller_for("cpu", 10**8)
        assert type(label(many)) is (ScreenedNearestCentroid if fast else NearestCentroid)
        assert type(label(few)) is NearestCentroid
        assert type(label(many.astype(np.float64))) is NearestCentroid
        prepared = label.prepared(many, many[0], 1000, 1 << 30)
        assert isinstance(prepared, RoundedFrames if fast else np.ndarray)  # zeros have no directions
        assert label.prepared(many, many[0], 1000, memory=1000) is many


def test_torch_in_low_precision_labels_alike() -> None:
    """Users who let torch multiply in fewer bits get the same labels, and their setting back."""
    import torch

    rng = np.random.default_rng(0)
    frames, centroids = rng.standard_normal((4000, 60)).astype(np.float32), rng.standard_normal((80, 60)).astype(np.float32)
    expected = NearestCentroid(centroids)(frames)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(TorchNearestCentroid(centroids, "cpu")(frames), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_pairs_as_many_as_frames_are_still_pairs() -> None:
    """As happened when as many distances were wanted as there were frames, and each frame's was taken."""
    rng = np.random.default_rng(0)
    centroids, frames = (rng.standard_normal((size, 5)).astype(np.float32) for size in (4, 6))
    rows, candidates = np.array([0, 0, 1, 1, 4, 5]), np.array([3, 1, 2, 0, 0, 1])
    found = ScreenedNearestCentroid(centroids)._float32_distances(frames, rows, candidates)
    assert np.allclose(found, ((frames[rows] - centroids[candidates]) ** 2).sum(axis=1), rtol=1e-5)


def test_batches_of_all_sizes_label_alike() -> None:
    rng = np.random.default_rng(1)
    centroids, frames = (rng.standard_normal((size, 40)).astype(np.float32) for size in (300, 400))
    expected = NearestCentroid(centroids)(frames)
    for make in (in_bfloat16, along_directions_in_float32):
        label = make(centroids)
        for size in range(32, 400, 3):
            assert np.array_equal(label(frames[:size]), expected[:size])


def test_frames_of_which_most_are_far_longer_label_the_others_right() -> None:
    """What tells about how far frames lie is taken from some of them, and may not hold in float32."""
    rng = np.random.default_rng(0)
    centroids, frames = (rng.standard_normal((size, 40)).astype(np.float32) for size in (60, 6144))
    frames[: 6144 - 2048][rng.random(6144 - 2048) < 0.9] *= np.float32(1e19)
    expected = NearestCentroid(centroids)(frames)
    for make in (in_bfloat16, prepared_in_bfloat16, along_directions_in_float32):
        assert np.array_equal(make(centroids)(frames), expected)


def test_torch_set_to_other_types_labels_alike() -> None:
    import torch

    rng = np.random.default_rng(0)
    centroids, frames = (rng.standard_normal((size, 60)).astype(np.float32) for size in (80, 500))
    frames.flags.writeable = False
    expected = NearestCentroid(centroids)(frames)
    torch.set_default_dtype(torch.float64)
    try:
        for make in (in_bfloat16, along_directions, along_directions_in_float32):
            assert np.array_equal(make(centroids)(frames), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_hardly_any_frame_is_decided_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is safe, yet tight enough that the fast way decides nearly all."""
    rng = np.random.default_rng(0)
    decided = 0
    original = NearestCentroid._decide

    def counted(self: NearestCentroid, frames: NDArray[np.float32], rows: Any, candidates: Any, labels: Any) -> None:
        nonlocal decided
        decided += len(np.unique(rows))
        original(self, frames, rows, candidates, labels)

    monkeypatch.setattr(NearestCentroid, "_decide", counted)
    frames = rng.standard_normal((20_000, 39)).astype(np.float32)
    NearestCentroid(frames[:100])(frames)
    assert decided < 100


@pytest.mark.parametrize(
    ("cpuinfo", "speed"),
    [
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n\nprocessor\t: 1\n", 8),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16\n\n", 1),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n\n", 2),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n\n", 1),
        ("", 1),
    ],
)
def test_processors_that_are_fast_at_bfloat16_are_known(cpuinfo: str, speed: float) -> None:
    assert processor.speed_told(cpuinfo) == speed


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 300),
    spread=st.sampled_from([1.0, 0.1, 1e-3]),
    offset=st.sampled_from([0, 30]),
)
def test_bfloat16_labels_of_many_values_are_the_argmin_of_float64(seed: int, clusters: int, spread: float, offset: float) -> None:
    """Centroids are made closer and closer together, until rounding leaves nothing to tell them by."""
    rng = np.random.default_rng(seed)
    centroids = (offset + rng.standard_normal(200) + spread * rng.standard_normal((clusters, 200))).astype(np.float32)
    frames = (centroids[rng.integers(0, clusters, 700)] + spread * rng.standard_normal((700, 200))).astype(np.float32)
    expected = brute_force(frames, centroids)
    for make in (in_bfloat16, prepared_in_bfloat16, along_directions, along_directions_in_float32):
        assert np.array_equal(make(centroids)(frames), expected)


@pytest.mark.parametrize("clusters", [30, 400])
def test_frames_along_few_directions_are_told_apart_there(clusters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most need one distance, which is that from their own centroid."""
    rng = np.random.default_rng(0)
    turn, spread = np.linalg.qr(rng.standard_normal((300, 300)))[0], np.arange(1, 301) ** -1.0
    centroids = (3 * rng.standard_normal((clusters, 300)) * spread @ turn).astype(np.float32)
    frames = (centroids[rng.integers(0, clusters, 4000)] + rng.standard_normal((4000, 300)) * spread @ turn).astype(np.float32)
    directions = Directions.of(frames, frames.mean(axis=0))
    assert directions is not None
    assert directions.columns.shape[1] < 100
    pairs = []
    distances = ScreenedNearestCentroid._float32_distances

    def counted(self: Any, close: Any, rows: NDArray[np.intp], candidates: Any) -> NDArray[np.float32]:
        pairs.append(len(rows))
        return distances(self, close, rows, candidates)

    monkeypatch.setattr(ScreenedNearestCentroid, "_float32_distances", counted)
    for label in (
        lambda frames: ScreenedNearestCentroid(centroids, frames[0])(RoundedFrames(frames, frames[0], directions)),
        ScreenedNearestCentroid(centroids, directions=directions),
    ):
        assert np.array_equal(label(frames), brute_force(frames, centroids))
        assert sum(pairs) < 3 * len(frames)
        pairs.clear()


def test_frames_that_spread_alike_everywhere_have_no_directions() -> None:
    rng = np.random.default_rng(0)
    assert Directions.of(rng.standard_normal((3000, 200)).astype(np.float32), np.zeros(200, np.float32)) is None
    assert Directions.of(np.ones((300, 200), np.float32), np.ones(200, np.float32)) is None
    assert Directions.of(rng.standard_normal((300, 40)).astype(np.float32), np.zeros(40, np.float32)) is None


def test_directions_are_for_jobs_that_repay_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401 (so that there is nothing to load)

    rng = np.random.default_rng(0)
    centroids = (rng.standard_normal((2000, 768)) * np.arange(1, 769) ** -1.0).astype(np.float32)
    for speed in (2.0, 1.0):
        monkeypatch.setattr(labellers, "bfloat16_speed", lambda speed=speed: speed)
        nearest = labeller_for("cpu", 10**6)(centroids)
        assert isinstance(nearest, ScreenedNearestCentroid)
        assert nearest._directions is not None
        nearest = labeller_for("cpu", 1000)(centroids)
        assert getattr(nearest, "_directions", None) is None
        label, point = labeller_for("cpu", 10**6), np.zeros(768, np.float32)
        assert isinstance(label(centroids, point), ScreenedNearestCentroid) == (speed > 1)  # it has seen no frames yet
        prepared = [label.prepared(centroids, point, clusters, 1 << 30) for clusters in (2000, 20)]
        assert isinstance(prepared[0], RoundedFrames)
        assert prepared[0].directions is not None
        assert prepared[0].rounding == ("bfloat16" if speed > 1 else "float32")
        assert isinstance(prepared[1], np.ndarray)
        nearest = label(centroids, point)
        assert np.array_equal(nearest(prepared[0][:500]), NearestCentroid(centroids)(centroids[:500]))
        assert np.array_equal(nearest(centroids[:500]), NearestCentroid(centroids)(centroids[:500]))
