"""A `.npy` file of centroids, believed only as far as its size goes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vocable.checkpoints.centroid_matrix import require_matrix
from vocable.checkpoints.compressed import LARGEST_MODEL
from vocable.checkpoints.lookalikes import refuse_frames
from vocable.checkpoints.stored_arrays import checked_shape, size_of
from vocable.errors import InputError

_MAGIC = b"\x93NUMPY"
# NumPy itself believes no header of more than 10,000 characters.
_LONGEST_HEADER = 1 << 14


def is_npy(path: Path) -> bool:
    """Tell by content whether a file is a `.npy`."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_npy(path: Path) -> NDArray[np.floating[Any]]:
    """Return the matrix in a `.npy` of floating-point numbers.

    Raises:
        InputError: it is damaged, holds something else, or holds frames, as its neighbours say.
    """
    refuse_frames(path)
    try:
        shape, dtype, start = _header(path)
    except Exception as error:  # the header is Python text, which can be wrong in every way that Python knows
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"{path} is not a whole .npy file ({what}): make it again") from error
    require_matrix(path, shape, dtype)
    expected, size = start + size_of(shape, dtype), path.stat().st_size
    if expected != size:
        raise InputError(f"{path} is not a whole .npy file (it has {size} bytes, its header says {expected}): make it again")
    if size > LARGEST_MODEL:
        raise InputError(f"{path} holds {shape[0]} rows, which are frames rather than centroids: fit a codebook to them")
    array: NDArray[np.floating[Any]] = np.load(path, allow_pickle=False)
    return array


def npy_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the array in a `.npy` of floating-point numbers, whose size was compared with it.

    Raises:
        InputError: it is damaged, or holds something else.
    """
    try:
        shape, dtype, start = _header(path)
        whole = dtype.kind == "f" and start + size_of(shape, dtype) == path.stat().st_size
    except Exception as error:
        raise InputError(
            f"{path} is not a whole .npy file ({type(error).__name__}: {str(error)[:200]}): make it again"
        ) from error
    if not whole:
        raise InputError(f"{path} is not a whole .npy file of floating-point numbers: make it again")
    return shape


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_LONGEST_HEADER))
    version = npy_format.read_magic(head)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read(head)
    return checked_shape(shape), dtype, head.tell()
