"""Pitch is the chosen library's own, to the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from vocable.audio.blocks import Block
from vocable.audio.manifest import Utterance
from vocable.errors import InputError
from vocable.features.extractors import Mfcc, extractor_of
from vocable.features.pipeline import FramePipeline
from vocable.features.pitch import Pitch

swift_f0 = pytest.importorskip("swift_f0", reason="needs the extra pitch")
RNG = np.random.default_rng(0)


def voice(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding tone, with pauses."""
    time = np.arange(int(seconds * rate)) / rate
    pitch = 130 * 2 ** (0.4 * np.sin(2 * np.pi * 0.5 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    whole = sum(np.sin(number * phase) / number for number in range(1, 16))
    spoken = np.sin(2 * np.pi * 1.1 * time + seed) > -0.5
    return (0.1 * whole * spoken + 0.002 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def reference(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The library's own answer around each frame's centre, one frame at a time: pitch, 0 where unvoiced, and the two it lies between."""
    found = swift_f0.SwiftF0(threads=1).detect(np.pad(waveform, (56, 512)), 16000, 50, 600)
    pitch, around = [], []
    for frame in range(0 if len(waveform) < 400 else 1 + (len(waveform) - 400) // 160):
        centre = frame * 160 + 200 + 56
        left, rest = divmod(centre, 256)
        near = left if rest < 128 else left + 1
        if found.confidence[near] < 0.5:
            value = 0.0
        elif min(found.confidence[left], found.confidence[left + 1]) < 0.5:
            value = found.pitch_hz[near]
        else:
            value = found.pitch_hz[left] ** (1 - rest / 256) * found.pitch_hz[left + 1] ** (rest / 256)
        pitch.append(value)
        around.append((found.pitch_hz[left], found.pitch_hz[left + 1]))
    return np.array(pitch), np.array(around)


@pytest.mark.parametrize(
    "waveform",
    [
        voice(3.0),
        voice(0.025),
        voice(31.0, seed=2),
        np.zeros(20000, np.float32),
        (0.1 * RNG.standard_normal(30000)).astype(np.float32),
        (0.3 * np.sin(2 * np.pi * 220 * np.arange(30000) / 16000)).astype(np.float32),
    ],
    ids=["voice", "one frame", "half a minute", "silence", "noise", "tone"],
)
def test_pitch_is_the_librarys_to_the_frame(waveform: np.ndarray) -> None:
    (found,) = Pitch()([waveform])
    expected, around = reference(waveform)
    assert found.dtype == np.float32
    assert found.shape == (len(expected), 1)
    assert np.array_equal(found[:, 0] > 0, expected > 0)
    assert np.allclose(found[:, 0], expected, rtol=1e-6)
    assert np.array_equal(found[::8, 0], np.where(expected[::8] > 0, around[::8, 0], 0).astype(np.float32))  # these are its own


def test_frames_are_as_many_as_of_mfcc_and_lie_on_them() -> None:
    for samples in (0, 399, 400, 559, 560, 5000, 16001):
        (pitch,), (mfcc,) = Pitch()([voice(2.0)[:samples]]), Mfcc()([voice(2.0)[:samples]])
        assert len(pitch) == len(mfcc)
    time = (160 * np.arange(298) + 200) / 16000
    truth = 130 * 2 ** (0.4 * np.sin(2 * np.pi * 0.5 * time))
    (found,) = Pitch()([voice(3.0)])
    voiced = found[:, 0] > 0
    assert 0.5 < voiced.mean() < 0.8
    assert np.median(np.abs(1200 * np.log2(found[voiced, 0] / truth[voiced]))) < 10


def test_silence_and_noise_are_unvoiced_and_a_tone_is_itself() -> None:
    silence, noise, tone = Pitch()(
        [
            np.zeros(16000, np.float32),
            (0.1 * RNG.standard_normal(16000)).astype(np.float32),
            (0.3 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)).astype(np.float32),
        ]
    )
    assert not silence.any()
    assert (noise > 0).mean() < 0.05
    assert (tone > 0).mean() > 0.5  # the library hears voices, and is in doubt of tones without harmonics
    assert np.abs(tone[tone > 0] - 300).max() < 2


def test_pitch_does_not_depend_on_neighbours() -> None:
    pitch = Pitch()
    waveforms = [voice(1.5, seed=1), voice(0.7, seed=2), voice(2.2, seed=3)]
    for alone, together in zip(([one] for one in waveforms), pitch(waveforms), strict=True):
        assert np.array_equal(pitch(alone)[0], together)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_audio_at_any_rate_is_converted_first(tmp_path: Path, rate: int) -> None:
    wave = voice(2.0, rate)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    block = Block(0, 0, str(tmp_path), (Utterance("a", "a.wav", 32000),), 16000)
    pipeline = FramePipeline(Pitch().spec)
    made = pipeline.open("cpu")(block)
    _, (waveform,), _ = pipeline.waveforms_of(block)
    assert np.allclose(made.frames[0][:, 0], reference(waveform)[0], rtol=1e-6)
    (at_16,) = Pitch()([resample_poly(wave, 16000, rate).astype(np.float32)])
    both = (at_16 > 0) & (made.frames[0] > 0)
    assert both.sum() > 0.95 * (at_16 > 0).sum()
    assert np.median(np.abs(made.frames[0][both] / at_16[both] - 1)) < 0.005


def test_a_spec_makes_its_extractor_and_limits_are_checked() -> None:
    spec = Pitch().spec
    assert extractor_of(spec).spec == spec
    assert (spec.kind, spec.dim, spec.hop, spec.receptive_field, spec.rate) == ("f0", 1, 160, 400, 100)
    with pytest.raises(InputError, match="give other limits"):
        Pitch(600, 50)


def test_samples_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    wave = voice(1.0)
    wave[5000] = np.nan
    (found,) = Pitch()([wave])
    assert np.isnan(found).all()
