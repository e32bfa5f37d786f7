"""`Block`: the unit of work, a run of manifest rows fixed by the manifest alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

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
    index, first, filled = 0, 0, 0
    limit = seconds * manifest.sample_rate
    for row, samples in enumerate(manifest.samples.tolist()):
        filled += max(samples, 0)
        if filled >= limit or row == len(manifest) - 1:
            yield Block(index, first, manifest.root, tuple(manifest[at] for at in range(first, row + 1)), manifest.sample_rate)
            index, first, filled = index + 1, row + 1, 0


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
