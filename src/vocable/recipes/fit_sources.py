"""Frames to fit a codebook to: made from audio as they are asked for, or lying in files; worked on where they are."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, lost
from vocable.audio.manifest import Manifest
from vocable.clustering.spread import Fold, Numbered
from vocable.errors import InputError
from vocable.execution.engine import Engine
from vocable.features.kaldi import Frames
from vocable.features.pipeline import BlockFrames, FramePipeline
from vocable.features.store import StoredFrames
from vocable.units.labelling import MadeRows

_RUNS = 1024
"""Into so many runs frames are cut at the most, whoever works on them: their sums pass through one process."""
_RUN_ROWS = 1 << 18  # frames of a run that lies in files, at the least


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
        spec = pipeline.spec
        self.expected_bytes = 4 * spec.dim * sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
        """About how many bytes all frames take."""
        self._firsts = [0] * len(self.cut)

    def blocks(self) -> Iterator[Frames]:
        """Yield the frames of each block."""
        self._times += 1
        first_time = self._times == 1
        for outcome in self._engine.run_shards(self._pipeline, self.cut):
            if first_time:
                made = outcome.result
                self._note(outcome.shard, None if made is None else _Known.of(made), outcome.failure)
            if outcome.result is not None and outcome.result.frames:
                yield np.concatenate(outcome.result.frames)

    def fold(self, job: Fold) -> Iterator[Any]:
        """Yield what a job makes of each run of blocks, where their frames are made.

        Raises:
            InputError: a run could be made before and can't be made now.
        """
        self._times += 1
        first_time = self._times == 1
        size = max(1, -(-len(self.cut) // _RUNS))
        runs = [
            _Run(tuple(self.cut[at : at + size]), tuple(self._firsts[at : at + size])) for at in range(0, len(self.cut), size)
        ]
        for outcome in self._engine.run_shards(_FoldAudio(self._pipeline, job), runs):
            run = outcome.shard
            known = [None] * len(run.blocks) if outcome.result is None else outcome.result[1]
            if first_time:
                for block, own in zip(run.blocks, known, strict=True):
                    self._note(block, own, outcome.failure)
            elif outcome.result is None:
                raise InputError(
                    f"frames of {run.blocks[0].utterances[0].path} and after could be made before: {outcome.failure}"
                )
            if outcome.result is not None:
                yield outcome.result[0]

    def count_off(self, lengths: Sequence[int]) -> None:
        """Take in how many frames each block has that frames were made of."""
        firsts = dict(zip((block.index for block, _ in self.made), np.cumsum([0, *lengths]).tolist(), strict=False))
        self._firsts = [firsts.get(block.index, 0) for block in self.cut]

    def _note(self, block: Block, known: _Known | None, failure: str | None) -> None:
        self._advance(block.size)
        if known is not None:
            self._skipped += known.skipped
            self.made.append((block, known.made))
            return
        first, last = block.utterances[0].path, block.utterances[-1].path
        print(f"warning: the codebook had to do without {first} … {last}: {failure}", file=sys.stderr)
        self._skipped += [lost(item.path, failure or "") for item in block.utterances]


@dataclass(frozen=True)
class _Known:
    """What is known of a block whose frames were made."""

    made: MadeRows
    skipped: list[Skipped]

    @classmethod
    def of(cls, made: BlockFrames) -> Self:
        return cls(MadeRows.of(made), [item for _, item in made.skipped])


@dataclass(frozen=True)
class _Run:
    """Blocks that one process works on, with the numbers of their first frames."""

    blocks: tuple[Block, ...]
    firsts: tuple[int, ...]

    @property
    def size(self) -> float:
        return sum(block.size for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.names))

    def only(self, names: frozenset[str]) -> Self:
        return replace(self, blocks=tuple(block.only(names) for block in self.blocks))

    def without(self, names: frozenset[str]) -> Self:
        return replace(self, blocks=tuple(block.without(names) for block in self.blocks))


@dataclass(frozen=True)
class _FoldAudio:
    """A job: make the frames of a run, and of them what is wanted."""

    pipeline: FramePipeline
    job: Fold

    def open(self, device: str) -> Callable[[_Run], tuple[Any, list[_Known]]]:
        frames_of, make = self.pipeline.open(device), self.job.open(device)
        empty = np.empty((0, self.pipeline.spec.dim), np.float32)

        def run(given: _Run) -> tuple[Any, list[_Known]]:
            known: list[_Known] = []

            def numbered() -> Iterator[Numbered]:
                for first, block in zip(given.firsts, given.blocks, strict=True):
                    made = frames_of(block)
                    known.append(_Known.of(made))
                    yield first, np.concatenate(made.frames) if made.frames else empty

            return make(numbered()), known

        return run


class StoredSample:
    """Some utterances of memory-mapped stores, as one source of frames that needn't fit into memory.

    Args:
        stores: the files.
        chosen: numbers of utterances, counted through all stores.
        engine: works on them where they are more than memory holds.
    """

    def __init__(self, stores: list[StoredFrames], chosen: list[int], engine: Engine) -> None:
        self._stores, self._engine = stores, engine
        lengths = np.concatenate([store.lengths for store in stores])[chosen]
        firsts = np.concatenate([np.cumsum(store.lengths) - store.lengths for store in stores])[chosen]
        self._store = np.repeat(np.arange(len(stores)), [len(store) for store in stores])[chosen]
        self._first, self._length, self._ends = firsts, lengths, np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def expected_bytes(self) -> int:
        """How many bytes all frames take."""
        return 4 * len(self) * self._stores[0].dim

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

    def fold(self, job: Fold) -> Iterator[Any]:
        """Yield what a job makes of each run of utterances, which whoever does it reads from the files.

        Raises:
            InputError: a run could not be worked on.
        """
        paths = [store.path.absolute() for store in self._stores]
        rows = max(_RUN_ROWS, -(-len(self) // _RUNS))
        cuts = np.searchsorted(self._ends, np.arange(rows, len(self) + rows, rows))
        bounds = [0, *np.minimum(cuts + 1, len(self._ends)).tolist()]
        runs = [
            _StoredRun(
                tuple(paths),
                tuple(self._store[at:end].tolist()),
                tuple(self._first[at:end].tolist()),
                tuple(self._length[at:end].tolist()),
                int(self._ends[at - 1]) if at else 0,
            )
            for at, end in itertools.pairwise(bounds)
            if end > at
        ]
        for outcome in self._engine.run_shards(_FoldStored(job), runs):
            if outcome.result is None:
                raise InputError(f"frames of {paths[0].parent} could not be worked on: {outcome.failure}")
            yield outcome.result[0]

    def count_off(self, lengths: Sequence[int]) -> None:
        """Frames are numbered already."""


@dataclass(frozen=True)
class _StoredRun:
    """Utterances of stores that one process works on."""

    paths: tuple[Path, ...]
    stores: tuple[int, ...]
    firsts: tuple[int, ...]
    lengths: tuple[int, ...]
    number: int
    """Of the first frame."""

    @property
    def size(self) -> float:
        return float(sum(self.lengths))


@dataclass(frozen=True)
class _FoldStored:
    """A job: read a run of frames, and make of them what is wanted."""

    job: Fold

    def open(self, device: str) -> Callable[[_StoredRun], tuple[Any]]:
        make = self.job.open(device)
        arrays: dict[Path, Frames] = {}

        def numbered(run: _StoredRun) -> Iterable[Numbered]:
            number = run.number
            for store, first, length in zip(run.stores, run.firsts, run.lengths, strict=True):
                path = run.paths[store]
                if path not in arrays:
                    arrays[path] = StoredFrames(path).array
                yield number, arrays[path][first : first + length]
                number += length

        return lambda run: (make(numbered(run)),)
