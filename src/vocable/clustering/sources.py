"""Where a fit takes its frames from: an array, or a stream of blocks that may be larger than memory.

Frames are numbered in the order in which they come. Samples are drawn by a hash of seed and number below a threshold, so they
are nested, follow from the numbers alone, and don't depend on how frames are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array
from vocable.errors import InputError

_BLOCK_ROWS = 1 << 14


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


def survey(source: FrameSource, memory: int) -> tuple[int, FrameSource]:
    """Go through a source once: check it, count its frames, and bring it into memory if `memory` bytes hold it.

    Raises:
        InputError: no frames, frames of differing dimension, or values that aren't finite.
    """
    if isinstance(source, ArraySource):
        check_finite(source.frames)
        return len(source.frames), source
    kept: list[Array] | None = []
    count, size, dim = 0, 0, None
    for block in source.blocks():
        if block.ndim != 2 or (dim is not None and block.shape[1] != dim):
            raise InputError(f"a block of frames has shape {block.shape}, others have {dim} values a frame")
        check_finite(block)
        dim = block.shape[1]
        count += len(block)
        size += block.nbytes
        if kept is not None:
            if size <= memory:
                kept.append(block)
            else:
                kept = None
    if not count:
        raise InputError("there are no frames to cluster")
    return count, source if kept is None else ArraySource(np.concatenate(kept))


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
