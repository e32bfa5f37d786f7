"""Frames to fit a codebook to: made from audio as they are asked for, or lying in files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, lost
from vocable.audio.manifest import Manifest
from vocable.execution.engine import Engine, Outcome
from vocable.features.kaldi import Frames
from vocable.features.pipeline import BlockFrames, FramePipeline
from vocable.features.store import StoredFrames
from vocable.units.labelling import MadeRows


class AudioFrames:
    """A stream of frames made anew from audio each time it is gone through.

    Args:
        manifest: whose utterances' frames they are.
        pipeline: makes them.
        engine: runs it.
        advance: told the seconds of audio of each block, the first time.
        skipped: is given the utterances that couldn't be used, the first time.
    """

    def __init__(
        self,
        manifest: Manifest,
        pipeline: FramePipeline,
        engine: Engine,
        advance: Callable[[float], None],
        skipped: list[Skipped],
    ) -> None:
        self.cut = list(blocks_of(manifest))
        self._pipeline, self._engine, self._advance, self._skipped = pipeline, engine, advance, skipped
        self._times = 0
        self.made: list[tuple[Block, MadeRows]] = []
        """The blocks whose frames were made, in order, with what is known of them."""

    def blocks(self) -> Iterator[Frames]:
        """Yield the frames of each block."""
        self._times += 1
        first_time = self._times == 1
        for outcome in self._engine.run_shards(self._pipeline, self.cut):
            if first_time:
                self._note(outcome)
            if outcome.result is not None and outcome.result.frames:
                yield np.concatenate(outcome.result.frames)

    def _note(self, outcome: Outcome[Block, BlockFrames]) -> None:
        self._advance(outcome.shard.size)
        if outcome.result is not None:
            self._skipped += [item for _, item in outcome.result.skipped]
            self.made.append((outcome.shard, MadeRows.of(outcome.result)))
            return
        first, last = outcome.shard.utterances[0].path, outcome.shard.utterances[-1].path
        print(f"warning: the codebook had to do without {first} … {last}: {outcome.failure}", file=sys.stderr)
        self._skipped += [lost(item.path, outcome.failure or "") for item in outcome.shard.utterances]


class StoredSample:
    """Some utterances of memory-mapped stores, as one source of frames that needn't fit into memory."""

    def __init__(self, stores: list[StoredFrames], chosen: list[int]) -> None:
        self._stores = stores
        lengths = np.concatenate([store.lengths for store in stores])[chosen]
        firsts = np.concatenate([np.cumsum(store.lengths) - store.lengths for store in stores])[chosen]
        self._store = np.repeat(np.arange(len(stores)), [len(store) for store in stores])[chosen]
        self._first, self._length, self._ends = firsts, lengths, np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def blocks(self) -> Iterator[Frames]:
        """Yield the frames of each utterance."""
        for store, first, length in zip(self._store.tolist(), self._first.tolist(), self._length.tolist(), strict=True):
            yield self._stores[store].array[first : first + length]

    def take(self, rows: NDArray[np.integer[Any]]) -> Frames:
        """Return the frames of the given numbers."""
        which = np.searchsorted(self._ends, rows, side="right")
        stores = self._store[which]
        at = self._first[which] + rows - (self._ends - self._length)[which]
        out = np.empty((len(rows), self._stores[0].dim), dtype=np.float32)
        for store in np.unique(stores):
            mine = np.flatnonzero(stores == store)
            mine = mine[np.argsort(at[mine], kind="stable")]  # in the order of the file, so that a disk is read forwards
            out[mine] = self._stores[store].array[at[mine]]
        return out
