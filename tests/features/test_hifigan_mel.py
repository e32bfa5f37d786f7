"""HiFi-GAN's log-mel frames are what its paper says, and have the gradient that they should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers import speech_like
from vocable.errors import InputError
from vocable.features.hifigan_mel import HifiganMel

Float = NDArray[np.float64]


def slaney_filters(sample_rate: int) -> Float:
    """Return 80 filters up to 8000 Hz of equal area, of shape (80, 513), said as plainly as possible."""

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    highest = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [hertz(highest * number / 81) for number in range(82)]
    filters = np.zeros((80, 513))
    for bin_, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for point in range(513):
            frequency = point * sample_rate / 1024
            if low < frequency < high:
                height = (frequency - low) / (middle - low) if frequency < middle else (high - frequency) / (high - middle)
                filters[bin_, point] = height * 2 / (high - low)
    return filters


def plain(waveform: Float, hop: int, sample_rate: int) -> Float:
    around = (1024 - hop) // 2
    mirrored = np.concatenate([waveform[around:0:-1], waveform, waveform[-2 : -2 - around : -1]])
    window = np.array([np.sin(np.pi * at / 1024) ** 2 for at in range(1024)])
    filters = slaney_filters(sample_rate)
    frames = []
    for first in range(0, len(mirrored) - 1023, hop):
        spectrum = np.fft.rfft(mirrored[first : first + 1024] * window)
        frames.append(np.log(np.maximum(filters @ np.sqrt(np.abs(spectrum) ** 2 + 1e-9), 1e-5)))
    return np.array(frames)


@pytest.mark.parametrize(("hop", "sample_rate"), [(160, 16000), (320, 16000), (256, 22050)])
def test_frames_are_those_of_a_plain_formulation(hop: int, sample_rate: int) -> None:
    waveform = speech_like(0.3, 1)[: 12 * hop + 7]
    found = HifiganMel(hop, sample_rate)(torch.from_numpy(waveform)[None])[0]
    expected = plain(waveform.astype(np.float64), hop, sample_rate)
    assert found.shape == expected.shape == (12, 80)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # of float32 samples; a bin may hold little
    exact = HifiganMel(hop, sample_rate)(torch.from_numpy(waveform.astype(np.float64))[None])[0]
    np.testing.assert_allclose(exact, expected, atol=1e-5)


def test_the_gradient_of_the_loss_is_the_numerical_one() -> None:
    mel = HifiganMel(160)
    said = torch.from_numpy(speech_like(0.1, 2).astype(np.float64))[None]
    made = (
        said + 0.01 * torch.randn(said.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).requires_grad_()

    def loss(waveforms: torch.Tensor) -> torch.Tensor:
        return (mel(waveforms) - mel(said)).abs().mean()

    (gradient,) = torch.autograd.grad(loss(made), made)
    for at in (0, 3, 431, 700, 1110, 1599):
        step = torch.zeros_like(made)
        step[0, at] = 1e-6
        with torch.no_grad():
            numerical = float(loss(made + step) - loss(made - step)) / 2e-6
        assert float(gradient[0, at]) == pytest.approx(numerical, rel=1e-4, abs=1e-8), at


def test_silence_has_a_gradient_and_a_floor() -> None:
    silence = torch.zeros(1, 1600, requires_grad=True)
    frames = HifiganMel(160)(silence)
    frames.sum().backward()
    assert silence.grad is not None
    assert torch.isfinite(silence.grad).all()
    assert float(frames.detach().min()) >= np.log(1e-5) - 1e-6


def test_frames_that_cannot_be_are_refused() -> None:
    for hop, rate in ((161, 16000), (2048, 16000), (160, 8000)):
        with pytest.raises(InputError, match="log-mel frames every"):
            HifiganMel(hop, rate)
    assert HifiganMel(160).spec.frame_count(1024 + 160) == 2
