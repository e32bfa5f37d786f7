"""Log mel energies in decibels are SpeechBrain's, written out here as sums over samples and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import speech_like
from vocable.features.decibel_mel import DecibelMel


def hertz(mel: float) -> float:
    return float(700 * (10 ** (mel / 2595) - 1))


def written_out(waveform: NDArray[np.float32], bins: int) -> NDArray[np.float64]:
    step = 2595 * np.log10(1 + 8000 / 700) / (bins + 1)
    sample = np.arange(400)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * sample / 400)
    frames = []
    for middle in range(0, len(waveform) + 1, 160):
        seen = [waveform[at] if 0 <= at < len(waveform) else 0.0 for at in range(middle - 200, middle + 200)]
        power = [abs(np.sum(seen * window * np.exp(-2j * np.pi * k * sample / 400))) ** 2 for k in range(201)]
        frame = []
        for number in range(1, bins + 1):
            centre = hertz(number * step)
            width = centre - hertz((number - 1) * step)  # on both sides
            energy = sum(power[k] * max(0.0, 1 - abs(40 * k - centre) / width) for k in range(201))
            frame.append(10 * np.log10(max(energy, 1e-10)))
        frames.append(frame)
    found = np.maximum(frames, np.max(frames) - 80)
    return np.asarray(found - found.mean(axis=0))


@pytest.mark.parametrize(("samples", "bins", "gain"), [(1600, 80, 1), (1599, 80, 1), (700, 24, 1), (700, 24, 1e-5)])
def test_energies_are_those_that_are_written_out(samples: int, bins: int, gain: float) -> None:
    waveform = speech_like(samples / 16000, 1) * np.float32(gain)
    waveform[: samples // 2] *= 1e-4  # so that the range below the loudest matters
    found = DecibelMel(bins)(waveform)
    assert found.dtype == np.float32
    assert found.shape == (1 + samples // 160, bins)
    np.testing.assert_allclose(found, written_out(waveform, bins), atol=1e-4)


def test_silence_is_told_by_zeros() -> None:
    assert not DecibelMel()(np.zeros(1600, np.float32)).any()


def test_long_waveforms_are_taken_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = speech_like(1, 2)
    whole = DecibelMel()(waveform)
    monkeypatch.setattr("vocable.features.decibel_mel._ROWS", 7)
    np.testing.assert_allclose(DecibelMel()(waveform), whole, atol=1e-4)
