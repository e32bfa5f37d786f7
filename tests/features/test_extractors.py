from __future__ import annotations

from collections.abc import Callable

import kaldi_native_fbank as knf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import speech_like
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.errors import InputError
from vocable.features import LogMel, Mfcc
from vocable.features.extractors import FeatureExtractor, extractor_of
from vocable.features.kaldi import BLOCK_ROWS, FilterBank, deltas, row_blocks
from vocable.features.kaldi_torch import TorchFilterBank


def mfcc_by_the_book(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Kaldi's MFCC with deltas, frame by frame in float64, from specs and formulas alone."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    mel = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), 25)
    rows = []
    for start in range(0, len(waveform) - 399, 160):
        frame = waveform[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.array([frame[j] - 0.97 * frame[max(j - 1, 0)] for j in range(400)]) * window
        power = np.abs(np.fft.rfft(np.append(frame, np.zeros(112)))) ** 2
        energies = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.clip(np.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)), 0, None)
            weight[256] = 0
            energies.append(np.log(max((weight * power).sum(), 1.1920929e-7)))
        ceps = [
            np.sqrt((1 if i == 0 else 2) / 23) * sum(e * np.cos(np.pi * i * (k + 0.5) / 23) for k, e in enumerate(energies))
            for i in range(13)
        ]
        rows.append([c * (1 + 11 * np.sin(np.pi * i / 22)) for i, c in enumerate(ceps)])

    def difference(table: NDArray[np.float64]) -> NDArray[np.float64]:
        last = len(table) - 1
        at = lambda t: table[min(max(t, 0), last)]  # noqa: E731
        return np.array([sum(n * (at(t + n) - at(t - n)) for n in (1, 2)) / 10 for t in range(len(table))])

    static = np.array(rows)
    first = difference(static)
    return np.hstack([static, first, difference(first)])


def test_mfcc_is_kaldis_by_the_book() -> None:
    waveform = speech_like(0.6, 5)
    assert np.abs(Mfcc()([waveform])[0] - mfcc_by_the_book(waveform)).max() < 2e-3


def knf_frames(waveform: NDArray[np.float32], make: Callable[[], object], sample_rate: int = 16000) -> NDArray[np.float32]:
    computer = make()
    computer.accept_waveform(sample_rate, waveform.tolist())  # type: ignore[attr-defined]
    computer.input_finished()  # type: ignore[attr-defined]
    return np.stack([computer.get_frame(at) for at in range(computer.num_frames_ready)])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("seed", "sample_rate"), [(0, 16000), (1, 16000), (2, 8000), (3, 48000), (4, 44100), (5, 11025)])
def test_mfcc_equals_kaldi_native_fbank_on_random_audio(seed: int, sample_rate: int) -> None:
    options = knf.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 23
    options.num_ceps = 13
    options.use_energy = False
    options.frame_opts.samp_freq = sample_rate
    waveform = (0.3 * np.random.default_rng(seed).standard_normal(sample_rate * 2)).astype(np.float32)
    found = Mfcc(sample_rate, delta_order=0)([waveform])[0]
    expected = knf_frames(waveform, lambda: knf.OnlineMfcc(options), sample_rate)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 5e-3
    assert np.median(np.abs(found - expected)) < 1e-4


@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
@pytest.mark.parametrize(("bins", "window"), [(40, "hamming"), (80, "povey"), (23, "povey"), (1, "povey")])
def test_log_mel_equals_kaldi_native_fbank(bins: int, window: str, sample_rate: int) -> None:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = window
    options.mel_opts.num_bins = bins
    options.use_energy = False
    options.frame_opts.samp_freq = sample_rate
    waveform = speech_like(2.0, 7, sample_rate)
    found = LogMel.preset(bins, sample_rate)([waveform])[0]
    expected = knf_frames(waveform * 32768, lambda: knf.OnlineFbank(options), sample_rate)
    assert found.shape == expected.shape == (198, bins)
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize(("bins", "empty"), [(128, 1), (400, 86)])
def test_more_bins_than_the_spectrum_has_are_kaldis_too_and_warned_of(bins: int, empty: int) -> None:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bins
    options.use_energy = False
    waveform = speech_like(1.0, 7)
    with pytest.warns(UserWarning, match=rf"^{empty} of {bins} mel filters at 16000 Hz are empty.*: take fewer bins$") as caught:
        extractor = LogMel(num_mel_bins=bins)
    assert [item.filename for item in caught] == [__file__]
    found = extractor([waveform])[0]
    differences = np.abs(found - knf_frames(waveform * 32768, lambda: knf.OnlineFbank(options)))
    assert differences.max() < 0.05  # narrow filters meet next to no energy or have next to no weight, and that rounds badly
    assert np.quantile(differences, 0.99) < 2e-3
    assert (found == np.log(np.float32(1.1920929e-07))).all(axis=0).sum() == empty


def test_digital_silence_is_the_log_floor() -> None:
    for level in (0.0, 0.1, -1 / 3):
        assert np.allclose(LogMel.preset(40)([np.full(40_000, level, np.float32)])[0], np.log(1.1920929e-07))


@pytest.mark.parametrize("offset", [0.05, -0.3, 0.9])
@pytest.mark.parametrize("loudness", [1.0, 0.01, 0.0005])
def test_an_offset_of_the_waveform_changes_nothing(offset: float, loudness: float) -> None:
    plain = np.round(speech_like(4.0, 3) * loudness * 32768) / 32768
    shifted = plain + np.round(offset * 32768) / 32768
    for extractor, most in ((Mfcc(), 1e-3), (LogMel.preset(80), 1e-3)):
        expected, found = extractor([plain.astype(np.float32), shifted.astype(np.float32)])
        assert np.abs(found - expected).max() < most


def test_frames_at_the_ends_of_blocks_are_those_of_their_own_samples() -> None:
    waveform, bank = speech_like(4.5, 2), FilterBank()
    frames = bank(waveform)
    assert len(frames) > 2 * BLOCK_ROWS
    for at in (0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS - 1, 2 * BLOCK_ROWS, len(frames) - 1):
        assert np.abs(bank(waveform[at * bank.hop :][: bank.length])[0] - frames[at]).max() < 1e-4


def test_a_view_of_one_channel_has_the_frames_of_a_copy() -> None:
    stereo = np.stack([speech_like(3.0, 1), speech_like(3.0, 2)], axis=1)
    view, copy = Mfcc()([stereo[:, 1], stereo[:, 1].copy()])
    assert np.array_equal(view, copy)


@pytest.mark.parametrize("make", [Mfcc, lambda: LogMel.preset(40), lambda: LogMel.preset(80)])
def test_short_utterances_have_no_frames(make: Callable[[], FeatureExtractor]) -> None:
    extractor = make()
    shapes = [frames.shape for frames in extractor([np.ones(size, np.float32) for size in (0, 1, 399, 400)])]
    assert shapes == [(0, extractor.spec.dim)] * 3 + [(1, extractor.spec.dim)]


@given(st.lists(st.integers(0, 9000), min_size=1, max_size=12), st.integers(0, 1000))
def test_frames_do_not_depend_on_batch_neighbours(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    waveforms = [rng.standard_normal(length).astype(np.float32) for length in lengths]
    for extractor in (Mfcc(), LogMel.preset(40)):
        together = extractor(waveforms)
        for waveform, frames in zip(waveforms, together, strict=True):
            assert np.array_equal(extractor([waveform])[0], frames)
            assert len(frames) == extractor.spec.frame_count(len(waveform))


@pytest.mark.parametrize("make", [Mfcc, lambda **options: LogMel.preset(80, **options)])
def test_a_torch_device_gives_the_same_frames_up_to_rounding(make: Callable[..., FeatureExtractor]) -> None:
    waveforms = [speech_like(seconds, at) for at, seconds in enumerate((0.01, 1.0, 3.0))]
    on_cpu, on_device = make()(waveforms), make(device="cpu:0")(waveforms)
    for expected, found in zip(on_cpu, on_device, strict=True):
        assert found.shape == expected.shape
        if len(expected):
            assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
            assert np.median(np.abs(found - expected)) < 1e-6


def test_a_torch_device_takes_nothing_too() -> None:
    bank = FilterBank()
    assert TorchFilterBank(bank, None, "cpu")([np.zeros(10, np.float32)])[0].shape == (0, 23)


def test_deltas_of_a_ramp_are_its_slope() -> None:
    ramp = np.arange(10, dtype=np.float32)[:, None] * np.array([[1, -2]], np.float32)
    assert np.allclose(deltas(ramp)[2:-2], [[1, -2]])
    assert np.allclose(deltas(ramp[:1]), 0)


@given(st.integers(0, 3000))
def test_row_blocks_cover_all_rows_and_depend_on_their_number_alone(count: int) -> None:
    blocks = list(row_blocks(count))
    assert [first for first, _ in blocks] == list(np.cumsum([0, *(rows for _, rows in blocks)])[:-1])
    assert sum(rows for _, rows in blocks) == count
    assert all(rows == BLOCK_ROWS for _, rows in blocks[:-1])


def test_specs_say_what_the_frames_are_and_make_them_again() -> None:
    waveform = [speech_like(0.5, 1)]
    for extractor in (
        Mfcc(),
        Mfcc(8000),
        LogMel.preset(40),
        LogMel(num_mel_bins=64, scale=1.0),
        Mfcc(num_ceps=20, num_mel_bins=40),
    ):
        spec = FeatureSpec.from_json(extractor.spec.to_json())
        assert spec == extractor.spec
        again = extractor_of(spec)
        assert again.spec == spec
        assert np.array_equal(again(waveform)[0], extractor(waveform)[0])
        assert extractor(waveform)[0].shape[1] == spec.dim
    assert Mfcc().spec != LogMel.preset(40).spec
    assert LogMel.preset(40).spec != LogMel(num_mel_bins=40).spec


def test_specs_nobody_can_make_are_refused() -> None:
    spec = Mfcc().spec.to_json()
    for change, message in (
        ({"kind": "plp"}, "kind 'plp' can't be made"),
        ({"parameters": {"num_mel_bins": 23}}, "lacks the setting 'num_ceps'"),
        ({"parameters": {**spec["parameters"], "vtln": 1.1}}, "settings this version doesn't know"),
    ):
        with pytest.raises(InputError, match=message):
            extractor_of(FeatureSpec.from_json({**spec, **change}))


def test_impossible_settings_are_refused() -> None:
    for make, message in (
        (lambda: Mfcc(num_ceps=30), "30 cepstra of 23"),
        (lambda: LogMel(window="hann"), "neither povey nor hamming"),
        (lambda: LogMel(num_mel_bins=0), "0 mel bins between 20 and 8000 Hz don't make a filter bank"),
        (lambda: FilterBank(low_freq=9000), "don't make a filter bank"),
        (lambda: Mfcc(sample_rate=100), "don't make a filter bank at 100 Hz"),
    ):
        with pytest.raises(InputError, match=message):
            make()
