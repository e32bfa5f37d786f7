"""Power spectra of many windows at once, as two rounds of matrix products.

A Fourier transform of step · turns points falls apart into `step` transforms of `turns` points, and then `turns` transforms of
`step` (Cooley and Tukey, 1965). For the few hundred points of a window of speech, both are small enough to be done as plain
matrix products, which processors do best: ten times the operations of NumPy's fast transform in half its time. Tapering a
window, filling it up with zeros and taking a constant from it are linear too, so they are part of the first matrices and
cost nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


class PowerSpectrum:
    """Squared magnitudes of the spectra of tapered windows, at all frequencies below the Nyquist frequency.

    Args:
        size: points of the transform, a power of two and at least 4; shorter windows are filled up with zeros.
        taper: the factor of each sample of a window, shape (length,).
    """

    def __init__(self, size: int, taper: Values) -> None:
        self._size, self._length = size, len(taper)
        self._step = 1 << (size.bit_length() - 1) // 2
        self._rows = -(-self._length // self._step) * self._step
        turns, half = size // self._step, self._step // 2
        # Transforms of real samples: outputs 0 and turns / 2 are real and share the place of a complex one; 1 … turns / 2 - 1 are
        # complex; the rest are conjugates of those.
        places = np.arange(turns // 2)
        self._first = _first_round(turns, taper, self._rows // self._step, self._step)
        # Of place k the second round makes the frequencies k + turns · j: those of the upper half are conjugates of turns - k +
        # turns · j. Taken in turn, one from below and one from above, all come out in order but for the direction in each run.
        frequencies = np.empty((len(places), self._step), dtype=np.int64)
        frequencies[:, 0::2] = places[:, None] + turns * np.arange(half)
        frequencies[:, 1::2] = places[:, None] + turns * (self._step - 1 - np.arange(half))
        frequencies[0, 1::2] = turns // 2 + turns * np.arange(half)
        self._second = _second_round(size, frequencies)
        self.bins: NDArray[np.int64] = np.minimum(frequencies, size - frequencies).T.reshape(-1)
        """What each row of a result is, in steps of sample rate / size: a permutation of 0 … size / 2 - 1, nearly in order."""

    def workspace(self, windows: int) -> Values:
        """Return memory in which up to `windows` windows at a time are transformed."""
        return np.empty((2, max(self._size, self._rows + self._step) * windows), dtype=np.float32)

    def windows(self, workspace: Values, count: int) -> Values:
        """Return where in a workspace `count` windows are put before they are transformed, in columns, shape (length, count)."""
        placed = workspace[0, : self._rows * count].reshape(self._rows, count)
        placed[self._length :] = 0
        return placed[: self._length]

    def __call__(self, workspace: Values, constants: Values) -> Values:
        """Return the spectra of the windows in a workspace, shape (size / 2, windows), valid until it is used again.

        Args:
            workspace: in which windows were put.
            constants: taken from all samples of a window before it is tapered, shape (windows,).
        """
        count, step, complex_step = len(constants), self._step, 2 * self._step
        samples = workspace[0, : (self._rows + step) * count].reshape(-1, step, count)
        samples[-1] = constants
        places = workspace[1, : self._size * count].reshape(-1, step, count)
        np.matmul(self._first, samples.transpose(1, 0, 2), out=places.transpose(1, 0, 2))
        spectra = workspace[0, : self._size * count].reshape(complex_step, -1, count)
        np.matmul(self._second, places.reshape(-1, complex_step, count), out=spectra.transpose(1, 0, 2))
        np.multiply(spectra, spectra, out=spectra)
        power = spectra[:step]
        power += spectra[step:]
        return power.reshape(-1, count)


def _first_round(turns: int, taper: Values, used: int, step: int) -> Values:
    """Return for each of the `step` interleaved parts of a window its tapered transform, shape (step, turns, used + 1).

    Its outputs are the real and imaginary parts of each place; its last column takes the constant away.
    """
    angle = -2 * np.pi / turns * np.outer(np.arange(turns // 2), np.arange(used))
    parts = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    parts[0, 1] = np.cos(np.pi * np.arange(used))
    padded = np.zeros(used * step)
    padded[: len(taper)] = taper
    tapered = parts.reshape(turns, used) * padded.reshape(used, step).T[:, None, :]
    return np.concatenate([tapered, -tapered.sum(axis=2, keepdims=True)], axis=2).astype(np.float32)


def _second_round(size: int, frequencies: NDArray[np.int64]) -> Values:
    """Return for each place its outputs' real and imaginary parts from those of its inputs, shape (places, 2 step, 2 step)."""
    places, step = frequencies.shape
    angle = -2 * np.pi / size * (frequencies[:, :, None] * np.arange(step))
    real, imaginary = np.cos(angle), np.sin(angle)
    whole = np.empty((places, 2, step, 2, step))  # (place, part of the output, output, part of the input, input)
    whole[:, 0, :, 0], whole[:, 0, :, 1] = real, -imaginary
    whole[:, 1, :, 0], whole[:, 1, :, 1] = imaginary, real
    whole[0] = 0  # two real inputs in one place: each has every other output to itself
    for part in (0, 1):
        whole[0, 0, part::2, part], whole[0, 1, part::2, part] = real[0, part::2], imaginary[0, part::2]
    return whole.reshape(places, 2 * step, 2 * step).astype(np.float32)
