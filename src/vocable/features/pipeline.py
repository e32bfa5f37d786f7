"""From blocks of a manifest to frames: decode, extract, normalise, stack, and say what had to be left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.blocks import Block
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.faults import AudioFault, Skipped
from vocable.audio.manifest import Utterance
from vocable.errors import InputError
from vocable.execution.stages import Finished
from vocable.features.extractors import FeatureExtractor, extractor_of
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization, stack_context


@dataclass(frozen=True)
class BlockFrames:
    """The frames of a block's usable utterances."""

    rows: list[int]
    """Their rows in the manifest."""
    frames: list[Frames]
    """Each of shape (frames, dim)."""
    skipped: list[tuple[int, Skipped]]
    """The rows that were left out, with the reason."""

    def summary(self) -> list[list[Any]]:
        """Return what was left out as a ledger keeps it."""
        return [[row, item.path, item.reason, item.detail] for row, item in self.skipped]


def skipped_rows(finished: Finished[Any], block_of: Callable[[Any], Block] = lambda shard: shard) -> dict[int, Skipped]:
    """Return the rows of a manifest that a stage left out, with the reason.

    Args:
        finished: a stage whose summaries hold `BlockFrames.summary` under "skipped".
        block_of: returns a shard's block.
    """
    found = {row: Skipped(*rest) for entry in finished.entries.values() for row, *rest in entry.summary["skipped"]}
    for shard, reason in finished.died.values():
        block = block_of(shard)
        for row, item in enumerate(block.utterances, block.first):
            found[row] = Skipped(item.path, "worker died", f"block {block.index}: {reason}")
    return found


@dataclass(frozen=True)
class FramePipeline:
    """Everything that turns audio into the frames of one `FeatureSpec`; a job for `run_shards`.

    Args:
        base: what the extractor makes.
        normalization: applied to it.
        context: neighbours stacked on each side after that.
        lenient: as fairseq's scripts are: an utterance may have another length than the manifest says, and one shorter than
            a frame has no frames.
    """

    base: FeatureSpec
    normalization: Normalization = field(default_factory=Normalization)
    context: int = 0
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.context < 0:
            raise InputError(f"--context {self.context}: neighbours can't be fewer than none")

    @property
    def spec(self) -> FeatureSpec:
        """What the frames are."""
        dim = self.base.dim * (2 * self.context + 1)
        return replace(self.base, dim=dim, frame_normalization=self.normalization.name, context=self.context)

    def open(self, device: str) -> Callable[[Block], BlockFrames]:
        """Make the extractor on `device` and return the function that turns a block into frames."""
        extractor = extractor_of(self.base, device)
        return lambda block: self._frames(block, extractor)

    def _frames(self, block: Block, extractor: FeatureExtractor) -> BlockFrames:
        rows: list[int] = []
        waveforms: list[Waveform] = []
        skipped: list[tuple[int, Skipped]] = []
        for row, utterance in enumerate(block.utterances, block.first):
            try:
                waveforms.append(self._waveform(utterance, block.sample_rate))
                rows.append(row)
            except AudioFault as fault:
                skipped.append((row, Skipped.of(utterance.path, fault)))
        speakers = [block.utterances[row - block.first].speaker for row in rows]
        frames = [
            stack_context(self.normalization(item, speaker), self.context)
            for item, speaker in zip(extractor(waveforms), speakers, strict=True)
        ]
        return BlockFrames(rows, frames, skipped)

    def _waveform(self, utterance: Utterance, counted_at: int) -> Waveform:
        waveform = read_waveform(utterance.path, self.base.sample_rate, utterance.channel)
        if self.lenient:
            return waveform
        if counted_at == self.base.sample_rate and len(waveform) != utterance.samples:
            raise AudioFault(
                "changed",
                f"{len(waveform)} samples at {counted_at} Hz, but the manifest says {utterance.samples}: "
                "the file is cut short or was replaced",
            )
        if len(waveform) < self.base.receptive_field:
            raise AudioFault(
                "short", f"{len(waveform)} samples at {self.base.sample_rate} Hz; one frame takes {self.base.receptive_field}"
            )
        return waveform
