"""Speech taken apart, and put together again: an envelope every 10 ms, and what excites it, pulses of a voice or noise.

Nothing here is learnt, so it works on any machine with no model at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform
from vocable.execution.threads import single_threaded
from vocable.features import slaney

Values = NDArray[np.float32]
SAMPLE_RATE, HOP, WINDOW, POINTS, BINS = 16_000, 160, 640, 1024, 80
_FLOOR = 1e-8  # of a power, for samples of at most 1: beneath what 16 bits hold
_AT_ONCE = 512  # frames
_LOWEST, _HIGHEST = 60, 400  # Hz
_BANDS = 6  # of half an octave, from the highest pitch on
_PITCH_BAND = (100, 4000)  # Hz
_VOICED, _SURE = 0.6, 0.8  # least autocorrelation
_OCTAVE, _LEAP = 0.06, 0.15  # by which it has to be higher an octave lower, and an octave from the median
_FLAT = 1e-9
_SHORT = 0.6  # the least that a window's own autocorrelation counts: noise is raised too much otherwise
_SPEECH = 35 / 10 * np.log(10)  # below the loudest frames, in nepers of power
_BREATH = 4000  # Hz above which a voice's pulses drown in noise
_NOISE_SEED = 0


@dataclass(frozen=True)
class SpeechParts:
    """What speech is made of, every 10 ms."""

    envelope: Values
    """Log power in mel bins, of shape (frames, 80)."""
    pitch: Values
    """Hz, of shape (frames,); 0 where there is no voice."""
    speech: NDArray[np.bool_]
    """Which frames aren't silence, of shape (frames,)."""
    samples: int

    @property
    def mean(self) -> Values:
        """Mean envelope of speech, of shape (80,)."""
        kept = self.envelope[self.speech] if self.speech.any() else self.envelope
        mean: Values = kept.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @property
    def median_pitch(self) -> float:
        """Median of the voiced frames, in Hz; 0 where nothing is voiced."""
        voiced = self.pitch[self.pitch > 0]
        return float(np.median(voiced)) if len(voiced) else 0.0


def taken_apart(waveform: Waveform) -> SpeechParts:
    """Return the parts of a waveform at 16 kHz, of shape (samples,): a frame for every 10 ms that have begun."""
    count = frame_count(len(waveform))
    padded = np.pad(waveform.astype(np.float32, copy=False), (POINTS // 2, POINTS // 2 + HOP))
    envelope = np.empty((count, BINS), np.float32)
    frequencies, heights = (np.empty((count, _BANDS), np.float32) for _ in range(2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, POINTS)[::HOP]
    inner = (POINTS - WINDOW) // 2
    # Whoever asked looks whether it is finite; with several threads products round otherwise.
    with np.errstate(over="ignore", invalid="ignore"), single_threaded():
        for first in range(0, count, _AT_ONCE):
            own = slice(first, min(first + _AT_ONCE, count))
            power = _power(windows[own, inner : inner + WINDOW] * _hann(WINDOW))
            envelope[own] = np.log(power @ _filters() / _window_power() + np.float32(_FLOOR))
            frequencies[own], heights[own] = _candidates(_power(windows[own] * _hann(POINTS)))
        levels = np.logaddexp.reduce(envelope, axis=1)
        speech = levels > (np.percentile(levels, 95) - _SPEECH if count else 0.0)
        pitch = np.where(speech, _chosen(frequencies, heights), np.float32(0))
    return SpeechParts(envelope, _smooth(pitch), speech, len(waveform))


def _power(windows: Values) -> Values:
    spectrum = np.fft.rfft(windows, POINTS)
    power: Values = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return power


def frame_count(samples: int) -> int:
    """Return how many frames samples have."""
    return -(-samples // HOP)


def put_together(envelope: Values, pitch: Values, samples: int) -> Waveform:
    """Return a waveform with such an envelope and pitch, of shape (samples,).

    The noise in it is always the same.

    Args:
        envelope: of shape (frames, 80).
        pitch: of shape (frames,), 0 where there is no voice.
        samples: how many are wanted.
    """
    pulses, noise = _excitation(pitch, HOP * len(pitch))
    made = np.zeros(HOP * (len(envelope) - 1) + POINTS + WINDOW, np.float32)
    weight = np.zeros_like(made)
    padded = [np.pad(part, (WINDOW // 2, WINDOW // 2 + HOP)) for part in (pulses, noise)]
    windows = [np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::HOP] for part in padded]
    for first in range(0, len(envelope), _AT_ONCE):
        own = slice(first, min(first + _AT_ONCE, len(envelope)))
        voiced, unvoiced = (np.fft.rfft(part[own] * _hann(), POINTS) for part in windows)
        with single_threaded():
            gains = np.exp(0.5 * (envelope[own] @ _interpolation())).astype(np.float32)
        is_voiced = (pitch[own] > 0)[:, None]
        breath = np.where(is_voiced, _breath(), np.float32(1))
        mixed = gains * (voiced * np.sqrt(1 - breath**2) + unvoiced * breath)
        for number, piece in enumerate(np.fft.irfft(mixed, POINTS).astype(np.float32)[:, :WINDOW], own.start):
            made[HOP * number : HOP * number + WINDOW] += piece * _hann()
            weight[HOP * number : HOP * number + WINDOW] += _hann() ** 2
    made /= np.maximum(weight, np.float32(1e-3))
    return made[WINDOW // 2 : WINDOW // 2 + samples]


def at_level(waveform: Waveform, like: Waveform) -> Waveform:
    """Return a waveform as loud as another, or as loud as it may be without being clipped."""
    power, wanted = (float(np.square(item, dtype=np.float64).mean()) if len(item) else 0.0 for item in (waveform, like))
    if not power > 0:
        return waveform
    highest = float(np.abs(waveform).max())
    return waveform * np.float32(min(np.sqrt(wanted / power), 0.99 / highest))


def _excitation(pitch: Values, samples: int) -> tuple[Waveform, Waveform]:
    """Return pulses, one for each period of a voice, and noise; both have a power of 1."""
    steps = np.repeat(pitch / SAMPLE_RATE, HOP)[:samples]
    phase = np.cumsum(steps, dtype=np.float64)
    begun = np.flatnonzero(np.diff(np.floor(phase), prepend=0.0) > 0)
    pulses = np.zeros(samples, np.float32)
    pulses[begun] = 1 / np.sqrt(steps[begun])
    noise = np.random.default_rng(_NOISE_SEED).standard_normal(samples, dtype=np.float32)
    return pulses, noise


def _candidates(power: Values) -> tuple[Values, Values]:
    """Return the best pitch in each band of half an octave of windows of power spectra of shape (windows, frequencies).

    Returns:
        Frequencies in Hz, and the autocorrelation at their periods; both of shape (windows, bands).
    """
    correlation = np.fft.irfft(power * _band(), POINTS)[:, : SAMPLE_RATE // _LOWEST + 2].astype(np.float32)
    correlation /= np.maximum(correlation[:, :1], 1e-20) * _own_correlation()[None]
    edges = (SAMPLE_RATE / _HIGHEST * 2 ** (np.arange(_BANDS + 1) / 2)).round().astype(int)
    rows = np.arange(len(power))
    frequencies, heights = (np.empty((len(power), _BANDS), np.float32) for _ in range(2))
    for number, (first, last) in enumerate(pairwise(np.minimum(edges, SAMPLE_RATE // _LOWEST).tolist())):
        lag = first + correlation[:, first:last].argmax(axis=1)
        before, at, after = (correlation[rows, lag + shift] for shift in (-1, 0, 1))
        bend = before - 2 * at + after
        shift = np.where(bend < -_FLAT, 0.5 * (before - after) / np.minimum(bend, -_FLAT), 0)
        is_peak = (at >= before) & (at >= after)
        frequencies[:, number] = SAMPLE_RATE / (lag + np.clip(shift, -0.5, 0.5))
        heights[:, number] = np.where(is_peak, at, 0)
    return frequencies, heights


def _chosen(frequencies: Values, heights: Values) -> Values:
    """Return the pitch of each frame, of shape (frames,): near the median, where there is a choice; 0 without voice."""
    rows = np.arange(len(frequencies))
    best = (heights - _OCTAVE * np.log2(_HIGHEST / frequencies)).argmax(axis=1)
    sure = heights[rows, best] > _SURE
    if not sure.any():
        return np.zeros(len(frequencies), np.float32)
    median = np.median(frequencies[rows, best][sure])
    best = (heights - _LEAP * np.abs(np.log2(frequencies / median))).argmax(axis=1)
    found: Values = np.where(heights[rows, best] > _VOICED, frequencies[rows, best], 0).astype(np.float32)
    return found


def _smooth(pitch: Values) -> Values:
    """Return pitch without voices, and pauses of one, of a frame or two, and without jumps of as many."""
    if len(pitch) < 5:
        return pitch
    around = np.lib.stride_tricks.sliding_window_view(np.pad(pitch, 2), 5)
    voiced = (around > 0).sum(axis=1) >= 3
    middle = _median_of_voiced(around)
    smooth: Values = np.where(voiced, middle, 0).astype(np.float32)
    return smooth


def _median_of_voiced(around: Values) -> Values:
    ordered = np.sort(around, axis=1)  # those without a voice come first
    count = (around > 0).sum(axis=1)
    middle: Values = ordered[np.arange(len(ordered)), np.minimum(5 - (count + 1) // 2, 4)]
    return middle


@cache
def _hann(length: int = WINDOW) -> Values:
    window: Values = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)
    return window


@cache
def _window_power() -> np.float32:
    return np.float32(np.square(_hann(), dtype=np.float64).sum())


@cache
def _own_correlation() -> Values:
    """Return the longer window's own autocorrelation, by which that of what is seen through it is divided (Boersma 1993)."""
    found = np.fft.irfft(np.abs(np.fft.rfft(_hann(POINTS))) ** 2)[: SAMPLE_RATE // _LOWEST + 2]
    kept: Values = np.maximum(found / found[0], _SHORT).astype(np.float32)
    return kept


@cache
def _band() -> Values:
    frequencies = np.arange(POINTS // 2 + 1) * SAMPLE_RATE / POINTS
    within: Values = ((frequencies >= _PITCH_BAND[0]) & (frequencies <= _PITCH_BAND[1])).astype(np.float32)
    return within


@cache
def _breath() -> Values:
    """Return how much of a voice is noise at each frequency."""
    frequencies = np.arange(POINTS // 2 + 1) * SAMPLE_RATE / POINTS
    return np.clip((frequencies - _BREATH / 2) / _BREATH, 0.0, 1.0).astype(np.float32)


@cache
def _filters() -> Values:
    """Return mel filters on Slaney's scale, of shape (frequencies, bins), each with a sum of 1."""
    frequencies = np.arange(POINTS // 2 + 1) * SAMPLE_RATE / POINTS
    filters = slaney.triangles(frequencies, BINS, SAMPLE_RATE / 2)
    each: Values = (filters / filters.sum(axis=0)).astype(np.float32)
    return each


@cache
def _interpolation() -> Values:
    """Return what makes an envelope at all frequencies of one in mel bins, of shape (bins, frequencies)."""
    frequencies = np.arange(POINTS // 2 + 1) * SAMPLE_RATE / POINTS
    centres = slaney.centres(BINS, SAMPLE_RATE / 2)[1:-1]
    return np.stack([np.interp(frequencies, centres, row) for row in np.eye(BINS)]).astype(np.float32)
