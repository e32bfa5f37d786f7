"""From blocks of a manifest to frames: decode, extract, normalise, stack, and say what had to be left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import Block
from vocable.audio.decoding import Waveform, read_waveform, resampled_length
from vocable.audio.faults import AudioFault, Skipped, lost
from vocable.audio.manifest import Utterance
from vocable.errors import InputError
from vocable.execution.stages import Finished
from vocable.features.encoder_layer import EncoderFile
from vocable.features.extractors import FeatureExtractor, extractor_of
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization, stack_context


@dataclass(frozen=True)
class BlockFrames:
    """The frames of a block's usable utterances."""

    rows: list[int]
    """Their places in the block."""
    frames: list[Frames]
    """Each of shape (frames, dim)."""
    skipped: list[tuple[int, Skipped]]
    """The places that were left out, with the reason."""

    def summary(self) -> list[list[Any]]:
        """Return what was left out as a ledger keeps it."""
        return [[row, item.path, item.reason, item.detail] for row, item in self.skipped]


def skipped_rows(finished: Finished[Any], block_of: Callable[[Any], Block] = lambda shard: shard) -> dict[int, Skipped]:
    """Return the rows of a manifest that a stage left out, with the reason.

    Args:
        finished: a stage whose summaries hold `BlockFrames.summary` under "skipped".
        block_of: returns a shard's block.
    """
    found: dict[int, Skipped] = {}
    for shard, entry in finished.done():
        for row, *rest in entry.summary["skipped"]:
            found[block_of(shard).first + row] = Skipped(*rest)
    for shard, reason in finished.given_up():
        block = block_of(shard)
        for row, item in enumerate(block.utterances, block.first):
            found[row] = lost(item.path, reason)
    return found


def warn_given_up(what: str, finished: Finished[Block]) -> None:
    """Say on the terminal which blocks something had to do without."""
    for block, reason in finished.given_up():
        first, last = block.utterances[0].path, block.utterances[-1].path
        print(f"warning: {what} had to do without {first} … {last}: {reason}", file=sys.stderr)


def decoders_for(device: str) -> int:
    """Return how many threads decode audio: where a device waits for it, one isn't enough."""
    return 1 if device == "cpu" else 4


_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)


def _why_changed(samples: int, sample_rate: int, counted: int) -> str:
    """Return why a file may have another length than a manifest says."""
    said = f"{samples} samples at {sample_rate} Hz, but the manifest says {counted}"
    for rate in _RATES:
        if rate != sample_rate and abs(resampled_length(samples, sample_rate, rate) - counted) <= 1:
            return f"{said}, as many as there are at {rate} Hz: give the --sample-rate that it counts in, or make it anew"
    return f"{said}: the file is cut short or was replaced"


@dataclass(frozen=True)
class FramePipeline:
    """Everything that turns audio into the frames of one `FeatureSpec`; a job for an engine.

    Args:
        base: what the extractor makes.
        normalization: applied to it.
        context: neighbours stacked on each side after that.
        encoder: makes them, where they are an encoder's.
        lenient: as fairseq's scripts are: an utterance may have another length than the manifest says, and one shorter than
            a frame has no frames.
        keeps_short: an utterance shorter than a frame has no frames, rather than being left out.
    """

    base: FeatureSpec
    normalization: Normalization = field(default_factory=Normalization)
    context: int = 0
    lenient: bool = False
    encoder: EncoderFile | None = None
    keeps_short: bool = False

    def __post_init__(self) -> None:
        if self.context < 0:
            raise InputError(f"--context {self.context}: neighbours can't be fewer than none")

    @property
    def spec(self) -> FeatureSpec:
        """What the frames are."""
        dim = self.base.dim * (2 * self.context + 1)
        return replace(self.base, dim=dim, frame_normalization=self.normalization.name, context=self.context)

    @property
    def key(self) -> str:
        """Digest of all that frames depend on beside the audio: the spec, and what it doesn't say."""
        how = [] if self.encoder is None else [self.base.recorded]
        if self.keeps_short:
            how.append({"keeps_short": True})
        return digest_of([self.spec.identity(), self.lenient, self.normalization.speakers_digest, *how])

    def open(self, device: str) -> Callable[[Block], BlockFrames]:
        """Make the extractor on `device` and return the function that turns a block into frames."""
        extractor = extractor_of(self.base, device, self.encoder)
        return lambda block: self._frames(block, extractor, decoders_for(device))

    def frames_of(
        self,
        waveforms: Sequence[Waveform],
        extractor: FeatureExtractor | None = None,
        speakers: Sequence[str | None] | None = None,
    ) -> list[Frames]:
        """Return the frames of waveforms at the base's sample rate, each of shape (frames, dim).

        Args:
            waveforms: of the utterances.
            extractor: makes the frames, if it stands ready.
            speakers: who speaks in each, where that is known.
        """
        extractor = extractor or extractor_of(self.base, "cpu", self.encoder)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever labels them looks whether they are finite
            who = [None] * len(waveforms) if speakers is None else speakers
            return [self._finished(frames, speaker) for frames, speaker in zip(extractor(waveforms), who, strict=True)]

    def _finished(self, frames: Frames, speaker: str | None = None) -> Frames:
        return stack_context(self.normalization(frames, speaker), self.context)

    def waveforms_of(self, block: Block, decoders: int = 1) -> tuple[list[int], list[Waveform], list[tuple[int, Skipped]]]:
        """Return the rows of a block whose audio can be used, their waveforms, and the other rows with the reason."""
        rows: list[int] = []
        waveforms: list[Waveform] = []
        skipped: list[tuple[int, Skipped]] = []
        for row, found in enumerate(self._decoded(block, decoders)):
            if isinstance(found, AudioFault):
                skipped.append((row, Skipped.of(block.utterances[row].path, found)))
            else:
                waveforms.append(found)
                rows.append(row)
        return rows, waveforms, skipped

    def _frames(self, block: Block, extractor: FeatureExtractor, decoders: int) -> BlockFrames:
        rows, waveforms, skipped = self.waveforms_of(block, decoders)
        kept: list[int] = []
        made: list[Frames] = []
        with np.errstate(over="ignore", invalid="ignore"):
            speakers = (block.utterances[row].speaker for row in rows)
            complete = [self._finished(*item) for item in zip(extractor(waveforms), speakers, strict=True)]
        for row, finished in zip(rows, complete, strict=True):
            utterance = block.utterances[row]
            if np.isfinite(finished.sum(dtype=np.float64)):
                kept.append(row)
                made.append(finished)
            else:
                overflow = AudioFault("not finite", "its samples are so large that frames overflow")
                skipped.append((row, Skipped.of(utterance.path, overflow)))
        return BlockFrames(kept, made, sorted(skipped))

    def _decoded(self, block: Block, decoders: int) -> list[Waveform | AudioFault]:
        """Return the waveform of each row, or why it can't be used."""

        def decode(utterance: Utterance) -> Waveform | AudioFault:
            try:
                return self._waveform(block, utterance)
            except AudioFault as fault:
                return fault

        if decoders == 1:
            return [decode(utterance) for utterance in block.utterances]
        with ThreadPoolExecutor(decoders) as threads:
            return list(threads.map(decode, block.utterances))

    def _waveform(self, block: Block, utterance: Utterance) -> Waveform:
        waveform = read_waveform(block.where(utterance), self.base.sample_rate, utterance.channel)
        if self.lenient:
            return waveform
        if block.sample_rate == self.base.sample_rate and len(waveform) != utterance.samples:
            raise AudioFault("changed", _why_changed(len(waveform), block.sample_rate, utterance.samples))
        if len(waveform) < self.base.receptive_field and not self.keeps_short:
            raise AudioFault(
                "short", f"{len(waveform)} samples at {self.base.sample_rate} Hz; one frame takes {self.base.receptive_field}"
            )
        return waveform
