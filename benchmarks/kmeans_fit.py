"""How long k-means takes, and how good it is on frames it wasn't fitted to.

    python benchmarks/kmeans_fit.py [--speech DIR]

Held-out frames are other draws of the made mixture, and the same speech at another speed.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import frames
import numpy as np
from harness import Benchmark, Clock
from peers import ITERATIONS, faiss_centroids

HELD_OUT = 200_000

benchmark = Benchmark("kmeans_fit", "Fitting k-means, single-threaded", figures=("held-out inertia a frame",))


def _data(case: dict[str, Any]) -> np.ndarray:
    return np.load(case["train"])


def _scored(centroids: np.ndarray, case: dict[str, Any]) -> dict[str, float]:
    """Return the mean squared distance of held-out frames from their nearest centroids."""
    from vocable.clustering.assignment import NearestCentroid

    held_out = np.load(case["held_out"])
    nearest = NearestCentroid(np.ascontiguousarray(centroids, dtype=np.float32))
    return {"held-out inertia a frame": float(nearest.squared_distances(held_out, nearest(held_out)).mean())}


@benchmark.contender("vocable")
def vocable(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch  # noqa: F401 (as the other libraries, loaded before the clock runs)

    from vocable import KMeans

    data = _data(case)
    KMeans(4, random_state=0).fit(data[:500])
    with clock.running():
        model = KMeans(case["clusters"], random_state=seed).fit(data)
    return _scored(model.cluster_centers_, case)


@benchmark.contender("scikit-learn MiniBatchKMeans, fairseq's settings")
def minibatch(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from sklearn.cluster import MiniBatchKMeans

    data = _data(case)
    with clock.running():
        model = MiniBatchKMeans(
            case["clusters"], init="k-means++", max_iter=100, batch_size=10000, tol=0.0, max_no_improvement=100, n_init=20,
            reassignment_ratio=0.0, compute_labels=False, random_state=seed,
        ).fit(data)  # fmt: skip
    return _scored(model.cluster_centers_, case)


@benchmark.contender(f"faiss, {ITERATIONS} iterations")
def faiss(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    return _scored(faiss_centroids(_data(case), case["clusters"], seed, clock), case)


def _superkmeans(case: dict[str, Any], seed: int, clock: Clock, **options: Any) -> dict[str, Any]:
    from superkmeans import SuperKMeans

    data = _data(case)
    with clock.running():
        model = SuperKMeans(
            case["clusters"], data.shape[1], hierarchical=False, iters=25, sampling_fraction=1.0, n_threads=1, seed=seed + 1,
            max_points_per_cluster=10**9, **options,
        )  # fmt: skip
        centroids = model.train(data)
    return _scored(np.array(centroids), case)


@benchmark.contender("superkmeans, flat, 25 iterations")
def superkmeans(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    return _superkmeans(case, seed, clock, early_termination=False)


@benchmark.contender("superkmeans, flat, ends early")
def superkmeans_early(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    return _superkmeans(case, seed, clock)


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    made: dict[str, Any] = {}

    def add(kind: str, dim: int, clusters: int, count: int, train: Any, held_out: Any) -> None:
        stem = arguments.cache / f"{kind.replace(' ', '-')}-{dim}-{count}"
        paths = frames.kept(stem.with_suffix(".npy"), train), frames.kept(stem.with_suffix(".held-out.npy"), held_out)
        name = f"{kind}, D={dim} K={clusters} N={count:,}"
        made[name] = {"train": str(paths[0]), "held_out": str(paths[1]), "clusters": clusters}

    shapes = ((39, 100, 1_000_000), (768, 500, 200_000), (768, 2000, 200_000))
    for dim, clusters, count in shapes:
        add(
            "made frames", dim, clusters, count, partial(frames.mixture, count, dim, 0), partial(frames.mixture, HELD_OUT, dim, 1)
        )
        if arguments.speech is None:
            continue
        kind, describe = ("MFCC of speech", frames.mfcc) if dim == 39 else ("random encoder on speech", frames.encoded)
        train = partial(describe, arguments.speech, count)
        held_out = partial(describe, arguments.speech, HELD_OUT if dim == 39 else HELD_OUT // 4, frames.HELD_OUT_SPEEDS)
        add(kind, dim, clusters, count, train, held_out)
    return made


if __name__ == "__main__":
    benchmark.main(cases)
