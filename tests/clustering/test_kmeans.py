from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from clustering.made import Stream, mixture
from vocable.clustering import KMeans
from vocable.clustering.lloyd import tolerance
from vocable.errors import InputError


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
        ({"n_clusters": 2.0}, "n_clusters=2.0"),
        ({"max_iter": 2.5}, "max_iter=2.5"),
        ({"n_init": True}, "n_init=True"),
        ({"n_init": "best"}, "n_init='best' should be 'auto' or a whole number"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"reassignment_ratio": -0.1}, "reassignment_ratio=-0.1"),
        ({"batch_size": 10.0}, "batch_size=10.0"),
        ({"init_size": -3}, "init_size=-3"),
        ({"max_no_improvement": -1}, "max_no_improvement=-1"),
        ({"workers": 0}, "workers=0"),
        ({"memory": None}, "memory=None"),
        ({"init": lambda *_: None}, "init=<function"),
        ({"random_state": -1}, "random_state=-1"),
        ({"random_state": "seed"}, "random_state='seed'"),
        ({"device": "gpu"}, "--device gpu: no such kind of device"),
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


def test_without_scikit_learn_an_unfitted_model_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.raises(InputError, match="not fitted yet"):
        KMeans(2).predict(mixture(10))


def test_long_fits_show_themselves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vocable.execution import progress

    lines: list[str] = []
    KMeans(20, random_state=0, verbose=lines.append).fit(mixture(10_000))
    assert lines[0].startswith("sample 1, pass 1, ")
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    KMeans(20, random_state=0, verbose=1).fit(mixture(10_000))
    assert capsys.readouterr().err.splitlines() == [f"k-means: {line}" for line in lines]


def test_a_pandas_like_input_is_taken() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KMeans(3, random_state=0).fit(mixture(100).tolist())


def test_a_far_outlier_does_not_blur_the_rest() -> None:
    frames = mixture(1200).astype(np.float64)
    spoiled = np.concatenate([frames, np.full((1, 8), 1e12)])
    start = np.concatenate([frames[:12], spoiled[-1:]])
    clean = KMeans(12, init=start[:12], tol=0).fit(frames)
    model = KMeans(13, init=start, tol=0).fit(spoiled)
    assert np.allclose(model.cluster_centers_[:12], clean.cluster_centers_, rtol=1e-9)
    assert model.inertia_ == pytest.approx(clean.inertia_, rel=1e-9)
    assert model.history_[-1] * 1201 == pytest.approx(clean.history_[-1] * 1200, rel=1e-9)


@pytest.mark.parametrize("power", [-70, -40, 40, 60])
def test_frames_may_be_large_or_small(power: int) -> None:
    """Scaling frames by a power of two scales everything and changes nothing."""
    frames, scale = mixture(3000, clusters=30), np.float32(2.0**power)
    plain = KMeans(20, init=frames[:20]).fit(frames)
    scaled = KMeans(20, init=frames[:20] * scale).fit(frames * scale)
    assert np.array_equal(scaled.labels_, plain.labels_)
    assert np.array_equal(scaled.cluster_centers_, plain.cluster_centers_ * scale)
    for init in ("k-means++", "random"):  # which frames seeds are drawn from follows from their bits
        before, after = (KMeans(20, init=init, n_init=3, random_state=0).fit(item).inertia_ for item in (frames, frames * scale))
        assert after / 4.0**power < 1.4 * before


def test_values_whose_squares_overflow_are_refused() -> None:
    with pytest.raises(InputError, match="beyond 1e.150, whose squares overflow"):
        KMeans(3).fit(mixture(50).astype(np.float64) * 1e151)


@pytest.mark.parametrize("options", [{}, {"algorithm": "minibatch", "max_iter": 3}])
def test_frames_without_weight_only_get_labels(options: dict[str, Any]) -> None:
    frames, weights = mixture(3000), np.random.default_rng(0).integers(0, 2, 3000).astype(float)
    frames[weights == 0] += 1000
    whole = KMeans(6, random_state=0, **options).fit(frames, sample_weight=weights)
    rest = KMeans(6, random_state=0, **options).fit(frames[weights > 0], sample_weight=weights[weights > 0])
    assert np.array_equal(whole.cluster_centers_, rest.cluster_centers_)
    assert whole.inertia_ == rest.inertia_
    assert np.array_equal(whole.labels_, whole.predict(frames))
    assert whole.labels_.shape == (3000,)


def test_frames_are_labelled_in_the_finer_type() -> None:
    frames = mixture(2000).astype(np.float64)
    model = KMeans(12, random_state=0).fit(frames)
    middle = ((model.cluster_centers_[0] + model.cluster_centers_[1]) / 2)[None].astype(np.float32)
    spread = (middle + 1e-5 * np.random.default_rng(0).standard_normal((500, 8))).astype(np.float32)
    distances = ((spread[:, None].astype(np.float64) - model.cluster_centers_) ** 2).sum(axis=2)
    assert np.array_equal(model.predict(spread), distances.argmin(axis=1))


def test_of_several_starts_the_best_is_kept() -> None:
    frames = mixture(1500, clusters=15)
    several = [KMeans(15, init="random", n_init=8, random_state=seed).fit(frames).inertia_ for seed in range(4)]
    single = [KMeans(15, init="random", n_init=1, random_state=seed).fit(frames).inertia_ for seed in range(12)]
    assert max(several) < np.median(single)


def test_passes_end_when_told() -> None:
    frames = mixture(4000, clusters=60)
    for passes in (1, 2, 5):
        model = KMeans(30, random_state=0, tol=0, max_iter=passes).fit(frames)
        assert (model.n_iter_, len(model.history_)) == (passes, passes + 1)
    loose, tight = (KMeans(30, random_state=0, tol=tol).fit(frames) for tol in (0.5, 1e-9))
    assert loose.n_iter_ == 1 < tight.n_iter_
    gains = [(before - after) / before for before, after in zip(loose.history_, loose.history_[1:], strict=False)]
    assert gains[-1] <= 0.5
    model = KMeans(30, random_state=0, tol=1e-3, init=frames[:30]).fit(frames)
    gains = [(before - after) / before for before, after in zip(model.history_, model.history_[1:], strict=False)]
    settled = next(at for at, gain in enumerate(gains) if gain <= 1e-3)
    assert settled >= 2
    assert gains[-1] <= 1e-3
    assert len(gains) <= settled + 3  # those after it go to the means themselves
    default, told = (KMeans(30, random_state=0, tol=tol).fit(frames) for tol in (None, tolerance(4000, 30, 8)))
    assert default.history_ == told.history_


def test_quick_passes_are_made_for_less() -> None:
    assert tolerance(200_000, 500, 768) == tolerance(10_000_000, 2000, 768) == 5e-4
    assert 1e-4 == tolerance(1000, 10, 39) < tolerance(100_000, 100, 39) < 5e-4


def test_many_frames_are_gone_through_on_growing_samples() -> None:
    lines: list[str] = []
    KMeans(20, random_state=0, verbose=lines.append).fit(mixture(40_000))
    assert sorted({line.partition(",")[0] for line in lines}) == ["sample 1", "sample 2", "sample 3"]
    lines.clear()
    few = mixture(2000)
    KMeans(20, init=few[:20], verbose=lines.append).fit(few)
    assert {line.partition(",")[0] for line in lines} == {"sample 1"}


def test_a_fit_along_directions_is_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401 (so that there is nothing to load)

    from vocable.clustering import labellers, rounded_frames

    rng = np.random.default_rng(0)
    turn, spread = np.linalg.qr(rng.standard_normal((256, 256)))[0], np.arange(1, 257) ** -1.0
    centres = 3 * rng.standard_normal((300, 256))
    frames = ((centres[rng.integers(0, 300, 6000)] + rng.standard_normal((6000, 256))) * spread @ turn).astype(np.float32)
    used: list[object] = []
    made = rounded_frames.RoundedFrames.__init__

    def counted(self: Any, *rest: Any) -> None:
        made(self, *rest)
        used.append((self.rounding, self.directions is not None))

    monkeypatch.setattr(rounded_frames.RoundedFrames, "__init__", counted)
    fits = []
    for speed, many, expected in ((2.0, 192, ("bfloat16", True)), (1.0, 192, ("float32", True)), (1.0, 10**9, None)):
        monkeypatch.setattr(labellers, "bfloat16_speed", lambda speed=speed: speed)
        monkeypatch.setattr(labellers, "_MANY_VALUES", many)
        fits.append(KMeans(700, random_state=0).fit(frames))
        assert set(used) == ({expected} if expected else set())
        used.clear()
    for fit in fits:
        assert np.array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
        assert np.array_equal(fit.labels_, fits[0].labels_)
        assert fit.history_ == fits[0].history_


def test_a_fit_in_bfloat16_is_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401 (so that there is nothing to load, and any gain is taken)

    from vocable.clustering import assignment_screened, labellers

    frames = mixture(12_000, dim=40, clusters=300)
    used: list[int] = []
    screen = assignment_screened.ScreenedNearestCentroid._label_block

    def counted(self: Any, block: Any, *rest: Any) -> int:
        used.append(len(block))
        return screen(self, block, *rest)

    monkeypatch.setattr(assignment_screened.ScreenedNearestCentroid, "_label_block", counted)
    fits = []
    for fast in (True, False):
        monkeypatch.setattr(labellers, "bfloat16_speed", lambda fast=fast: 8.0 if fast else 1.0)
        for options in ({}, {"workers": 2}):
            fits.append(KMeans(200, random_state=0, **options).fit(frames))
            assert bool(used) == fast
        used.clear()
    for fit in fits:
        assert np.array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
        assert np.array_equal(fit.labels_, fits[0].labels_)
        assert fit.history_ == fits[0].history_
