"""Speech parts as frames for a vocoder: an envelope and a pitch every 10 ms, with the samples that they make without a model."""

from __future__ import annotations

import numpy as np

from vocable.anonymization.cepstra import COUNT
from vocable.anonymization.speech_parts import BINS, HOP, POINTS, SAMPLE_RATE, Values, put_together
from vocable.artefacts.feature_spec import FeatureSpec

_LEVEL, _SPREAD = -11.0, 4.0  # about what log power has in speech, so that values are about 0 and 1
_LOUDER = 10.0  # by which samples are so, too
_USUAL_PITCH = 150.0  # Hz
PARTS_SPEC = FeatureSpec(
    kind="speech-parts",
    dim=BINS + 2 + HOP,
    hop=HOP,
    receptive_field=POINTS,
    sample_rate=SAMPLE_RATE,
    parameters={
        "cepstra": COUNT, "level": _LEVEL, "louder": _LOUDER, "scale": "slaney", "spread": _SPREAD, "usual_pitch": _USUAL_PITCH,
    },
)  # fmt: skip


def parts_frames(envelope: Values, pitch: Values) -> Values:
    """Return frames of shape (frames, 242): log power in 80 mel bins, log pitch around that of 150 Hz, 1 where voiced, samples.

    The samples are 160 of what envelope, pulses and noise make, for a vocoder with a source. One without does the same in each
    frame of a steady voice, which so has a pitch of 100 Hz or a multiple of it, and hisses buzz.

    Args:
        envelope: of cepstra, of shape (frames, 80): as the voice that a vocoder is for gives it.
        pitch: in Hz, of shape (frames,), 0 where there is no voice; so is log pitch there.
    """
    voiced = pitch > 0
    height = np.log(np.where(voiced, pitch, np.float32(_USUAL_PITCH)) / np.float32(_USUAL_PITCH))
    levels = (envelope - np.float32(_LEVEL)) / np.float32(_SPREAD)
    samples = put_together(envelope, pitch, HOP * len(pitch)).reshape(len(pitch), HOP) * np.float32(_LOUDER)
    frames: Values = np.concatenate([levels, height[:, None], voiced[:, None], samples], axis=1, dtype=np.float32)
    return frames
