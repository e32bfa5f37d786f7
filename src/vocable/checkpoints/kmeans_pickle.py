"""Centroids out of scikit-learn's k-means models, pickled or dumped with joblib, without running anything in the file.

A pickle is a program that may call any function it names. This reader knows the few names that such a model needs and puts
inert stand-ins of ours in their place: arrays are built from shape, type and bytes; everything else is remembered and never
called. A file that names anything else is refused. Neither scikit-learn nor joblib is imported, so their versions don't matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.checkpoints.compressed import read_decompressed
from vocable.checkpoints.lookalikes import REMEDY, refuse_lookalike
from vocable.checkpoints.pickle_machine import carry_out
from vocable.checkpoints.stand_ins import KNOWN, Array, Estimator
from vocable.errors import InputError, UnsafeFileError

# A protocol number, or (protocols 0 and 1, which have none) the name or the mark that every object starts with.
_BEGINNINGS = (b"\x80", b"c", b"(")


def read_kmeans_pickle(path: Path) -> NDArray[np.floating[Any]]:
    """Return `cluster_centers_` of a KMeans or MiniBatchKMeans, shape (clusters, dim), in the type it was stored.

    Reads plain pickles and joblib files of old and new versions, plain or compressed with gzip, zlib, bzip2, xz or lzma.

    Raises:
        UnsafeFileError: the file asks for a function or class that no k-means model needs.
        InputError: it is damaged, or something else than a fitted k-means model.
    """
    refuse_lookalike(path)
    content = read_decompressed(path)
    if not content.startswith(_BEGINNINGS):
        raise InputError(f"{path} is no codebook: it starts like none of their formats; {REMEDY}")
    try:
        centroids = _centroids(carry_out(content, KNOWN))
    except UnsafeFileError as error:
        raise UnsafeFileError(
            f"{path} was not read, and nothing in it was run: {error}; "
            "get the model from a source you trust, or its centroids as .npy"
        ) from error
    except Exception as error:  # a broken stream can fail in any way: short reads, an empty stack, bad text
        raise InputError(f"{path} is cut short or damaged ({type(error).__name__}: {str(error)[:200]}): copy it again") from error
    if centroids is None:
        raise InputError(f"{path} holds no fitted k-means model: a matrix cluster_centers_ was expected")
    return centroids


def _centroids(found: object) -> NDArray[Any] | None:
    if isinstance(found, Estimator):
        found = found.state.get("cluster_centers_")
    stored = found.stored if isinstance(found, Array) else None
    return stored.values() if stored is not None and len(stored.shape) == 2 and stored.dtype.kind == "f" else None
