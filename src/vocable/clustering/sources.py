"""Where a fit takes its frames from: an array, or a stream of blocks that may be larger than memory.

Frames are numbered in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.clustering.assignment import Array
from vocable.errors import InputError

_BLOCK_ROWS = 1 << 14
_LONG_LOOP = 1 << 10
_LARGEST = 1e150  # squares of larger values overflow


@runtime_checkable
class FrameSource(Protocol):
    """Frames that can be gone through again and again, in the same order."""

    def blocks(self) -> Iterator[Array]:
        """Yield frames of shape (frames, dim), in pieces of any size."""


@runtime_checkable
class RowSource(FrameSource, Protocol):
    """A source any of whose frames can be had by number, as those of a file that is mapped into memory."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.integer[Any]]) -> Array:
        """Return the frames of the given numbers, shape (rows, dim)."""


class ArraySource:
    """Frames in memory."""

    frames: Array

    def __init__(self, frames: Array) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def largest(self) -> NDArray[np.float64]:
        """Return the largest absolute value of each column; NaN where one is."""
        largest = np.zeros(self.frames.shape[1])
        for block in self.blocks():
            largest = np.maximum(largest, _largest(block))
        return largest

    def part(self, rows: NDArray[np.intp]) -> ArraySource:
        """Return some of the frames as a source."""
        return ArraySource(self.take(rows))

    def take(self, rows: NDArray[np.integer[Any]]) -> Array:
        """Return the frames of the given numbers."""
        return np.take(self.frames, rows, axis=0, mode="clip")

    def blocks(self) -> Iterator[Array]:
        """Yield views of the frames."""
        return (self.frames[first : first + _BLOCK_ROWS] for first in range(0, len(self.frames), _BLOCK_ROWS))


class _Converted:
    """A source whose blocks are brought to one type."""

    def __init__(self, source: FrameSource, dtype: np.dtype[Any]) -> None:
        self._source, self._dtype = source, dtype

    def blocks(self) -> Iterator[Array]:
        return (np.asarray(block, dtype=self._dtype) for block in self._source.blocks())


def pieces(blocks: Iterable[Array], rows: int) -> Iterator[Array]:
    """Cut and join blocks to pieces of `rows` frames each, of which the last may have fewer."""
    waiting: list[Array] = []
    held = 0
    for block in blocks:
        first = 0
        while len(block) - first >= rows - held:
            last = first + rows - held
            waiting.append(block[first:last])
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting, held, first = [], 0, last
        if first < len(block):
            waiting.append(block[first:])
            held += len(block) - first
    if waiting:
        yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)


@dataclass(frozen=True)
class Surveyed:
    """A source that was gone through once."""

    source: FrameSource
    count: int
    largest: NDArray[np.float64]
    """Absolute value in each column, shape (dim,)."""
    dtype: np.dtype[Any]

    @property
    def dim(self) -> int:
        """Values in a frame."""
        return len(self.largest)


def survey(source: FrameSource, memory: int, placed: Callable[[Array], ArraySource] = ArraySource) -> Surveyed:
    """Go through a source once: check it, measure it, and bring it into memory if `memory` bytes hold it.

    Blocks that are neither float32 nor float64 are converted, as arrays are.

    Args:
        source: of frames.
        memory: bytes.
        placed: makes a source of frames brought into memory.

    Raises:
        InputError: no frames, frames of differing dimension, or values that aren't finite, or so large that squares overflow.
    """
    extent = Extent()
    if isinstance(source, ArraySource):
        extent.count, extent.dtype, extent.largest = len(source), source.frames.dtype, source.largest()
        extent.check()
        return Surveyed(source, extent.count, extent.largest, extent.dtype)
    kept: list[Array] | None = []
    size = 0
    for given in source.blocks():
        block = as_frames(given)
        extent.add(block)
        size += block.nbytes
        if kept is not None and size > memory:
            kept = None
        if kept is not None:
            kept.append(block)
    extent.check()
    if kept is not None:
        source = placed(np.concatenate(kept))
    elif not isinstance(source, RowSource):
        source = _Converted(source, extent.dtype)
    return Surveyed(source, extent.count, extent.largest, extent.dtype)


class Extent:
    """Number, type and size of frames."""

    dtype: np.dtype[Any]
    largest: NDArray[np.float64]

    def __init__(self) -> None:
        self.count, self._blocks = 0, 0

    def add(self, block: Array) -> None:
        """Take a block in.

        Raises:
            InputError: it is of another shape or type than those before.
        """
        self._blocks += 1
        if block.ndim != 2:
            raise InputError(f"a block of frames has shape {block.shape}, not (frames, values)")
        if self._blocks == 1:
            self.dtype = block.dtype
            self.largest = np.zeros(block.shape[1])
        if block.shape[1] != len(self.largest):
            raise InputError(f"a block of frames has shape {block.shape}, others have {len(self.largest)} values a frame")
        if block.dtype != self.dtype:
            raise InputError(f"some blocks of frames are {self.dtype}, others {block.dtype}: give all in one type")
        self.count += len(block)
        if len(block):
            self.largest = np.maximum(self.largest, _largest(block))

    def merge(self, other: Extent) -> None:
        """Take in what another has seen.

        Raises:
            InputError: it saw frames of another shape or type.
        """
        if not other._blocks:
            return
        if not self._blocks:
            self.dtype, self.largest = other.dtype, np.zeros_like(other.largest)
        if len(other.largest) != len(self.largest) or other.dtype != self.dtype:
            raise InputError(
                f"some blocks of frames hold {len(self.largest)} {self.dtype} values a frame, others {len(other.largest)} "
                f"{other.dtype}: give all alike"
            )
        self.count, self._blocks = self.count + other.count, self._blocks + other._blocks
        self.largest = np.maximum(self.largest, other.largest)

    def check(self) -> None:
        """Refuse what can't be clustered.

        Raises:
            InputError: no frames, values that aren't finite, or too large.
        """
        if not self.count:
            raise InputError("there are no frames to cluster")
        if not np.isfinite(self.largest).all():
            raise InputError("Input X contains NaN or infinity: leave such frames out")
        if self.largest.max(initial=0) > _LARGEST:
            raise InputError(f"Input X contains values beyond {_LARGEST:g}, whose squares overflow: scale the frames down")


def _largest(block: Array) -> Array:
    """Return the largest absolute value of each column; several rows at a time, for loops that are worth their start."""
    rows = max(1, _LONG_LOOP // max(1, block.shape[1]))
    whole = len(block) - len(block) % rows
    long = block[:whole].reshape(-1, rows * block.shape[1])
    largest = np.zeros(block.shape[1], dtype=block.dtype)
    for part in (long, block[whole:]):
        if len(part):
            extent: Array = np.maximum(part.max(axis=0), -part.min(axis=0))
            largest = np.maximum(largest, extent.reshape(-1, block.shape[1]).max(axis=0))
    return largest


def as_frames(values: ArrayLike) -> Array:
    """Return values as float32 if they are that, and as float64 otherwise."""
    array = np.asarray(values)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def check_finite(frames: Array) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: a ValueError too, as scikit-learn's users expect.
    """
    # A finite sum proves every value finite; float64 values may overflow it, and are then looked at one by one.
    if not np.isfinite(frames.sum(dtype=np.float64)) and not np.isfinite(frames).all():
        raise InputError("Input X contains NaN or infinity: leave such frames out")
