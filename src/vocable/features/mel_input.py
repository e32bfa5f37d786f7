"""The log-mel frames that some encoders have in place of convolutions."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vocable.audio.decoding import Waveform
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization

if TYPE_CHECKING:
    from vocable.features.extractors import LogMel
    from vocable.models.config import EncoderConfig, MelInput


def mel_frames(waveform: Waveform, config: EncoderConfig, corpus: tuple[Frames, Frames] | None = None) -> Frames:
    """Return the frames that an encoder's blocks start from, of shape (frames, channels).

    Args:
        waveform: a whole utterance, since it may be normalised by its own mean and variance.
        config: of an encoder that has log-mel frames.
        corpus: mean and standard deviation of each bin, where the encoder's are those of a corpus.
    """
    mel = config.mel
    assert mel is not None
    (made,) = _bank(mel.bins, config.sample_rate)([waveform])
    return stacked_frames(Normalization(mel.normalization, corpus)(made), mel)


def stacked_frames(frames: Frames, mel: MelInput) -> Frames:
    """Return normalised log-mel frames, of shape (frames, bins), as many together as an encoder takes for one."""
    if mel.padded and (missing := -len(frames) % mel.stacked):
        frames = np.concatenate([frames, np.zeros((missing, frames.shape[1]), np.float32)])
    count = len(frames) // mel.stacked
    return np.ascontiguousarray(frames[: count * mel.stacked].reshape(count, mel.stacked * mel.bins))


@lru_cache(maxsize=4)
def _bank(bins: int, sample_rate: int) -> LogMel:
    from vocable.features.extractors import LogMel  # which knows encoders, too

    return LogMel.preset(bins, sample_rate)
