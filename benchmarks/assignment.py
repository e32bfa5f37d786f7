"""How long it takes to label frames with their nearest centroids, and how many labels are wrong.

    python benchmarks/assignment.py [--speech DIR]

Frames come as dumped features do: one utterance of 200 to 800 frames after another, 300,000 in all. fairseq's dump_km_label
labels them one by one, and so do the others here, but for faiss and superkmeans, which are given all at once, and vocable, which
is given them both ways: its commands label blocks of many utterances. Small shapes are labelled several times. A label is wrong
if float64 finds another centroid nearer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import frames
import numpy as np
from harness import Benchmark, Clock
from numpy.typing import NDArray
from peers import faiss_library

COUNT = 300_000

WRONG = "wrong of 300,000"

benchmark = Benchmark("assignment", "Labelling frames with their nearest centroids, single-threaded", figures=(WRONG,))
Label = Callable[[NDArray[np.float32]], NDArray[Any]]


def _run(case: dict[str, Any], clock: Clock, make: Callable[[NDArray[np.float32]], Label], whole: bool = False) -> dict[str, Any]:
    """Label the frames of a case, the clock running, and count what is wrong."""
    data, centroids = np.load(case["frames"]), np.load(case["centroids"])
    label = make(centroids)
    lengths = np.random.default_rng(0).integers(200, 800, len(data) // 200).cumsum()
    utterances = [data] if whole else np.split(data, lengths[lengths < len(data)])
    labels = [label(utterance) for utterance in utterances]
    with clock.running():
        for _ in range(case["times"]):
            labels = [label(utterance) for utterance in utterances]
    found, true = np.concatenate(labels).astype(np.int64), np.load(case["labels"])
    return {WRONG: int((found != true).sum())}


@benchmark.contender("vocable")
def vocable(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch  # noqa: F401 (as the other libraries, loaded before the clock runs)

    from vocable.clustering.labellers import labeller_for

    return _run(case, clock, labeller_for("cpu", COUNT))


@benchmark.contender("vocable, all at once")
def vocable_whole(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch  # noqa: F401

    from vocable.clustering.labellers import labeller_for

    return _run(case, clock, labeller_for("cpu", COUNT), whole=True)


@benchmark.contender("vocable without torch")
def vocable_numpy(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable.clustering.assignment import NearestCentroid

    return _run(case, clock, NearestCentroid)


@benchmark.contender("fairseq's formula in NumPy")
def fairseq(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    def make(centroids: NDArray[np.float32]) -> Label:
        columns, squares = centroids.T, (centroids.T**2).sum(0, keepdims=True)
        return lambda x: ((x**2).sum(1, keepdims=True) - 2 * np.matmul(x, columns) + squares).argmin(axis=1)

    return _run(case, clock, make)


@benchmark.contender("scikit-learn KMeans.predict")
def sklearn(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from sklearn.cluster import KMeans

    def make(centroids: NDArray[np.float32]) -> Label:
        model = KMeans(len(centroids), init=centroids, n_init=1, max_iter=1).fit(centroids)
        model.cluster_centers_ = centroids
        return model.predict

    return _run(case, clock, make)


@benchmark.contender("faiss IndexFlatL2")
def faiss(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    library = faiss_library()

    def make(centroids: NDArray[np.float32]) -> Label:
        index = library.IndexFlatL2(centroids.shape[1])
        index.add(centroids)
        return lambda x: index.search(x, 1)[1][:, 0]

    return _run(case, clock, make, whole=True)


@benchmark.contender("superkmeans assign")
def superkmeans(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from superkmeans import SuperKMeans

    def make(centroids: NDArray[np.float32]) -> Label:
        model = SuperKMeans(len(centroids), centroids.shape[1], n_threads=1)
        return lambda x: model.assign(x, centroids)

    return _run(case, clock, make, whole=True)


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    made: dict[str, Any] = {}

    def add(kind: str, dim: int, clusters: int, make: Callable[[], NDArray[np.float32]]) -> None:
        stem = arguments.cache / f"{kind.replace(' ', '-')}-{dim}-{COUNT}"
        data = frames.kept(stem.with_suffix(".npy"), make)
        centroids = frames.kept(stem.with_suffix(f".centroids-{clusters}.npy"), lambda: _centroids(data, clusters))
        labels = frames.kept(stem.with_suffix(f".labels-{clusters}.npy"), lambda: _nearest(np.load(data), np.load(centroids)))
        name = f"{kind}, D={dim} K={clusters}"
        made[name] = {"frames": str(data), "centroids": str(centroids), "labels": str(labels), "times": 10 if dim == 39 else 1}

    for dim, clusters in ((39, 100), (768, 500), (768, 2000)):
        add("made frames", dim, clusters, lambda dim=dim: frames.mixture(COUNT, dim, 0))
        if arguments.speech is not None:
            kind, describe = ("MFCC of speech", frames.mfcc) if dim == 39 else ("random encoder on speech", frames.encoded)
            add(kind, dim, clusters, lambda describe=describe: describe(arguments.speech, COUNT))
    return made


def _centroids(data: Any, clusters: int) -> NDArray[np.float32]:
    """Return a codebook of the frames, fitted quickly."""
    from vocable import KMeans

    return KMeans(clusters, random_state=0, max_iter=2).fit(np.load(data)[:100_000]).cluster_centers_


def _nearest(data: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return labels by float64, exact to its last digits: where two are near, the sums of squared differences decide."""
    wide = centroids.astype(np.float64)
    shift = wide.mean(axis=0)
    columns, squares = (wide - shift).T.copy(), ((wide - shift) ** 2).sum(axis=1)
    labels = np.empty(len(data), dtype=np.int64)
    for first in range(0, len(data), 4096):
        x = data[first : first + 4096].astype(np.float64)
        distances = squares - 2 * ((x - shift) @ columns)
        two = np.argpartition(distances, 1, axis=1)[:, :2]
        exact = ((x[:, None] - wide[two]) ** 2).sum(axis=2)
        ties = exact[:, 0] == exact[:, 1]
        labels[first : first + 4096] = np.where(ties, two.min(axis=1), two[np.arange(len(x)), exact.argmin(axis=1)])
    return labels


if __name__ == "__main__":
    benchmark.main(cases)
