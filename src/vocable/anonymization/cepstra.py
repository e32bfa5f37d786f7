"""Cepstra: what is said, as far as an envelope tells it once a speaker's mean is taken out; frames for product codebooks."""

from __future__ import annotations

from functools import cache

import numpy as np

from vocable.anonymization.speech_parts import BINS, HOP, POINTS, SAMPLE_RATE, WINDOW, SpeechParts, Values
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.clustering.fleets import Groups
from vocable.execution.threads import single_threaded

COUNT = 20
GROUPS: Groups = ((0, 3), (3, 7), (7, 13), (13, 20))
"""Columns whose centroids are found, and drawn, together: from the coarse shape of an envelope to its details."""
CLUSTERS = 256
SPEC = FeatureSpec(
    kind="cepstra",
    dim=COUNT,
    hop=HOP,
    receptive_field=WINDOW,
    sample_rate=SAMPLE_RATE,
    parameters={"bins": BINS, "points": POINTS, "scale": "slaney", "centred": "speech mean", "padding": "zeros"},
)


def cepstra_of(parts: SpeechParts, mean: Values) -> Values:
    """Return the cepstra of an utterance's envelope around its speaker's mean, of shape (frames, 20)."""
    with single_threaded():
        found: Values = np.matmul(parts.envelope - mean, _cosines(), dtype=np.float32)
    return found


def envelope_of(cepstra: Values, mean: Values) -> Values:
    """Return the envelope that cepstra around a mean stand for, of shape (frames, 80)."""
    with single_threaded():
        found: Values = cepstra @ _cosines().T + mean
    return found


@cache
def _cosines() -> Values:
    """Return the first columns of an orthonormal cosine transform, of shape (bins, cepstra)."""
    angles = np.pi / BINS * (np.arange(BINS)[:, None] + 0.5) * np.arange(COUNT)
    scales = np.sqrt(np.where(np.arange(COUNT) == 0, 1.0, 2.0) / BINS)
    cosines: Values = (scales * np.cos(angles)).astype(np.float32)
    return cosines
