"""An array as a pickle describes it, checked when it is met and made only when it is asked for.

A file may describe one content as many arrays; making none but the centroids keeps the memory in proportion to the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.errors import UnsafeFileError

_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_MOST_DIMENSIONS = 32
_LONGEST_DIMENSION = 1 << 40

Raw = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Latin1:
    """Bytes that were written as text, a character each: how protocols 0 to 2 keep them."""

    text: str


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Where an array's numbers lie, and what they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    raw: Raw | Latin1
    order: Literal["C", "F"]

    def values(self) -> NDArray[Any]:
        """Return the array itself: native, contiguous, and with no hold on the file's content."""
        raw = self.raw.text.encode("latin1") if isinstance(self.raw, Latin1) else self.raw
        array = np.frombuffer(raw, dtype=self.dtype).reshape(self.shape, order=self.order)
        return np.array(array, dtype=self.dtype.newbyteorder("="), order="C")


def stored_array(shape: object, dtype: np.dtype[Any], raw: object, order: object) -> StoredArray:
    """Check what a file says of an array.

    Raises:
        ValueError: it says something else than a shape, its bytes and their order, or the bytes don't fill the shape.
    """
    if type(raw) not in (bytes, bytearray, memoryview, Latin1):
        raise ValueError("an array's content is no bytes")
    content: Any = raw
    sizes = checked_shape(shape)
    length = len(content.text) if isinstance(content, Latin1) else len(content)
    if size_of(sizes, dtype) != length:
        raise ValueError("an array's bytes don't fill its shape")
    if order not in ("C", "F"):
        raise ValueError("an array's numbers stand neither by rows nor by columns")
    return StoredArray(sizes, dtype, content, "C" if order == "C" else "F")


def checked_shape(shape: object) -> tuple[int, ...]:
    """Return a shape that is one.

    Raises:
        ValueError: it is anything but a tuple of a few whole numbers.
    """
    if type(shape) is not tuple or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("an array's shape is no shape")
    if not all(type(size) is int and 0 <= size < _LONGEST_DIMENSION for size in shape):
        raise ValueError("an array's shape is not of whole numbers")
    return shape


def size_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes that an array takes."""
    return math.prod(shape) * dtype.itemsize


def number_type(code: object, order: str) -> np.dtype[Any]:
    """Return NumPy's type for a code such as "f8".

    Raises:
        ValueError: the code is no text.
        UnsafeFileError: it is not one of plain numbers: objects and records could hold anything.
    """
    if type(code) is not str:
        raise ValueError("an array's type is no text")
    if code not in _NUMBERS:
        raise UnsafeFileError(f"it holds an array of type {code[:20]!r}, where only numbers are read")
    return np.dtype(order + code)
