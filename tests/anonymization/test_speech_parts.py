"""Speech is taken apart and put together: pitch and envelope are what they should be, and come back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import speech_like
from vocable.anonymization.speech_parts import at_level, frame_count, put_together, taken_apart


def harmonics(pitch: float, seconds: float = 1.0) -> NDArray[np.float32]:
    at = np.arange(round(16000 * seconds)) / 16000
    parts = [np.sin(2 * np.pi * pitch * number * at + number) / number for number in range(1, int(4000 / pitch))]
    return (0.1 * np.sum(parts, axis=0)).astype(np.float32)


@pytest.mark.parametrize("pitch", [80.0, 110.0, 155.5, 220.0, 320.0])
def test_the_pitch_of_harmonics_is_found(pitch: float) -> None:
    found = taken_apart(harmonics(pitch))
    inner = found.pitch[5:-5]
    assert (inner > 0).all()
    np.testing.assert_allclose(inner, pitch, rtol=0.02)
    assert found.median_pitch == pytest.approx(pitch, rel=0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1
    assert (taken_apart(noise).pitch > 0).mean() < 0.05
    silence = taken_apart(np.zeros(16000, np.float32))
    assert silence.median_pitch == 0
    assert np.isfinite(silence.envelope).all()
    assert np.abs(put_together(silence.envelope, silence.pitch, 16000)).max() < 1e-2


def test_frames_follow_every_hundredth_of_a_second_and_end_with_the_audio() -> None:
    for samples in (1, 159, 160, 161, 16000, 16001):
        parts = taken_apart(np.full(samples, 0.1, np.float32))
        assert len(parts.envelope) == len(parts.pitch) == frame_count(samples) == -(-samples // 160)
        assert put_together(parts.envelope, parts.pitch, samples).shape == (samples,)


def test_what_is_put_together_has_the_pitch_and_envelope_it_was_given() -> None:
    bins = np.arange(80)
    formants = -4 + 3 * np.exp(-(((bins - 15) / 8) ** 2)) + 2 * np.exp(-(((bins - 45) / 10) ** 2))
    envelope = np.tile(formants.astype(np.float32), (200, 1))
    for pitch in (90.0, 180.0, 0.0):
        made = taken_apart(put_together(envelope, np.full(200, pitch, np.float32), 32000))
        if pitch:
            np.testing.assert_allclose(made.pitch[10:-10], pitch, rtol=0.03)
        else:
            assert (made.pitch > 0).mean() < 0.1
        # Over a few bins, since those between two harmonics are empty.
        found, wanted = (
            np.log(np.convolve(power, np.ones(7) / 7, "same"))[5:75]
            for power in (np.exp(made.envelope[10:-10]).mean(axis=0), np.exp(formants))
        )
        assert np.abs(found - wanted).max() < 1.2  # nepers of power, or 5 dB
        assert np.corrcoef(found, wanted)[0, 1] > 0.97


def test_long_audio_goes_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = speech_like(3.0, 1)
    whole = taken_apart(wave)
    made = put_together(whole.envelope, whole.pitch, len(wave))
    monkeypatch.setattr("vocable.anonymization.speech_parts._AT_ONCE", 37)
    again = taken_apart(wave)
    np.testing.assert_allclose(again.envelope, whole.envelope, atol=1e-4)
    np.testing.assert_allclose(put_together(whole.envelope, whole.pitch, len(wave)), made, atol=1e-5)


def test_loudness_is_that_of_the_original_and_nothing_is_clipped() -> None:
    wave = speech_like(1.0, 2)
    assert np.square(at_level(7 * wave, wave)).mean() == pytest.approx(np.square(wave).mean(), rel=1e-4)
    peaks = np.zeros(16000, np.float32)
    peaks[::4000] = 0.5
    assert np.abs(at_level(peaks, np.ones(16000, np.float32))).max() == pytest.approx(0.99)
    silence = np.zeros(100, np.float32)
    assert (at_level(silence, wave) == 0).all()
    assert (at_level(wave, silence) == 0).all()
