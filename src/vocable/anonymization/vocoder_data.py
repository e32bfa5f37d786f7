"""Crops of frames with the samples that they are of, for a vocoder; frames may first be looked up and said again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.anonymization.cepstra import cepstra_of, envelope_of
from vocable.anonymization.frame_crops import FrameCrops
from vocable.anonymization.parts_frames import parts_frames
from vocable.anonymization.speech_parts import taken_apart
from vocable.anonymization.vocoding import SpeechBatch
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform
from vocable.clustering.fleets import Fleet
from vocable.features.hifigan_mel import HifiganMel
from vocable.features.kaldi import Frames
from vocable.models.conformer import Conformer
from vocable.training.batches import BatchSettings
from vocable.training.objective import Made

Again = Callable[[int, Frames], Frames]
"""Row and frames → what a vocoder is given in their place."""
_KEPT = 1 << 30  # bytes of speech that are made once


class Speech(NamedTuple):
    """An utterance."""

    frames: Frames
    """Of shape (frames, values)."""
    waveform: Waveform


@dataclass(frozen=True)
class SpeechSource:
    """Utterances whose frames and samples can be had.

    Args:
        names: of the utterances.
        speakers: of each; None where nobody says it.
        lengths: frames of each that have all their samples.
        spec: what a vocoder is given.
        waveform: the samples of a row at the rate of `spec`; raises AudioFault where they can't be had.
        frames: row and samples → frames.
        digest: of what tells these utterances from others.
    """

    names: Sequence[str]
    speakers: Sequence[str | None]
    lengths: NDArray[np.int64]
    spec: FeatureSpec
    waveform: Callable[[int], Waveform]
    frames: Callable[[int, Waveform], Frames]
    digest: str


class VocoderData:
    """Micro-batches of crops; what is random in one follows from the seed and its position.

    Args:
        source: of the speech.
        batches: how much goes into a micro-batch.
        seed: of order and crops.

    Raises:
        InputError: no utterance is long enough.
    """

    def __init__(self, source: SpeechSource, batches: BatchSettings, seed: int) -> None:
        self._source, self._hop = source, source.spec.hop
        self._crops = FrameCrops(source.lengths, source.spec.rate, batches, seed)
        self._kept: dict[int, Speech] = {}
        self._bytes = 0

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._crops.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._crops.utterances

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position.

        Raises:
            InputError: none of its utterances can be read.
        """
        read = self._crops.read(position, self._speech, self._length)
        frames, waveforms = [], []
        for _, speech in read.utterances:
            start = int(read.drawn.integers(0, self._length(speech) - read.length + 1))
            frames.append(speech.frames[start : start + read.length])
            waveforms.append(speech.waveform[self._hop * start : self._hop * (start + read.length)])
        given, said = (torch.from_numpy(np.stack(parts)) for parts in (frames, waveforms))
        return Made(SpeechBatch(given, said, len(frames) * read.length / self._source.spec.rate), read.unreadable)

    def _length(self, speech: Speech) -> int:
        return min(len(speech.frames), len(speech.waveform) // self._hop)

    def _speech(self, row: int) -> Speech:
        """Return an utterance, which is kept as far as memory should go."""
        if (kept := self._kept.get(row)) is not None:
            return kept
        waveform = self._source.waveform(row)
        made = Speech(self._source.frames(row, waveform), waveform)
        size = made.frames.nbytes + made.waveform.nbytes
        if self._bytes + size <= _KEPT:
            self._kept[row] = made
            self._bytes += size
        return made


def mel_frames_of(mel: HifiganMel) -> Callable[[int, Waveform], Frames]:
    """Return what makes log-mel frames of samples."""

    def frames(row: int, waveform: Waveform) -> Frames:
        del row
        with torch.inference_mode():
            found: Frames = mel(torch.from_numpy(waveform)[None])[0].numpy()
        return found

    return frames


def parts_frames_of(again: Again | None) -> Callable[[int, Waveform], Frames]:
    """Return what makes speech parts of samples, as `SourceFilterVoice` has them: an envelope as its cepstra tell it.

    Args:
        again: what becomes of cepstra; by default they stay.
    """

    def frames(row: int, waveform: Waveform) -> Frames:
        parts = taken_apart(waveform)
        mean = parts.mean
        cepstra = cepstra_of(parts, mean)
        return parts_frames(envelope_of(cepstra if again is None else again(row, cepstra), mean), parts.pitch)

    return frames


def said_again(fleet: Fleet, own: NDArray[np.int64], conformer: Conformer | None, device: torch.device) -> Again:
    """Return what looks frames up in the codebook of their speaker, and lets a conformer make frames of the centroids.

    Args:
        fleet: the codebooks.
        own: the codebook of each row.
        conformer: by default centroids stay as they are.
        device: where the conformer is.
    """
    model = None if conformer is None else conformer.to(device).eval()

    def again(row: int, frames: Frames) -> Frames:
        plan = np.full(len(frames), own[row])
        centroids = fleet.lookup(fleet.tokens(np.ascontiguousarray(frames), plan), plan)
        if model is None:
            return centroids
        with torch.inference_mode():
            made: Frames = model([torch.from_numpy(centroids).to(device)])[0].float().cpu().numpy()
        return made

    return again
