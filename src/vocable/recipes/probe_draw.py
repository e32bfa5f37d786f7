"""One pass over audio for all that probes are fitted to: frames of each layer, what is pooled of them, units, and pitch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vocable.audio.blocks import Block, blocks_of
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.faults import Skipped, lost
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.clustering.assignment import Labels
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.evaluation.probes import histogram, pooled, run_histogram
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.features.kaldi import Frames
from vocable.features.pipeline import FramePipeline, decoders_for
from vocable.features.pitch import HOP, SAMPLE_RATE, WINDOW, Pitch
from vocable.features.windows import chunking_of
from vocable.models.taps import Tap


@dataclass(frozen=True)
class DrawnUtterance:
    """What is kept of an utterance."""

    row: int
    """Of the manifest that was gone through."""
    places: NDArray[np.intp]
    """Which frames were drawn."""
    frames: NDArray[np.float32] | NDArray[np.int64]
    """Of shape (frames, layers, dim); or units, of shape (frames,)."""
    whole: tuple[NDArray[np.float32], ...]
    """What is pooled of all frames: of shape (layers, 2 · dim); or the units' histogram, and that of their runs, (1, …) each."""
    pitch: NDArray[np.float32]
    """Hz at the frames' centres, 0 where nothing is voiced; NaN where it wasn't asked for."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a manifest."""

    manifest: Manifest
    """Of the utterances that were drawn from, in their order."""
    utterances: list[DrawnUtterance]
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class DrawBlocks:
    """A job: frames of all layers of a block's utterances, or their units, of which those drawn are kept.

    Args:
        pipeline: makes the frames; with layers, the deepest one's.
        layers: of an encoder; none for all else.
        codebook: makes units of the frames.
        fraction: of the frames that are drawn.
        seed: of the draw.
        with_pitch: whether pitch is wanted.
    """

    pipeline: FramePipeline
    layers: tuple[int, ...] = ()
    codebook: Codebook | None = None
    fraction: float = 1.0
    seed: int = 0
    with_pitch: bool = True

    def places(self, utterance: str, count: int) -> NDArray[np.intp]:
        """Return which of an utterance's frames are drawn; it follows from its id."""
        if self.fraction >= 1:
            return np.arange(count)
        first = int(hash_fraction(self.seed, utterance) * (1 << 56))
        return np.flatnonzero(np.random.default_rng([self.seed, first]).random(count) < self.fraction)

    def open(self, device: str) -> Callable[[Block], tuple[list[DrawnUtterance], list[Skipped]]]:
        """Return the function that draws from a block."""
        frames_of = self._layers(device) if self.layers else self._frames(device)
        label = None if self.codebook is None else labeller_for(device)(self.codebook.centroids)
        pitch = Pitch() if self.with_pitch else None

        def run(block: Block) -> tuple[list[DrawnUtterance], list[Skipped]]:
            made, skipped = frames_of(block)
            drawn = []
            for row, frames, waveform in made:
                item = block.utterances[row]
                places = self.places(item.id, len(frames))
                whole, own = self._kept(frames, places, label)
                if pitch is None:
                    heard = np.full(len(places), np.nan, np.float32)
                else:
                    at_16k = self._at_16k(block, row, waveform)
                    heard = _at(pitch([at_16k])[0][:, 0], self.pipeline.spec.frame_times(places))
                drawn.append(DrawnUtterance(block.first + row, places, own, whole, heard))
            return drawn, [item for _, item in skipped]

        return run

    def _kept(
        self, frames: Frames, places: NDArray[np.intp], label: Callable[[Frames], Labels] | None
    ) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32] | NDArray[np.int64]]:
        if self.codebook is None or label is None:
            return (np.stack([pooled(frames[:, layer]) for layer in range(frames.shape[1])]),), frames[places]
        units = label(np.ascontiguousarray(frames[:, 0])).astype(np.int64)
        clusters = len(self.codebook)
        return (histogram(units, clusters)[None], run_histogram(units, clusters)[None]), units[places]

    def _at_16k(self, block: Block, row: int, waveform: Waveform | None) -> Waveform:
        if waveform is not None and self.pipeline.base.sample_rate == SAMPLE_RATE:
            return waveform
        item = block.utterances[row]
        return read_waveform(block.where(item), SAMPLE_RATE, item.channel)

    def _frames(self, device: str) -> Callable[[Block], _Made]:
        frames_of = self.pipeline.open(device)

        def run(block: Block) -> _Made:
            made = frames_of(block)
            return [(row, frames[:, None], None) for row, frames in zip(made.rows, made.frames, strict=True)], made.skipped

        return run

    def _layers(self, device: str) -> Callable[[Block], _Made]:
        encoder = self.pipeline.encoder
        assert encoder is not None
        run_encoder = encoder.runner(self.layers[-1], device)
        chunking, taps = chunking_of(self.pipeline.base.chunking), [Tap(layer) for layer in self.layers]

        def run(block: Block) -> _Made:
            rows, waveforms, skipped = self.pipeline.waveforms_of(block, decoders_for(device))
            found = run_encoder(waveforms, taps, chunking)
            stacked = [np.stack([of_tap[tap] for tap in taps], axis=1) for of_tap in found]
            return list(zip(rows, stacked, waveforms, strict=True)), skipped

        return run


_Made = tuple[list[tuple[int, Frames, Waveform | None]], list[tuple[int, Skipped]]]
"""Rows with their frames, of shape (frames, layers, dim), and their waveforms where they are at hand; and what was left out."""


def draw(manifest: Manifest, job: DrawBlocks, engine: Engine, title: str) -> Drawn:
    """Return what a job draws from all utterances that can be used."""
    drawn: list[DrawnUtterance] = []
    skipped: list[Skipped] = []
    with progress(title, manifest.seconds) as shown:
        for outcome in engine.run_shards(job, list(blocks_of(manifest))):
            shown.advance(outcome.shard.size)
            if outcome.result is None:
                skipped += [lost(item.path, outcome.failure or "") for item in outcome.shard.utterances]
                continue
            drawn += outcome.result[0]
            skipped += outcome.result[1]
    return Drawn(manifest.select([item.row for item in drawn]), drawn, skipped)


def _at(pitch: NDArray[np.float32], times: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the pitch of the frame whose centre lies nearest to each time in seconds."""
    if not len(pitch):
        return np.zeros(len(times), np.float32)
    nearest = np.rint((times * SAMPLE_RATE - WINDOW / 2) / HOP).astype(np.int64)
    return pitch[np.clip(nearest, 0, len(pitch) - 1)]
