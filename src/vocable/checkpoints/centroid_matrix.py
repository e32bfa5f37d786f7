"""What makes a matrix a codebook's, whichever file it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError


def require_matrix(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what isn't a matrix of floating-point numbers.

    Raises:
        InputError: it isn't.
    """
    if len(shape) != 2 or 0 in shape or dtype.kind != "f":
        raise InputError(f"{path} should hold centroids of shape (clusters, dim), but holds {str(dtype)[:60]} of shape {shape}")


def checked_centroids(path: Path, centroids: NDArray[Any]) -> NDArray[np.float32]:
    """Return centroids as float32, in which all work on them is done.

    Args:
        path: where they are from, for the messages.
        centroids: of shape (clusters, dim), of any floating-point type.

    Raises:
        InputError: they have another shape or type, or are not finite as float32.
    """
    require_matrix(path, centroids.shape, centroids.dtype)
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(centroids, dtype=np.float32)
    # Checked after the cast: 1e300 is finite as float64 only.
    if not np.isfinite(single).all():
        raise InputError(f"{path} holds centroids that are NaN or infinite as float32: fit it again")
    return single
