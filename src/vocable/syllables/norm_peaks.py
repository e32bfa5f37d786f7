"""Syllables read off the norms of an encoder's layer, without any training for it: ZeroSyl's idea (arXiv 2602.15537)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.syllables.merging import Segments
from vocable.syllables.settings import NormPeaks


def norm_peak_syllables(norms: NDArray[np.floating], settings: NormPeaks) -> Segments:
    """Cut an utterance where norms stand out; all of it is in some segment.

    Args:
        norms: of its frames, of shape (frames,).
        settings: how much they stand out.
    """
    find_peaks = require_scipy()
    if not len(norms):
        return np.empty((0, 2), np.int64)
    spread = norms.std(dtype=np.float64)
    scaled = (norms - norms.mean(dtype=np.float64)) / (spread if spread > 0 else 1.0)
    edge = settings.smoothing // 2
    smooth = np.convolve(np.pad(scaled, edge, mode="edge"), np.full(settings.smoothing, 1 / settings.smoothing), mode="valid")
    peaks, _ = find_peaks(smooth, prominence=settings.prominence)
    edges = np.concatenate([[0], peaks, [len(norms)]]).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def require_scipy() -> Any:
    """Return what finds peaks.

    Raises:
        InputError: SciPy isn't there.
    """
    try:
        from scipy.signal import find_peaks
    except ImportError as error:
        raise InputError("to find peaks of norms the extra is needed: pip install 'vocable[syllables]'") from error
    return find_peaks
