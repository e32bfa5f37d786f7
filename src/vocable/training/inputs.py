"""What a model sees of an utterance: its waveform, log-mel frames made of it, or such frames that were made before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform, read_waveform, resampled_length
from vocable.audio.faults import AudioFault
from vocable.audio.manifest import Manifest
from vocable.features.encoder_runner import normalized_waveform
from vocable.features.kaldi import Frames
from vocable.features.mel_input import mel_frames, stacked_frames
from vocable.models.config import EncoderConfig

Crop = Callable[[int, int], torch.Tensor]
"""First frame and number of frames → what the encoder sees of them."""


class Inputs(Protocol):
    """The utterances of a training, in order."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def frames(self) -> NDArray[np.int64]:
        """How many frames the encoder makes of each."""

    @property
    def seconds(self) -> float:
        """How much audio there is."""

    @property
    def digest(self) -> str:
        """Of what tells these utterances from others."""

    def open(self, row: int) -> Crop:
        """Return what crops an utterance.

        Raises:
            AudioFault: it can't be read.
        """


@dataclass(frozen=True)
class AudioInputs:
    """Audio, from which frames are made as they are asked for.

    Args:
        manifest: of the utterances; lengths have to be known.
        config: of the encoder.
        corpus: mean and deviation of log-mel bins, where the encoder's are those of a corpus.
    """

    manifest: Manifest
    config: EncoderConfig
    corpus: tuple[Frames, Frames] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names."""
        return self.manifest.ids

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """How many frames the encoder makes of each."""
        samples = [
            resampled_length(int(item), self.manifest.sample_rate, self.config.sample_rate) for item in self.manifest.samples
        ]
        return np.array([self.config.frame_count(item) for item in samples], dtype=np.int64)

    @property
    def seconds(self) -> float:
        """How much audio there is."""
        return self.manifest.seconds

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.manifest.digest

    def open(self, row: int) -> Crop:
        """Return what crops an utterance.

        Raises:
            AudioFault: it can't be read, or has changed.
        """
        waveform = self._waveform(row)
        if self.config.mel is not None:
            made = mel_frames(waveform, self.config, self.corpus)
            return lambda start, frames: torch.from_numpy(made[start : start + frames].copy())
        hop, field = self.config.hop, self.config.receptive_field
        return lambda start, frames: torch.from_numpy(waveform[start * hop : (start + frames - 1) * hop + field].copy())

    def _waveform(self, row: int) -> Waveform:
        item = self.manifest[row]
        path, rate = self.manifest.where(item), self.config.sample_rate
        waveform = read_waveform(path, rate, item.channel)
        if abs(len(waveform) - resampled_length(item.samples, self.manifest.sample_rate, rate)) > 1:
            raise _fault(path, f"{len(waveform)} samples at {rate} Hz, but the manifest says {item.samples}")
        return normalized_waveform(waveform, self.config)


@dataclass(frozen=True)
class StoredInputs:
    """Normalised log-mel frames, a `.npy` of shape (frames, bins) for each utterance.

    Args:
        paths: of the files.
        lengths: frames of 10 ms in each.
        config: of the encoder.
        digest: of what tells these frames from others, wherever the files lie.
    """

    paths: tuple[Path, ...]
    lengths: NDArray[np.int64]
    config: EncoderConfig
    digest: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(path.stem for path in self.paths)

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """How many frames the encoder makes of each."""
        mel = self.config.mel
        assert mel is not None
        return -(-self.lengths // mel.stacked) if mel.padded else self.lengths // mel.stacked

    @property
    def seconds(self) -> float:
        """How much audio there is."""
        return float(self.lengths.sum()) / 100

    def open(self, row: int) -> Crop:
        """Return what crops an utterance.

        Raises:
            AudioFault: it can't be read, or has changed.
        """
        mel, path = self.config.mel, self.paths[row]
        assert mel is not None
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _fault(str(path), str(error)) from error
        if stored.shape != (self.lengths[row], mel.bins):
            raise _fault(
                str(path), f"an array of shape {stored.shape}, where there were {self.lengths[row]} frames of {mel.bins}"
            )
        frames = stored.astype(np.float32)
        if not np.isfinite(frames.sum(dtype=np.float64)):
            raise _fault(str(path), "frames with values that are not finite")
        made = stacked_frames(frames, mel)
        return lambda start, count: torch.from_numpy(made[start : start + count].copy())


def _fault(path: str, detail: str) -> AudioFault:
    fault = AudioFault("changed", detail)
    fault.path = path
    return fault
