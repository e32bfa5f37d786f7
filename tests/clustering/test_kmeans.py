from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from vocable.clustering import KMeans
from vocable.clustering.cluster_sums import ClusterSums, Grid
from vocable.clustering.fit_state import FitState, Progress
from vocable.clustering.kmeans import FAIRSEQ_MINIBATCH
from vocable.clustering.seeding import seed_centroids, seeding_for
from vocable.clustering.sources import drawn
from vocable.errors import InputError


def mixture(count: int, dim: int = 8, clusters: int = 12, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = 6 * rng.standard_normal((clusters, dim))
    return (centres[rng.integers(0, clusters, count)] + rng.standard_normal((count, dim))).astype(np.float32)


class Stream:
    """Frames in blocks of random sizes, made anew each time."""

    def __init__(self, frames: NDArray[np.float32], seed: int = 0) -> None:
        self.frames, self.seed, self.passes = frames, seed, 0

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        self.passes += 1
        rng, at = np.random.default_rng(self.seed), 0
        while at < len(self.frames):
            size = int(rng.integers(1, 5000))
            yield self.frames[at : at + size]
            at += size


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"init": "random", "n_init": 2}, {"workers": 2}])
def test_it_passes_scikit_learns_checks(options: dict[str, Any]) -> None:
    results = check_estimator(KMeans(n_clusters=3, **options), on_fail=None)
    assert len(results) > 40
    assert not [item["check_name"] for item in results if item["status"] not in ("passed", "skipped")]
    # Skips are for pandas and array-API input, which the checks don't find here.
    assert {item["check_name"] for item in results if item["status"] == "skipped"} <= {
        "check_sample_weights_pandas_series",
        "check_array_api_input",
    }


@pytest.mark.filterwarnings("ignore")
def test_mini_batches_pass_all_checks_but_the_one_scikit_learns_own_fails() -> None:
    results = check_estimator(KMeans(n_clusters=3, algorithm="minibatch", max_iter=5), on_fail=None)
    failed = {item["check_name"] for item in results if item["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data"}


def test_it_works_in_pipelines_and_clones() -> None:
    frames = mixture(500)
    pipeline = make_pipeline(StandardScaler(), KMeans(5, random_state=0))
    assert pipeline.fit_transform(frames).shape == (500, 5)
    model = KMeans(4, tol=0.1, random_state=3)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_clusters=6).n_clusters == 6
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        model.set_params(colour=1)
    assert repr(model) == "KMeans(n_clusters=6, tol=0.1, random_state=3)"


def test_what_fit_learns_is_consistent() -> None:
    frames = mixture(4000)
    model = KMeans(12, random_state=0).fit(frames)
    assert model.cluster_centers_.dtype == np.float32
    assert np.array_equal(model.labels_, model.predict(frames))
    distances = ((frames.astype(np.float64) - model.cluster_centers_[model.labels_]) ** 2).sum()
    assert model.inertia_ == pytest.approx(distances, rel=1e-9)
    assert model.score(frames) == pytest.approx(-model.inertia_, rel=1e-9)
    assert np.array_equal(model.transform(frames).argmin(axis=1), model.labels_)
    assert model.n_frames_ == 4000
    assert list(model.get_feature_names_out()) == [f"kmeans{at}" for at in range(12)]
    assert np.array_equal(KMeans(12, random_state=0).fit_predict(frames), model.labels_)


def test_passes_never_raise_the_inertia_and_end_at_means() -> None:
    frames = mixture(3000, clusters=30)
    model = KMeans(20, random_state=1, tol=0).fit(frames)
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in zip(model.history_, model.history_[1:], strict=False))
    for unit in range(20):
        mean = frames[model.labels_ == unit].astype(np.float64).mean(axis=0)
        assert np.abs(model.cluster_centers_[unit] - mean).max() < 1e-5


def test_inertia_is_as_low_as_scikit_learns() -> None:
    """On well separated clusters, more of them than centroids, where a start decides nearly everything."""
    ours, theirs = [], []
    for seed in range(3):
        frames = mixture(6000, dim=16, clusters=60, seed=seed)
        ours += [KMeans(40, random_state=at).fit(frames).inertia_ for at in range(6)]
        theirs += [SklearnKMeans(40, n_init=1, random_state=at).fit(frames).inertia_ for at in range(6)]
    assert np.mean(ours) <= np.mean(theirs) * 1.03


@pytest.mark.parametrize("options", [{}, {"n_init": 3}, {"init": "random"}, {"max_iter": 2}])
def test_a_fit_on_a_stream_equals_that_on_the_array_bit_for_bit(options: dict[str, Any]) -> None:
    frames = mixture(60_000, dim=6, clusters=25)
    whole = KMeans(20, random_state=0, **options).fit(frames)
    for workers in (1, 2):
        for memory in (4 << 30, 1000):  # brought into memory, or gone through once a pass
            model = KMeans(20, random_state=0, workers=workers, memory=memory, **options).fit(Stream(frames, seed=workers))
            assert np.array_equal(model.cluster_centers_, whole.cluster_centers_)
            assert (model.inertia_, model.n_iter_, model.history_) == (whole.inertia_, whole.n_iter_, whole.history_)
            assert (model.labels_ is None) == (memory == 1000)
    assert np.array_equal(KMeans(20, random_state=0, workers=2, **options).fit(frames).cluster_centers_, whole.cluster_centers_)


def test_a_small_stream_is_gone_through_once() -> None:
    stream = Stream(mixture(3000))
    KMeans(5, random_state=0).fit(stream)
    assert stream.passes == 1


def test_empty_clusters_are_filled() -> None:
    frames = np.concatenate([mixture(2000, clusters=3), np.full((1, 8), 500, np.float32)])
    start = np.concatenate([frames[:2], np.full((4, 8), 1e4, np.float32)])
    model = KMeans(6, init=start, tol=0, random_state=0).fit(frames)
    assert np.bincount(model.labels_, minlength=6).min() > 0
    assert model.seeding_ == "given"


def test_fewer_distinct_frames_than_clusters_is_no_endless_loop() -> None:
    frames = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    for options in ({}, {"init": "random"}, {"algorithm": "minibatch"}):
        model = KMeans(5, random_state=0, **options).fit(frames)
        assert len(set(model.labels_.tolist())) == 3
        assert model.inertia_ == 0


def test_weights_are_repetitions() -> None:
    frames, weights = mixture(300), np.random.default_rng(0).integers(0, 4, 300)
    weighted = KMeans(6, random_state=0).fit(frames, sample_weight=weights)
    repeated = KMeans(6, random_state=0).fit(np.repeat(frames, weights, axis=0))
    assert np.allclose(weighted.cluster_centers_, repeated.cluster_centers_, atol=1e-6)
    assert weighted.score(frames, sample_weight=weights) == pytest.approx(-weighted.inertia_, rel=1e-6)


def test_a_seed_decides_everything_and_generators_give_one() -> None:
    frames = mixture(2000)
    first, second = (KMeans(7, random_state=5).fit(frames).cluster_centers_ for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(KMeans(7, random_state=6).fit(frames).cluster_centers_, first)
    for generator in (np.random.RandomState(0), np.random.default_rng(0), None):
        assert KMeans(7, random_state=generator).fit(frames).cluster_centers_.shape == (7, 8)


def test_partial_fit_learns_batch_by_batch() -> None:
    frames = mixture(20_000)
    model = KMeans(12, random_state=0)
    before = None
    for at in range(0, len(frames), 1000):
        model.partial_fit(frames[at : at + 1000])
        before = before or -model.score(frames)
    assert -model.score(frames) < before
    assert model.n_iter_ == 20
    fitted = KMeans(12, random_state=0).fit(frames)
    centre = fitted.cluster_centers_.copy()
    fitted.partial_fit(frames[:100])  # a fit that saw 20,000 frames moves little for 100
    assert 0 < np.abs(fitted.cluster_centers_ - centre).max() < 0.1


def test_mini_batches_reach_scikit_learns_inertia() -> None:
    frames = mixture(20_000, dim=10, clusters=40)
    options = {**FAIRSEQ_MINIBATCH, "batch_size": 2000, "n_init": 3, "max_iter": 20}
    ours = np.mean([KMeans(25, algorithm="minibatch", random_state=at, **options).fit(frames).inertia_ for at in range(3)])
    theirs = np.mean([MiniBatchKMeans(25, random_state=at, **options).fit(frames).inertia_ for at in range(3)])
    assert ours <= theirs * 1.03


def test_mini_batches_stop_and_reassign_as_told() -> None:
    frames = mixture(5000)
    base = {"algorithm": "minibatch", "random_state": 0, "batch_size": 500}
    assert KMeans(5, **base, max_no_improvement=2, max_iter=300).fit(frames).n_iter_ < 300
    assert KMeans(5, **base, tol=1e6, max_iter=300).fit(frames).n_iter_ == 1
    assert KMeans(5, **base, max_no_improvement=None, tol=0, max_iter=3).fit(frames).n_iter_ == 3
    start = np.concatenate([frames[:3], np.full((2, 8), 1e4, np.float32)])
    kept = KMeans(5, init=start, **base, max_iter=2).fit(frames)
    moved = KMeans(5, init=start, **base, max_iter=2, reassignment_ratio=0.01).fit(frames)
    assert np.bincount(kept.labels_, minlength=5)[3:].tolist() == [0, 0]
    assert np.bincount(moved.labels_, minlength=5).min() > 0


def test_mini_batches_of_a_stream_need_memory() -> None:
    frames = mixture(5000)
    model = KMeans(5, algorithm="minibatch", random_state=0)
    assert np.array_equal(model.fit(Stream(frames)).cluster_centers_, clone(model).fit(frames).cluster_centers_)
    with pytest.raises(InputError, match="mini-batches are drawn from frames in memory"):
        clone(model).set_params(memory=1000).fit(Stream(frames))


def test_init_size_smaller_than_the_clusters_is_raised() -> None:
    assert KMeans(20, algorithm="minibatch", init_size=5, random_state=0).fit(mixture(1000)).cluster_centers_.shape == (20, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0"),
        ({"n_clusters": True}, "n_clusters=True"),
        ({"n_init": 0}, "n_init=0"),
        ({"init": "best"}, "init='best'"),
        ({"algorithm": "elkan"}, "algorithm='elkan'"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"tol": -1}, "tol=-1"),
        ({"init": np.zeros((2, 2))}, "init has shape"),
        ({"n_clusters": 500}, "n_samples=100 should be >= n_clusters=500"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KMeans(**options).fit(mixture(100))


def test_impossible_frames_are_refused() -> None:
    model = KMeans(2, random_state=0)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.predict(mixture(10))
    bad = mixture(10)
    bad[3, 3] = np.nan
    for frames, message in (
        (bad, "NaN or infinity"),
        (np.zeros(5), "Expected 2D"),
        (np.zeros((0, 3)), "0 sample"),
        (np.zeros((3, 0)), "0 feature"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(frames)
    for weights, message in (
        ([1, 2], "sample_weight.shape"),
        (-np.ones(10), "negative"),
        (np.zeros(10), "zero"),
        (np.ones((10, 2)), "1D"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(mixture(10), sample_weight=weights)
    with pytest.raises(ValueError, match="8 features"):
        model.fit(mixture(10)[:, :7]).predict(mixture(10))


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
    with pytest.raises(InputError, match="not with a stream"):
        model.fit(Blocks(mixture(5)), sample_weight=np.ones(5))


def test_without_scikit_learn_an_unfitted_model_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.raises(InputError, match="not fitted yet"):
        KMeans(2).predict(mixture(10))


def test_a_killed_fit_goes_on_after_its_last_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocable.clustering import fit_state, lloyd

    monkeypatch.setattr(fit_state, "_EVERY", 0.0)
    frames = mixture(40_000, clusters=80, seed=2)
    options: dict[str, Any] = {"random_state": 0, "tol": 1e-6}
    whole = KMeans(20, **options).fit(frames)
    original = lloyd._Fitter._note

    def die_at(passes: int) -> Any:
        count = 0

        def note(self: Any, progress: Progress) -> None:
            nonlocal count
            original(self, progress)
            count += 1
            if count == passes:
                raise KeyboardInterrupt

        return note

    for passes in (1, 4, 9):
        state = tmp_path / f"state-{passes}"
        monkeypatch.setattr(lloyd._Fitter, "_note", die_at(passes))
        with pytest.raises(KeyboardInterrupt):
            KMeans(20, state=state, **options).fit(frames)
        assert state.exists()
        monkeypatch.setattr(lloyd._Fitter, "_note", original)
        resumed = KMeans(20, state=state, **options).fit(frames)
        assert np.array_equal(resumed.cluster_centers_, whole.cluster_centers_)
        assert (resumed.inertia_, resumed.n_iter_, resumed.history_) == (whole.inertia_, whole.n_iter_, whole.history_)
        assert not state.exists()


def test_a_broken_state_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"junk")
    assert FitState(tmp_path / "state").read() is None
    frames = mixture(2000)
    model = KMeans(5, random_state=0, state=tmp_path / "state").fit(frames)
    assert np.array_equal(model.cluster_centers_, KMeans(5, random_state=0).fit(frames).cluster_centers_)


def test_long_fits_show_themselves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vocable.execution import progress

    lines: list[str] = []
    KMeans(20, random_state=0, verbose=lines.append).fit(mixture(10_000))
    assert lines[0].startswith("sample 1, pass 1, ")
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    KMeans(20, random_state=0, verbose=1).fit(mixture(10_000))
    assert capsys.readouterr().err.splitlines() == [f"k-means: {line}" for line in lines]


@given(st.integers(0, 2**63), st.integers(0, 5000), st.integers(1, 2000), st.floats(0, 1))
def test_samples_follow_from_numbers_alone_and_are_nested(seed: int, first: int, count: int, fraction: float) -> None:
    chosen = drawn(seed, first, count, fraction)
    assert np.array_equal(chosen, np.concatenate([drawn(seed, first + at, 1, fraction) for at in range(count)]))
    assert not (drawn(seed, first, count, fraction / 2) & ~chosen).any()


def test_samples_have_the_size_that_was_asked_for() -> None:
    for fraction in (0.01, 0.3, 0.9):
        assert drawn(7, 0, 100_000, fraction).mean() == pytest.approx(fraction, rel=0.1)


@given(st.integers(0, 1000), st.integers(2, 50))
def test_sums_do_not_depend_on_order_or_cuts(seed: int, cuts: int) -> None:
    rng = np.random.default_rng(seed)
    frames = (rng.standard_normal((400, 3)) * 10.0 ** rng.integers(-6, 6, 3)).astype(np.float32)
    labels, weights = rng.integers(0, 7, 400).astype(np.int32), rng.random(400)
    grid = Grid.of(frames, weights)
    whole, cut = ClusterSums(grid, 7), ClusterSums(grid, 7)
    whole.add(frames, labels, weights)
    for part in np.array_split(rng.permutation(400), cuts):
        other = ClusterSums(grid, 7)
        other.add(frames[part], labels[part], weights[part])
        cut.merge(other)
    centroids = rng.standard_normal((7, 3)).astype(np.float32)
    assert np.array_equal(whole.means(centroids), cut.means(centroids))
    assert np.array_equal(whole.weights, cut.weights)
    assert whole.inertia(centroids) == cut.inertia(centroids)
    cut.add(frames, labels, weights, sign=-1)
    assert not cut.weights.any()
    assert np.array_equal(cut.means(centroids), centroids)


def test_sums_are_those_of_float64() -> None:
    frames, labels = mixture(3000), np.random.default_rng(0).integers(0, 5, 3000).astype(np.int32)
    sums = ClusterSums(Grid.of(frames[:100]), 5)
    sums.add(frames, labels)
    centroids = frames[:5]
    for unit in range(5):
        assert np.allclose(sums.means(centroids)[unit], frames[labels == unit].astype(np.float64).mean(axis=0), atol=1e-6)
    expected = ((frames.astype(np.float64) - centroids[labels]) ** 2).sum()
    assert sums.inertia(centroids) == pytest.approx(expected, rel=1e-9)


def test_values_that_could_overflow_the_sums_are_refused() -> None:
    sums = ClusterSums(Grid.of(mixture(100)), 2)
    with pytest.raises(InputError, match="65536 times larger"):
        sums.add(np.full((1, 8), 1e12, np.float32), np.zeros(1, np.int32))


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


def test_a_pandas_like_input_is_taken() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KMeans(3, random_state=0).fit(mixture(100).tolist())
