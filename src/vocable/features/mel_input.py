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
    from vocable.models.config import EncoderConfig


def mel_frames(waveform: Waveform, config: EncoderConfig) -> Frames:
    """Return the frames that an encoder's blocks start from, of shape (frames, channels).

    Args:
        waveform: a whole utterance, since it is normalised by its own mean and variance.
        config: of an encoder that has log-mel frames.
    """
    mel = config.mel
    assert mel is not None
    (made,) = _bank(mel.bins, config.sample_rate)([waveform])
    made = Normalization(mel.normalization)(made)
    count = len(made) // mel.stacked
    return np.ascontiguousarray(made[: count * mel.stacked].reshape(count, mel.stacked * mel.bins))


@lru_cache(maxsize=4)
def _bank(bins: int, sample_rate: int) -> LogMel:
    from vocable.features.extractors import LogMel  # which knows encoders, too

    return LogMel.preset(bins, sample_rate)
