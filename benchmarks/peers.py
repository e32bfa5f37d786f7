"""Libraries that vocable is measured beside, set up as their users would want them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from harness import Clock, machine
from numpy.typing import NDArray

ITERATIONS = 25
"""Of the peers' fits."""


def faiss_library() -> Any:
    """Return faiss, held to one thread and told what the processor is.

    faiss-cpu brings an OpenBLAS (0.3.15) that takes processors newer than itself for ones without AVX, and is then four times as
    slow as on those it knows.
    """
    if "avx512f" in machine()["flags"]:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


def faiss_centroids(data: NDArray[np.float32], clusters: int, seed: int, clock: Clock) -> NDArray[np.float32]:
    """Return what faiss's k-means finds in all frames, the clock running; by default it takes 256 frames a cluster."""
    library = faiss_library()
    with clock.running():
        model = library.Kmeans(
            data.shape[1], clusters, niter=ITERATIONS, seed=seed + 1, max_points_per_centroid=10**9, min_points_per_centroid=1
        )
        model.train(data)
    found: NDArray[np.float32] = model.centroids
    return found
