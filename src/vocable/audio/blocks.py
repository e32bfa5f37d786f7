"""`Block`: the unit of work, a run of manifest rows fixed by the manifest alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError

BLOCK_SECONDS = 120.0
"""Audio in a block: long enough to make the cost of passing it around vanish, short enough to repeat after a kill."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `first`, `first + 1`, … of a manifest; `index` counts blocks from 0."""

    index: int
    first: int
    utterances: tuple[Utterance, ...]
    sample_rate: int

    @property
    def size(self) -> float:
        """Seconds of audio."""
        return sum(max(item.samples, 0) for item in self.utterances) / self.sample_rate


def blocks_of(manifest: Manifest, seconds: float = BLOCK_SECONDS) -> Iterator[Block]:
    """Cut a manifest into blocks; each ends with the row that fills `seconds`."""
    index, first, filled = 0, 0, 0
    limit = seconds * manifest.sample_rate
    for row, samples in enumerate(manifest.samples.tolist()):
        filled += max(samples, 0)
        if filled >= limit or row == len(manifest) - 1:
            yield Block(index, first, tuple(manifest[at] for at in range(first, row + 1)), manifest.sample_rate)
            index, first, filled = index + 1, row + 1, 0


def shard_bounds(total: int, nshard: int, rank: int) -> tuple[int, int]:
    """Return the first and one past the last of a shard's items: round(total/nshard*rank), half to even, as fairseq cuts.

    Raises:
        InputError: the rank isn't one of 0 … nshard-1.
    """
    if nshard < 1 or not 0 <= rank < nshard:
        raise InputError(f"shard {rank} of {nshard} doesn't exist: ranks run from 0 to nshard - 1")
    return round(total / nshard * rank), round(total / nshard * (rank + 1))
