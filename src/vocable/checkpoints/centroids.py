"""Centroids from files that other programs wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.checkpoints.centroid_matrix import checked_centroids
from vocable.checkpoints.kmeans_pickle import read_kmeans_pickle
from vocable.checkpoints.npy import is_npy, read_npy


@dataclass(frozen=True)
class ForeignCentroids:
    """What such a file holds: centroids of shape (clusters, dim), and the kind of file."""

    centroids: NDArray[np.float32]
    origin: str


def read_centroids(path: Path) -> ForeignCentroids:
    """Read a scikit-learn model (pickle or joblib), or a `.npy`; the content says which.

    Raises:
        InputError: the file is neither, or its centroids can't be used.
        UnsafeFileError: it asks for code to be run.
    """
    if is_npy(path):
        return ForeignCentroids(checked_centroids(path, read_npy(path)), "npy")
    return ForeignCentroids(checked_centroids(path, read_kmeans_pickle(path)), "scikit-learn")
