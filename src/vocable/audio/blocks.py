"""`Block`: the unit of work, a run of manifest rows fixed by the manifest alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of
from vocable.audio.faults import crash_of
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError

BLOCK_SECONDS = 120.0
"""Audio in a block: long enough to make the cost of passing it around vanish, short enough to repeat after a kill."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `first`, `first + 1`, … of a manifest; `index` counts blocks from 0."""

    index: int
    first: int
    root: str
    utterances: tuple[Utterance, ...]
    sample_rate: int
    spoiled: frozenset[str] = frozenset()
    """Names of utterances that nobody may read, since reading them ends the process."""

    @property
    def size(self) -> float:
        """Seconds of audio."""
        return sum(max(item.samples, 0) for item in self.utterances) / self.sample_rate

    @property
    def content(self) -> str:
        """Digest of what is worked on, wherever in a manifest it stands: rows, whole paths, and the state of the files."""
        rows = [[spelled(value) for value in astuple(item)] for item in self.utterances]
        return digest_of([self.sample_rate, spelled(os.path.abspath(self.root)), rows])

    @property
    def names(self) -> tuple[str, ...]:
        """What the utterances are called, wherever they stand."""
        return tuple(self._name(item) for item in self.utterances)

    def only(self, names: frozenset[str]) -> Self:
        """Return the block with all utterances spoiled but some."""
        return replace(self, spoiled=self.spoiled | (frozenset(self.names) - names))

    def without(self, names: frozenset[str]) -> Self:
        """Return the block with some utterances spoiled."""
        return replace(self, spoiled=self.spoiled | names)

    def where(self, utterance: Utterance) -> str:
        """Return the whole path of a row's audio.

        Raises:
            AudioFault: it is spoiled.
        """
        path = os.path.join(self.root, utterance.path)
        if self.is_spoiled(utterance):
            raise crash_of(path)
        return path

    def is_spoiled(self, utterance: Utterance) -> bool:
        """Return whether nobody may read a row's audio."""
        return bool(self.spoiled) and self._name(utterance) in self.spoiled

    def _name(self, utterance: Utterance) -> str:
        path = os.path.join(self.root, utterance.path)
        return path if utterance.channel is None else f"{path}:{utterance.channel}"


@dataclass(frozen=True)
class BlockShard:
    """A block with what goes with it in one kind of work."""

    block: Any
    """A `Block`, or another `BlockShard`."""

    @property
    def size(self) -> float:
        """Seconds of audio."""
        return float(self.block.size)

    @property
    def content(self) -> str:
        """Digest of what is worked on."""
        return str(self.block.content)

    @property
    def names(self) -> tuple[str, ...]:
        """What the utterances are called."""
        found: tuple[str, ...] = self.block.names
        return found

    def only(self, names: frozenset[str]) -> Self:
        """Return this with all utterances spoiled but some."""
        return replace(self, block=self.block.only(names))

    def without(self, names: frozenset[str]) -> Self:
        """Return this with some utterances spoiled."""
        return replace(self, block=self.block.without(names))


def blocks_of(manifest: Manifest, seconds: float = BLOCK_SECONDS) -> Iterator[Block]:
    """Cut a manifest into blocks; each ends with the row that fills `seconds`."""
    ends, _ = block_ends(manifest.samples, seconds * manifest.sample_rate)
    first = 0
    for index, end in enumerate([*ends.tolist(), len(manifest)]):
        if end > first:
            utterances = tuple(manifest[at] for at in range(first, end))
            yield Block(index, first, manifest.root, utterances, manifest.sample_rate)
        first = end


def block_ends(samples: NDArray[np.integer[Any]], limit: float, filled: float = 0.0) -> tuple[NDArray[np.int64], float]:
    """Return one past the last row of each block that is full, and how much the rows behind these hold.

    A manifest of any length may be cut part by part: the rest of one part is what the next one's first block has.

    Args:
        samples: of the rows; those that aren't known count nothing.
        limit: samples that fill a block.
        filled: samples of rows before these that are in no full block.
    """
    lengths = np.maximum(samples, 0).astype(np.int64)
    sums = np.cumsum(lengths)
    # From each row the end of the block that begins there, found for all at once; then from block to block.
    after = np.searchsorted(sums, sums - lengths + limit, side="left") + 1
    ends: list[int] = []
    at = int(np.searchsorted(sums, limit - filled, side="left")) + 1
    steps = after.tolist()
    while at <= len(sums):
        ends.append(at)
        at = steps[at] if at < len(sums) else len(sums) + 1
    last = int(sums[ends[-1] - 1]) if ends else 0
    rest = (float(sums[-1]) if len(sums) else 0.0) - last + (0.0 if ends else filled)
    return np.array(ends, dtype=np.int64), rest


def shard_bounds(total: int, nshard: int, rank: int) -> tuple[int, int]:
    """Return the first and one past the last of a shard's items: round(total/nshard*rank), half to even, as fairseq cuts.

    Raises:
        InputError: there are no shards, or the rank isn't one of 0 … nshard-1.
    """
    if nshard < 1:
        raise InputError(f"{nshard} shards hold nothing: give 1 or more")
    if not 0 <= rank < nshard:
        raise InputError(f"shard {rank} of {nshard} doesn't exist: ranks run from 0 to {nshard - 1}")
    return round(total / nshard * rank), round(total / nshard * (rank + 1))


def spelled(value: Any) -> Any:
    """Return a value that JSON can hold; names may hold bytes that are no text, and a lone surrogate is no JSON."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return {"bytes": str(value).encode("utf-8", "surrogateescape").hex()}
    return value
