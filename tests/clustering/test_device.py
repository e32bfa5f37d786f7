"""What runs on GPUs, on the CPU in Triton's interpreter; on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytest.importorskip("triton", reason="Triton isn't installed: it comes with torch's builds for GPUs")

from clustering.made import KINDS, Stream, brute_force, mixture  # noqa: E402
from vocable import KMeans  # noqa: E402
from vocable.clustering import labellers, passes_device  # noqa: E402
from vocable.clustering.assignment import NearestCentroid  # noqa: E402
from vocable.clustering.assignment_device import DeviceNearestCentroid  # noqa: E402
from vocable.clustering.cluster_sums import ClusterSums, Grid  # noqa: E402
from vocable.clustering.device_frames import DeviceSource, HalfFrames  # noqa: E402
from vocable.clustering.passes import Measures  # noqa: E402
from vocable.clustering.passes_device import DeviceWalk  # noqa: E402
from vocable.errors import InputError  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 200), dim=st.integers(1, 80), clusters=st.integers(1, 60))
def test_labels_are_the_argmin_of_float64(kind: str, seed: int, count: int, dim: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    made = KINDS[kind](rng.standard_normal((count, dim)), rng.standard_normal((clusters, dim)), rng)
    frames, centroids = (values.astype(np.float32) for values in made)
    assert np.array_equal(DeviceNearestCentroid(centroids, DEVICE)(frames), brute_force(frames, centroids))


def test_many_clusters_take_several_tiles() -> None:
    rng = np.random.default_rng(0)
    frames, centroids = (rng.standard_normal((size, 70)).astype(np.float32) for size in (300, 600))
    assert np.array_equal(DeviceNearestCentroid(centroids, DEVICE)(frames), brute_force(frames, centroids))


@pytest.mark.parametrize("far", [1, 1e4])
def test_few_frames_are_close_to_more_than_one(far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames, centroids = (rng.standard_normal((size, 200)).astype(np.float32) for size in (1000, 50))
    centroids[7] *= far
    compared: list[int] = []
    compare = DeviceNearestCentroid._compare

    def counted(self: DeviceNearestCentroid, *rest: torch.Tensor) -> None:
        compared.append(len(rest[1]))
        compare(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(DeviceNearestCentroid, "_compare", counted)
    monkeypatch.setattr(DeviceNearestCentroid, "_on_cpu", lambda *_: pytest.fail("nothing is so close"))
    assert np.array_equal(DeviceNearestCentroid(centroids, DEVICE)(frames), brute_force(frames, centroids))
    assert sum(compared) < 0.1 * len(frames)


def _walk(frames: NDArray[np.float32], clusters: int) -> tuple[DeviceWalk, Measures]:
    grid = Grid.of(np.abs(frames).max(axis=0).astype(np.float64), len(frames), None, frames)
    measures = Measures(grid, clusters, 10, frames.mean(axis=0, dtype=np.float64), True)
    return DeviceWalk(DeviceSource(frames, DEVICE), measures), measures


def test_passes_find_what_they_do_on_the_host() -> None:
    """First all sums, then those of what moved; with values halfway between two steps of the grid."""
    rng = np.random.default_rng(0)
    frames = mixture(300, dim=70, clusters=6)
    frames[::5] = np.round(frames[::5])
    walk, measures = _walk(frames, 6)
    coarse = Grid(np.append(np.full(70, 2.0), 1.0), 20, 1.0, fine=False)
    object.__setattr__(measures, "grid", coarse)
    walk = DeviceWalk(DeviceSource(frames, DEVICE), measures)
    centroids = frames[rng.choice(len(frames), 6)]
    for _ in range(3):
        outcome = walk(centroids)
        nearest = NearestCentroid(centroids)
        labels = nearest(frames)
        assert walk.labels is not None
        assert np.array_equal(walk.labels, labels)
        sums = ClusterSums(coarse, 6)
        sums.add(frames, labels)
        assert np.array_equal(outcome.sums._sums, sums._sums)
        distances = nearest.squared_distances(frames, labels)
        far = walk.farthest()
        assert np.allclose(far.distances, np.sort(distances)[::-1][:10])
        assert np.array_equal(far.frames[0], frames[distances.argmax()])
        centroids = sums.means(centroids) + np.float32(0.01)


def test_sums_of_as_many_clusters_as_16_bits_hold() -> None:
    rng = np.random.default_rng(0)
    clusters, frames = 1 << 15, rng.standard_normal((200, 5)).astype(np.float32)
    walk, measures = _walk(frames, clusters)
    labels = rng.integers(clusters - 100, clusters, 200).astype(np.int32)
    walk._add(None, torch.from_numpy(labels).to(DEVICE), 1)
    sums = ClusterSums(measures.grid, clusters)
    sums.add(frames, labels)
    assert np.array_equal(walk._sums._sums, sums._sums)


def test_the_inertia_is_that_of_the_distances() -> None:
    frames = mixture(300, dim=40, clusters=5)
    walk, _ = _walk(frames, 5)
    centroids = frames[:5]
    nearest = NearestCentroid(centroids)
    expected = nearest.squared_distances(frames, nearest(frames)).sum()
    assert walk(centroids).inertia == pytest.approx(expected, rel=1e-9)
    exact = np.repeat(frames[:5], 3, axis=0) + np.float32(1e-4)
    near, _ = _walk(exact, 5)
    nearest = NearestCentroid(centroids)
    assert near(centroids).inertia == pytest.approx(nearest.squared_distances(exact, nearest(exact)).sum(), rel=1e-6)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the CPU, or the GPU there is, for one that runs kernels and has room."""
    from vocable.clustering import assignment_torch, device_frames

    monkeypatch.setattr(assignment_torch, "runs_kernels", lambda device: True)
    monkeypatch.setattr(device_frames, "fits", lambda frames, device: True)


def test_a_fit_on_a_device_is_the_host_s_from_the_same_start(on_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = mixture(600, dim=20, clusters=12)
    walks: list[DeviceWalk] = []
    call = DeviceWalk.__call__
    monkeypatch.setattr(DeviceWalk, "__call__", lambda self, centroids: (walks.append(self), call(self, centroids))[1])
    start = frames[:8]
    fits = [KMeans(8, init=start, device=device, max_iter=4).fit(frames) for device in ("cpu", f"{DEVICE}:0")]
    assert walks
    assert np.array_equal(fits[0].labels_, fits[1].labels_)
    assert np.array_equal(fits[0].cluster_centers_, fits[1].cluster_centers_)
    assert fits[0].inertia_ == pytest.approx(fits[1].inertia_, rel=1e-9)
    assert np.array_equal(fits[1].predict(frames), fits[0].labels_)


def test_a_fit_on_a_device_seeds_there(on_device: None) -> None:
    frames = mixture(600, dim=20, clusters=12)
    device = f"{DEVICE}:0"
    fits = [KMeans(10, random_state=3, device=device, max_iter=3).fit(frames) for _ in range(2)]
    assert np.array_equal(fits[0].cluster_centers_, fits[1].cluster_centers_)
    host = KMeans(10, random_state=3, max_iter=3).fit(frames)
    assert fits[0].inertia_ < 1.05 * host.inertia_


def test_streams_weights_and_float64_work_with_devices_too(on_device: None) -> None:
    frames = mixture(200, dim=10, clusters=5)
    device, start = f"{DEVICE}:0", frames[:4]
    expected = KMeans(4, max_iter=2, init=start).fit(frames)
    streamed = KMeans(4, max_iter=2, init=start, device=device).fit(Stream(frames))
    assert np.array_equal(streamed.cluster_centers_, expected.cluster_centers_)
    small = KMeans(4, max_iter=2, init=start, device=device, memory=1000).fit(Stream(frames))
    assert np.array_equal(small.cluster_centers_, expected.cluster_centers_)
    wide = KMeans(4, max_iter=2, init=start.astype(np.float64), device=device).fit(frames.astype(np.float64))
    assert np.allclose(wide.cluster_centers_, expected.cluster_centers_)
    weights = np.random.default_rng(0).integers(0, 3, len(frames)).astype(float)
    weighed = [KMeans(4, max_iter=2, init=start, device=where).fit(frames, sample_weight=weights) for where in ("cpu", device)]
    assert np.array_equal(weighed[0].cluster_centers_, weighed[1].cluster_centers_)


def test_values_that_are_no_numbers_are_refused(on_device: None) -> None:
    for value in (np.nan, np.inf):
        frames = mixture(100, dim=5, clusters=5)
        frames[50, 2] = value
        with pytest.raises(InputError, match="contains NaN or infinity"):
            KMeans(3, device=f"{DEVICE}:0").fit(frames)


def test_grids_that_only_the_host_adds_on_are_left_to_it() -> None:
    frames = mixture(300, dim=5, clusters=5)
    largest = np.abs(frames).max(axis=0).astype(np.float64)
    assert passes_device.suits(_walk(frames, 3)[1])
    fine = Measures(Grid.of(largest, 300), 3, 3, largest, True)
    huge = Measures(Grid.of(largest * 1e12, 300, None, frames * np.float32(1e12)), 3, 3, largest, True)
    assert not passes_device.suits(fine)
    assert not passes_device.suits(huge)


def test_frames_are_scaled_each_by_itself() -> None:
    made = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    made *= np.array([1, 1e-3, 1e6, 1e15, 0, 1e-30], np.float32)[:, None]
    frames, point = torch.from_numpy(made).to(DEVICE), torch.zeros(5, device=DEVICE)
    rounded = HalfFrames(frames, point)
    largest = rounded.values.abs().amax(dim=1).float().cpu()
    assert ((largest[:4] >= 2**12) & (largest[:4] <= 2**13)).all()
    assert largest[4] == 0
    back = rounded.values[:, :5].double().cpu() / rounded.scales.double().cpu()[:, None]
    assert np.allclose(back[:4], made[:4], rtol=2**-11)
    assert (rounded.values[:, 5:] == 0).all()
    assert np.allclose(rounded.squares.cpu(), (made.astype(np.float64) ** 2).sum(axis=1))
    lost = np.linalg.norm(made[:4] - back[:4].numpy(), axis=1) * rounded.scales[:4].cpu().numpy()
    assert np.allclose(rounded.lost[:4].cpu(), lost, rtol=1e-4)


def test_devices_without_kernels_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from vocable.clustering.assignment_torch import runs_kernels

    assert not runs_kernels("cpu")
    assert type(labellers.labeller_for("cpu:0")).__name__ == "_TorchLabeller"
