"""Stretches of speech, told by the norms of an encoder's frames: SD-HuBERT's are small where nobody speaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocable.syllables.merging import Segments
from vocable.syllables.settings import Voicing

_LOWEST, _HIGHEST = 1, 99  # percentiles


def scaled_norms(norms: NDArray[np.floating], strategy: str) -> NDArray[np.floating]:
    """Return norms as they are compared with a threshold.

    Args:
        norms: of an utterance's frames, of shape (frames,).
        strategy: `relative` or `absolute`.
    """
    if strategy == "absolute" or not len(norms):
        return norms
    low, high = np.percentile(norms, _LOWEST), np.percentile(norms, _HIGHEST)
    if not high > low:  # all alike, of which the authors' code makes NaN: nothing stands out
        return np.zeros_like(norms)
    scaled: NDArray[np.floating] = (norms - low) / (high - low)
    return scaled


def voiced_stretches(norms: NDArray[np.floating], loudness: NDArray[np.floating], settings: Voicing) -> Segments:
    """Return where somebody speaks.

    Args:
        norms: scaled, of shape (frames,).
        loudness: mean of the absolute values of the samples of each frame's hop, at variance 1. The authors' code looks 10 ms
            later.
        settings: what counts as speech.
    """
    stretches = runs(norms > settings.threshold)
    sums = np.concatenate([[0.0], np.cumsum(loudness, dtype=np.float64)])
    lengths = stretches[:, 1] - stretches[:, 0]
    means = (sums[stretches[:, 1]] - sums[stretches[:, 0]]) / np.maximum(lengths, 1)
    kept: Segments = stretches[(lengths >= settings.least_frames) & (means > settings.silence)]
    return kept


def runs(true: NDArray[np.bool_]) -> Segments:
    """Return where values are true: the first of each run, and the first behind it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)
