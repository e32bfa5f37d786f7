"""Slaney's mel scale (Auditory Toolbox, 1998): even below 1000 Hz, by a factor above; and triangles on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
_KNEE = 15  # mel at 1000 Hz


def centres(bins: int, highest: float) -> Float:
    """Return the edges and centres of filters from 0 Hz on, in Hz, of shape (bins + 2,).

    Args:
        bins: filters.
        highest: where the last one ends, in Hz; 1000 or more.
    """
    mel = np.linspace(0, _KNEE + 27 * np.log(highest / 1000) / np.log(6.4), bins + 2)
    found: Float = np.where(mel < _KNEE, mel * 200 / 3, 1000 * 6.4 ** ((mel - _KNEE) / 27))
    return found


def triangles(frequencies: Float, bins: int, highest: float) -> Float:
    """Return filters with a peak of 1, of shape (frequencies, bins).

    Args:
        frequencies: at which they are wanted, in Hz.
        bins: filters.
        highest: where the last one ends, in Hz; 1000 or more.
    """
    low, middle, high = (centres(bins, highest)[first : first + bins] for first in range(3))
    rise = (frequencies[:, None] - low) / (middle - low)
    fall = (high - frequencies[:, None]) / (high - middle)
    found: Float = np.maximum(0, np.minimum(rise, fall))
    return found
