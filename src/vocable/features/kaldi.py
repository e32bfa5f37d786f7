"""Kaldi's filter bank in NumPy: short-time frames, power spectra, mel energies.

The numbers are Kaldi's (`feat/feature-window.cc`, `feat/mel-computations.cc`), as torchaudio and kaldi-native-fbank have them,
without dither. Work goes through blocks that follow from the utterance's own length, so that the same matrix kernels meet the
same numbers of frames whatever else is computed: results don't depend on batches, bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vocable.audio.decoding import LOWEST_RATE, Waveform
from vocable.errors import InputError
from vocable.features.fourier import PowerSpectrum

Frames = NDArray[np.float32]

BLOCK_ROWS = 192  # frames at a time: what 192 windows of 512 points take stays in the second-level cache
_BAND = 12  # filters that are computed together, from the frequencies that these have
LOG_FLOOR = float(np.finfo(np.float32).eps)  # 1.19e-7, Kaldi's


@dataclass(frozen=True, kw_only=True)
class FilterBank:
    """Log mel energies of 25 ms windows every 10 ms, `snip_edges` style: only windows that lie whole in the waveform.

    Filters that are so narrow that they hold no frequency are warned of.

    Raises:
        InputError: the filters don't fit between low_freq and the Nyquist frequency.
    """

    sample_rate: int = 16000
    num_mel_bins: int = 23
    window: Literal["povey", "hamming"] = "povey"
    low_freq: float = 20.0
    """Hz."""
    high_freq: float = 0.0
    """Hz; 0 or less counts from the Nyquist frequency."""
    preemphasis: float = 0.97
    scale: float = 1.0
    """Factor on the waveform: 32768 gives Kaldi's 16-bit values, 1 those of fairseq."""

    def __post_init__(self) -> None:
        fits = 0 <= self.low_freq < self.top_freq <= self.sample_rate / 2
        if self.num_mel_bins < 1 or self.sample_rate < LOWEST_RATE or not fits:
            raise InputError(
                f"{self.num_mel_bins} mel bins between {self.low_freq:g} and {self.top_freq:g} Hz don't make "
                f"a filter bank at {self.sample_rate} Hz"
            )
        if empty := int((self.filters.max(axis=0) == 0).sum()):
            warnings.warn(
                f"{empty} of {self.num_mel_bins} mel filters at {self.sample_rate} Hz are empty, being narrower than a step "
                "of the spectrum, and stay at the log floor: take fewer bins",
                stacklevel=4,  # who made the extractor
            )

    @property
    def length(self) -> int:
        """Samples in a window."""
        return self.sample_rate * 25 // 1000

    @property
    def hop(self) -> int:
        """Samples between windows."""
        return self.sample_rate // 100

    @property
    def fft_size(self) -> int:
        """Points of the Fourier transform: the next power of two."""
        return 1 << (self.length - 1).bit_length()

    @property
    def top_freq(self) -> float:
        """Upper end of the highest filter in Hz."""
        return self.high_freq if self.high_freq > 0 else self.sample_rate / 2 + self.high_freq

    def frame_count(self, samples: int) -> int:
        """Return the number of windows that lie whole in `samples` samples."""
        return 0 if samples < self.length else 1 + (samples - self.length) // self.hop

    @cached_property
    def taper(self) -> Frames:
        """The window, shape (length,): symmetric, with the waveform's scale in it."""
        phase = 2 * np.pi * np.arange(self.length) / (self.length - 1)
        shape = (0.5 - 0.5 * np.cos(phase)) ** 0.85 if self.window == "povey" else 0.54 - 0.46 * np.cos(phase)
        return (self.scale * shape).astype(np.float32)

    @cached_property
    def filters(self) -> Frames:
        """Triangles, linear in mel, shape (fft_size // 2 + 1, num_mel_bins); the Nyquist frequency has no weight, as in Kaldi."""
        low, high = _mel(self.low_freq), _mel(self.top_freq)
        step = (high - low) / (self.num_mel_bins + 1)
        centre = low + step * (1 + np.arange(self.num_mel_bins))
        bins = _mel(np.arange(self.fft_size // 2) * self.sample_rate / self.fft_size)[:, None]
        weights = np.maximum(0.0, np.minimum(bins - (centre - step), (centre + step) - bins) / step)
        return np.vstack([weights, np.zeros(self.num_mel_bins)]).astype(np.float32)

    @cached_property
    def _spectrum(self) -> PowerSpectrum:
        return PowerSpectrum(self.fft_size, self.taper)

    @cached_property
    def _bands(self) -> list[tuple[slice, slice, Frames]]:
        """Neighbouring filters, the rows of the spectrum that they use, and their weights: nine in ten weights are zero."""
        weights = self.filters[self._spectrum.bins]
        bands = []
        for first in range(0, self.num_mel_bins, _BAND):
            filters = slice(first, min(first + _BAND, self.num_mel_bins))
            used = np.flatnonzero(weights[:, filters].any(axis=1))
            rows = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
            bands.append((filters, rows, np.ascontiguousarray(weights[rows, filters])))
        return bands

    def __call__(self, waveform: Waveform) -> Frames:
        """Return log mel energies, shape (frames, num_mel_bins)."""
        count = self.frame_count(len(waveform))
        out = np.empty((count, self.num_mel_bins), dtype=np.float32)
        workspace = self._spectrum.workspace(min(count, BLOCK_ROWS))
        for first, rows in row_blocks(count):
            start = first * self.hop
            samples = waveform[start : start + (rows - 1) * self.hop + self.length]
            means = self._emphasised(samples, self._spectrum.windows(workspace, rows))
            power = self._spectrum(workspace, means)
            for filters, used, weights in self._bands:
                np.matmul(power[used].T, weights, out=out[first : first + rows, filters])
        np.maximum(out, np.float32(LOG_FLOOR), out=out)
        np.log(out, out=out)
        return out

    def _emphasised(self, samples: Waveform, windows: Frames) -> Frames:
        """Put windows with their high frequencies emphasised into `windows`, shape (length, rows), and return their means.

        Kaldi takes each window's mean away and emphasises then. Both are linear: here samples are emphasised once for all windows
        that share them, and what each window's mean has become, shape (rows,), is left to be taken away.
        """
        rows, factor = windows.shape[1], np.float32(self.preemphasis)
        parts = -(-self.length // self.hop)
        centred = np.empty((rows - 1 + parts) * self.hop, dtype=np.float32)
        np.subtract(samples, samples.sum() / len(samples), out=centred[: len(samples)])  # an offset would take up the digits
        centred[len(samples) :] = 0
        emphasised = np.empty_like(centred)
        np.multiply(centred[:-1], -factor, out=emphasised[1:])
        emphasised[1:] += centred[1:]
        emphasised[0] = 0  # belongs to the first window alone, whose first row is set below
        by_phase = np.ascontiguousarray(emphasised.reshape(-1, self.hop).T)  # of which windows in columns are a few copies
        for part in range(parts):
            place = windows[part * self.hop : (part + 1) * self.hop]
            place[:] = by_phase[: len(place), part : part + rows]
        first, last = centred[:: self.hop][:rows], centred[self.length - 1 :: self.hop][:rows]
        windows[0] = (1 - factor) * first  # the sample before a window is taken to equal its first
        means: Frames = np.full(self.length, 1 / self.length, dtype=np.float32) @ windows
        means -= factor / self.length * (last - first)
        return means


def row_blocks(count: int) -> Iterator[tuple[int, int]]:
    """Yield (first, rows) that cover `count` rows: whole blocks, then the rest."""
    return ((first, min(BLOCK_ROWS, count - first)) for first in range(0, count, BLOCK_ROWS))


def cepstral_matrix(num_mel_bins: int, num_ceps: int, lifter: float) -> Frames:
    """Return log mel energies → liftered cepstra, shape (num_mel_bins, num_ceps): orthonormal DCT-II times 1 + L/2 sin(πi/L)."""
    order = np.arange(num_ceps)
    angle = np.pi / num_mel_bins * (np.arange(num_mel_bins)[:, None] + 0.5) * order
    dct = np.sqrt(2.0 / num_mel_bins) * np.cos(angle)
    dct[:, 0] = np.sqrt(1.0 / num_mel_bins)
    liftered: NDArray[np.float64] = dct * (1.0 + 0.5 * lifter * np.sin(np.pi * order / lifter))
    return liftered.astype(np.float32)


def deltas(frames: Frames) -> Frames:
    """Return Σ n (c[t+n] - c[t-n]) / 10 over n = 1, 2, with the end frames repeated (torchaudio's compute_deltas, window 5)."""
    padded = np.concatenate([frames[:1], frames[:1], frames, frames[-1:], frames[-1:]])
    out: Frames = padded[4:] - padded[:-4]
    out *= np.float32(2)
    out += padded[3:-1] - padded[1:-3]
    out /= np.float32(10)
    return out


def _mel(frequency: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(frequency, dtype=np.float64) / 700.0)
