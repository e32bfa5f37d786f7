"""Samples of a source's frames, drawn by a hash of seed and number.

Frames whose hash lies below a threshold are taken, so samples are nested, follow from the numbers alone, and don't depend on how
frames are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array
from vocable.clustering.sources import ArraySource, FrameSource, Surveyed
from vocable.errors import InputError

Weights = NDArray[np.float64]
_PIECE = 1 << 15  # numbers hashed at a time, in the cache


class Samples:
    """Samples of a source, the smaller within the larger.

    Args:
        surveyed: the source.
        weights: of its frames, if it is in memory.
        seed: of the hash.
        memory: bytes that a sample of a stream may take to be kept; larger ones are gone through in the stream, pass by pass.
    """

    def __init__(self, surveyed: Surveyed, weights: Weights | None, seed: int, memory: int) -> None:
        self._surveyed, self._weights, self._seed, self._memory = surveyed, weights, seed, memory
        self._hashes = hashes(seed, 0, surveyed.count) if isinstance(surveyed.source, ArraySource) else None

    def frames(self, fraction: float) -> tuple[Array, Weights | None]:
        """Return the frames of a sample, and their weights.

        Raises:
            InputError: a stream gives no frames when it is gone through again.
        """
        source = self._surveyed.source
        if isinstance(source, ArraySource):
            if fraction >= 1:
                return source.frames, self._weights
            rows = self._rows(fraction)
            return source.take(rows), None if self._weights is None else self._weights[rows]
        parts = list(_Thinned(source, self._seed, fraction).blocks())
        if not parts:
            raise not_anew(self._surveyed.count, 0)
        return np.concatenate(parts), None

    def source(self, fraction: float) -> tuple[FrameSource, Weights | None]:
        """Return a sample as a source, in memory if the whole is, or if it can be held."""
        size = int(fraction * self._surveyed.count) * self._surveyed.dim * self._surveyed.dtype.itemsize
        if isinstance(self._surveyed.source, ArraySource):
            rows = self._rows(fraction)
            return self._surveyed.source.part(rows), None if self._weights is None else self._weights[rows]
        if size <= self._memory:
            return ArraySource(self.frames(fraction)[0]), None
        return self.stream(fraction), None

    def stream(self, fraction: float) -> FrameSource:
        """Return a sample as a source that is gone through with the whole."""
        return _Thinned(self._surveyed.source, self._seed, fraction)

    def _rows(self, fraction: float) -> NDArray[np.intp]:
        """Return the numbers of a sample's frames, of a source in memory."""
        assert self._hashes is not None
        rows: NDArray[np.intp] = np.flatnonzero(self._hashes < _threshold(fraction))
        return rows


@dataclass(frozen=True)
class _Thinned:
    """A sample of a stream."""

    source: FrameSource
    seed: int
    fraction: float

    def blocks(self) -> Iterator[Array]:
        first = 0
        for block in self.source.blocks():
            taken = chosen(self.seed, first, len(block), self.fraction)
            first += len(block)
            yield block if taken.all() else block[taken]


def chosen(seed: int, first: int, count: int, fraction: float) -> NDArray[np.bool_]:
    """Return which of the frames numbered first … first + count - 1 are in a sample, shape (count,)."""
    taken: NDArray[np.bool_] = hashes(seed, first, count) < _threshold(fraction)
    return taken


def hashes(seed: int, first: int, count: int) -> NDArray[np.uint32]:
    """Return the hashes of the frames numbered first … first + count - 1."""
    out = np.empty(count, dtype=np.uint32)
    mixed_seed = _mixed(np.array([seed], dtype=np.uint64))
    for at in range(0, count, _PIECE):
        piece = out[at : at + _PIECE]
        numbers = np.arange(first + at, first + at + len(piece), dtype=np.uint64)
        piece[:] = _mixed(numbers ^ mixed_seed) >> np.uint64(32)
    return out


def _threshold(fraction: float) -> int:
    return min(int(fraction * 2.0**32), 1 << 32) if fraction < 1 else 1 << 32


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[Any]:
    """Scramble 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))


def not_anew(before: int, now: int) -> InputError:
    """Return the mistake of a stream that doesn't give the same frames again."""
    return InputError(f"a stream gave {before} frames at first, and {now} when gone through again: blocks() has to start anew")
