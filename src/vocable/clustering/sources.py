"""Where a fit takes its frames from: an array, or a stream of blocks that may be larger than memory.

Frames are numbered in the order in which they come. Samples are drawn by a hash of seed and number below a threshold, so they
are nested, follow from the numbers alone, and don't depend on how frames are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.clustering.assignment import Array
from vocable.errors import InputError

_BLOCK_ROWS = 1 << 14
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

    def __init__(self, frames: Array) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[np.integer[Any]]) -> Array:
        """Return the frames of the given numbers."""
        taken: Array = self.frames[rows]
        return taken

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


def drawn(seed: int, first: int, count: int, fraction: float) -> NDArray[np.bool_]:
    """Return which of the frames numbered first … first + count - 1 belong to a sample of `fraction`."""
    if fraction >= 1:
        return np.ones(count, dtype=bool)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return _mixed(numbers ^ _mixed(np.array([seed], dtype=np.uint64))) < np.uint64(int(fraction * 2.0**64))


def sampled(source: FrameSource, seed: int, fraction: float) -> Iterator[Array]:
    """Yield the frames of a sample, block by block."""
    first = 0
    for block in source.blocks():
        chosen = drawn(seed, first, len(block), fraction)
        first += len(block)
        yield block if chosen.all() else block[chosen]


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


def survey(source: FrameSource, memory: int) -> Surveyed:
    """Go through a source once: check it, measure it, and bring it into memory if `memory` bytes hold it.

    Blocks that are neither float32 nor float64 are converted, as arrays are.

    Raises:
        InputError: no frames, frames of differing dimension, or values that aren't finite, or so large that squares overflow.
    """
    extent = _Extent()
    kept: list[Array] | None = None if isinstance(source, ArraySource) else []
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
        source = ArraySource(np.concatenate(kept))
    elif not isinstance(source, RowSource):
        source = _Converted(source, extent.dtype)
    return Surveyed(source, extent.count, extent.largest, extent.dtype)


class _Extent:
    """Number, type and size of the frames of a source."""

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
            self.largest = np.maximum(self.largest, np.maximum(block.max(axis=0), -block.min(axis=0)))

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


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[Any]:
    """Scramble 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))
