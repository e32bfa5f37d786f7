"""Log mel energies in decibels, as SpeechBrain's verifiers hear: what `speechbrain.lobes.features.Fbank` does by default.

Its filters aren't Kaldi's: each reaches as far up as it does down, which is to the centre below it, and so not as far as the
centre above. Computed in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform

Frames = NDArray[np.float32]

SAMPLE_RATE = 16_000
HOP = 160  # samples, 10 ms
_WINDOW = 400  # samples, 25 ms, and points of the transform
_TOP = 8000.0  # Hz
_LEAST_POWER = 1e-10
_RANGE = 80.0  # dB below the loudest energy of an utterance, below which nothing is told apart
_ROWS = 4096  # windows at once


class DecibelMel:
    """Log mel energies of 25 ms windows around every 10 ms, less each bin's mean over the utterance.

    Args:
        bins: number of filters.
    """

    def __init__(self, bins: int = 80) -> None:
        self._taper = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)  # Hamming, periodic
        self._filters = _filters(bins)

    def __call__(self, waveform: Waveform) -> Frames:
        """Return the frames of a waveform at 16 kHz, of shape (1 + samples // 160, bins), in dB."""
        padded = np.pad(waveform.astype(np.float64), _WINDOW // 2)
        windows = sliding_window_view(padded, _WINDOW)[::HOP]
        energies = np.concatenate([self._energies(windows[at : at + _ROWS]) for at in range(0, len(windows), _ROWS)])
        decibels = 10 * np.log10(np.maximum(energies, _LEAST_POWER))
        decibels = np.maximum(decibels, decibels.max() - _RANGE)
        frames: Frames = (decibels - decibels.mean(axis=0)).astype(np.float32)
        return frames

    def _energies(self, windows: NDArray[np.float64]) -> NDArray[np.float64]:
        spectra = np.fft.rfft(windows * self._taper)
        found: NDArray[np.float64] = (spectra.real**2 + spectra.imag**2) @ self._filters
        return found


def _filters(bins: int) -> NDArray[np.float64]:
    """Return triangles of shape (201, bins)."""
    points = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + _TOP / 700), bins + 2) / 2595) - 1)  # Hz
    centres, widths = points[1:-1], np.diff(points)[:-1]
    frequencies = np.arange(_WINDOW // 2 + 1)[:, None] * SAMPLE_RATE / _WINDOW
    found: NDArray[np.float64] = np.maximum(0.0, 1 - np.abs(frequencies - centres) / widths)
    return found
