"""Cepstra of a corpus as a source to fit to, with what codebooks of speakers need beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.anonymization.cepstra import SPEC, cepstra_of
from vocable.anonymization.speech_parts import BINS, taken_apart
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, lost
from vocable.audio.manifest import Manifest
from vocable.clustering.sources import FrameSource
from vocable.execution.engine import Engine
from vocable.features.kaldi import Frames
from vocable.features.pipeline import FramePipeline

_HELD = 2 << 30  # bytes of cepstra that are kept from one pass to the next


class CepstraFrames:
    """The cepstra of speakers, and what is told of them beside: mean and pitch.

    Those of hours are held; those of many more are made again for each pass over them.

    Args:
        manifest: whose utterances' they are.
        engine: makes them.
        advance: told the seconds of audio of each block, once.
        skipped: is given the utterances that couldn't be used.
    """

    def __init__(self, manifest: Manifest, engine: Engine, advance: Callable[[float], None], skipped: list[Skipped]) -> None:
        self._blocks, self._engine = list(blocks_of(manifest)), engine
        self._sum, self._speech = np.zeros(BINS), 0
        self._pitch: list[Frames] = []
        self.count = 0
        held: list[Frames] | None = []
        size = 0
        for block, made in self._made():
            advance(block.size)
            if made is None:
                skipped += [lost(item.path, "the block could not be worked on") for item in block.utterances]
                continue
            skipped += made.skipped
            self._sum += made.envelope
            self._speech += made.speech
            self._pitch.append(made.pitch)
            self.count += len(made.cepstra)
            size += made.cepstra.nbytes
            if held is not None:
                held.append(made.cepstra)
            if size > _HELD:
                held = None
        self._held = None if held is None else np.concatenate(held or [np.empty((0, SPEC.dim), np.float32)])

    def statistics(self) -> dict[str, Frames]:
        """Return mean envelope and median pitch."""
        pitch = np.concatenate(self._pitch)
        return {
            "mean": (self._sum / max(1, self._speech)).astype(np.float32),
            "pitch": np.float32(np.median(pitch) if len(pitch) else 0),  # type: ignore[dict-item]
        }

    def columns(self, first: int, last: int) -> FrameSource:
        """Return a source of some columns."""
        return _Columns(self, first, last)

    def blocks(self) -> Iterator[Frames]:
        """Yield the cepstra of each block: those that are held, or made again."""
        if self._held is not None:
            yield self._held
            return
        yield from (made.cepstra for _, made in self._made() if made is not None)

    def _made(self) -> Iterator[tuple[Block, _MadeCepstra | None]]:
        for outcome in self._engine.run_shards(_CepstraOfBlocks(), self._blocks):
            yield outcome.shard, outcome.result


@dataclass(frozen=True)
class _Columns:
    source: CepstraFrames
    first: int
    last: int

    def blocks(self) -> Iterator[Frames]:
        for block in self.source.blocks():
            yield np.ascontiguousarray(block[:, self.first : self.last])


@dataclass(frozen=True)
class _MadeCepstra:
    cepstra: Frames
    envelope: NDArray[np.float64]
    """Sum of those of speech."""
    speech: int
    """Frames of it."""
    pitch: Frames
    skipped: list[Skipped]


@dataclass(frozen=True)
class _CepstraOfBlocks:
    """A job: the cepstra of a block."""

    def open(self, device: str) -> Callable[[Block], _MadeCepstra]:
        del device
        pipeline = FramePipeline(SPEC)

        def run(block: Block) -> _MadeCepstra:
            _, waveforms, skipped = pipeline.waveforms_of(block)
            parts = [taken_apart(waveform) for waveform in waveforms]
            total = np.zeros(BINS)
            for item in parts:
                total += item.envelope[item.speech].sum(axis=0, dtype=np.float64)
            return _MadeCepstra(
                np.concatenate([np.empty((0, SPEC.dim), np.float32), *(cepstra_of(item, item.mean) for item in parts)]),
                total,
                sum(int(item.speech.sum()) for item in parts),
                np.concatenate([np.empty(0, np.float32), *(item.pitch[item.pitch > 0] for item in parts)]),
                [item for _, item in skipped],
            )

        return run
