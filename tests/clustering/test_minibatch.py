from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.estimator_checks import check_estimator

from clustering.made import Stream, mixture
from vocable.clustering import KMeans
from vocable.clustering.kmeans import FAIRSEQ_MINIBATCH
from vocable.clustering.minibatch import MiniBatchSettings, fit_minibatch
from vocable.clustering.seeding import seed_centroids
from vocable.clustering.sources import ArraySource
from vocable.errors import InputError


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


@pytest.mark.filterwarnings("ignore")
def test_mini_batches_pass_all_checks_but_the_one_scikit_learns_own_fails() -> None:
    results = check_estimator(KMeans(n_clusters=3, algorithm="minibatch", max_iter=5), on_fail=None)
    failed = {item["check_name"] for item in results if item["status"] == "failed"}
    assert failed <= {"check_sample_weight_equivalence_on_dense_data"}


def naive(  # noqa: C901
    frames: NDArray[np.float64], weights: NDArray[np.float64], settings: MiniBatchSettings
) -> NDArray[np.float64]:
    """scikit-learn's MiniBatchKMeans (1.9) read step by step, frame by frame, with our order of random draws."""
    generator, count = np.random.default_rng(settings.seed), len(frames)

    def nearest(frame: NDArray[np.float64], centroids: NDArray[np.float64]) -> tuple[int, float]:
        distances = ((frame - centroids) ** 2).sum(axis=1)
        return int(distances.argmin()), float(distances.min())

    size = settings.init_size or 3 * settings.batch_size
    size = min(3 * settings.n_clusters if size < settings.n_clusters else size, count)
    check = generator.integers(0, count, size)
    best, least = None, np.inf
    for _ in range(settings.n_init):
        rows = generator.choice(count, size, replace=False) if size < count else np.arange(count)
        start = seed_centroids(frames[rows], settings.n_clusters, settings.seeding, generator, weights[rows])
        inertia = sum(weights[row] * nearest(frames[row], start)[1] for row in check)
        if inertia < least:
            best, least = start.copy(), inertia
    centroids, gathered = best, np.zeros(settings.n_clusters)
    assert centroids is not None
    batch = min(settings.batch_size, count)
    average, lowest, without, seen = None, np.inf, 0, 0
    chances, equal = weights / weights.sum(), len(set(weights)) == 1
    weights = np.ones(count)  # they decide what is drawn, and nothing more
    for step in range(settings.max_iter * count // batch):
        rows = generator.integers(0, count, batch) if equal else generator.choice(count, batch, p=chances)
        seen += batch
        reassign = seen >= 10 * settings.n_clusters or (gathered == 0).any()
        old, total = centroids.copy(), 0.0
        for row in range(batch):
            total += weights[rows[row]] * nearest(frames[rows[row]], old)[1]
        labels = np.array([nearest(frames[row], old)[0] for row in rows])
        for unit in range(settings.n_clusters):
            mine = rows[labels == unit]
            if weights[mine].sum() > 0:
                added = weights[mine].sum()
                centroids[unit] = (old[unit] * gathered[unit] + weights[mine] @ frames[mine]) / (gathered[unit] + added)
                gathered[unit] += added
        if reassign:
            seen = 0
            weak = gathered < settings.reassignment_ratio * gathered.max()
            if weak.sum() > 0.5 * batch:
                weak[np.argsort(gathered)[int(0.5 * batch) :]] = False
            if weak.any():
                centroids[weak] = frames[rows][generator.choice(batch, int(weak.sum()), replace=False)]
                gathered[weak] = gathered[~weak].min()
        if step == 0:
            continue
        part = total / weights[rows].sum()
        alpha = min(1.0, 2 * batch / (count + 1))
        average = part if average is None else average * (1 - alpha) + part * alpha
        if settings.tol and ((centroids - old) ** 2).sum() <= settings.tol * frames.var(axis=0).mean():
            break
        without = 0 if average < lowest else without + 1
        lowest = min(lowest, average)
        if settings.max_no_improvement is not None and without >= settings.max_no_improvement:
            break
    return centroids


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_no_improvement": 3},
        {"max_no_improvement": 1, "batch_size": 300},
        {"reassignment_ratio": 0.3, "batch_size": 40, "max_no_improvement": None, "max_iter": 2},
        {"reassignment_ratio": 0.9, "batch_size": 9, "max_no_improvement": None, "max_iter": 1},
        {"tol": 0.02, "max_no_improvement": None},
        {"init_size": 20, "n_init": 6, "max_iter": 1},
        {"init_size": 3, "n_init": 2, "max_iter": 1},
        {"n_init": 3, "seeding": "random", "max_iter": 1},
        {"batch_size": 5000, "max_iter": 4, "max_no_improvement": None},
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_are_those_of_scikit_learn_step_by_step(options: dict[str, Any], weighted: bool) -> None:
    chosen: dict[str, Any] = {
        "n_clusters": 6,
        "seeding": "greedy k-means++",
        "n_init": 1,
        "max_iter": 10,
        "batch_size": 60,
        "tol": 0.0,
        "max_no_improvement": 10,
        "reassignment_ratio": 0.0,
        "init_size": None,
        "seed": 3,
        **options,
    }
    settings = MiniBatchSettings(**chosen)
    frames = mixture(400, dim=3, clusters=9).astype(np.float64)
    weights = np.random.default_rng(1).random(400) ** 3 if weighted else None
    found = fit_minibatch(ArraySource(frames), settings, weights)
    expected = naive(frames, np.ones(400) if weights is None else weights, settings)
    assert np.allclose(found.centroids, expected, rtol=1e-9, atol=1e-9)


def test_learning_by_parts_lets_weak_clusters_start_anew() -> None:
    frames = mixture(5000)
    start = np.concatenate([frames[:3], np.full((2, 8), 1e4, np.float32)])
    for ratio, empty in ((0.0, 2), (0.01, 0)):
        model = KMeans(5, init=start, reassignment_ratio=ratio, random_state=0)
        for at in range(0, 5000, 500):
            model.partial_fit(frames[at : at + 500])
        assert (np.bincount(model.predict(frames), minlength=5) == 0).sum() == empty
