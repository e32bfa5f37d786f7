"""Audio to syllables: long audio in windows, what can't be used, and what an utterance is cut into alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from helpers import speech_like
from models.made import made_encoder, tiny
from vocable.audio.faults import AudioFault
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.syllables import hearing
from vocable.syllables.hearing import FrameStore, Recording
from vocable.syllables.overlap_add import Joined, spans, weights
from vocable.syllables.segmenter import Segmenter
from vocable.syllables.settings import PRESETS, SegmentSettings, Voicing

SETTINGS = SegmentSettings(layer=2, voicing=Voicing(layer=3))


def sentence_encoder() -> EncoderConfig:
    return replace(tiny(), family="sdhubert", aggregator=True, waveform_normalization="utterance", waveform_eps=1e-7)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "tiny"
    write_encoder(EncoderCheckpoint.of(made_encoder(sentence_encoder())), path, "vocable")
    return path


def wave(seconds: float, seed: int) -> NDArray[np.float32]:
    return speech_like(seconds, seed)


@pytest.mark.parametrize("windows", ["whole", "overlap-add"])
@pytest.mark.parametrize("method", ["minimum-cut", "greedy", "norm-peaks"])
def test_an_utterance_is_cut_alone_as_among_others(checkpoint: Path, windows: str, method: str) -> None:
    segmenter = Segmenter(checkpoint, replace(SETTINGS, windows=windows, method=method))
    waves = [wave(seconds, seed) for seed, seconds in enumerate((0.5, 3.0, 12.0, 1.2, 7.7))]
    together = segmenter(waves)
    for alone, among in zip(map(segmenter, waves), together, strict=True):
        np.testing.assert_array_equal(alone.frames, among.frames)
        np.testing.assert_array_equal(alone.segment_features, among.segment_features)
        np.testing.assert_array_equal(alone.features, among.features)
        assert len(among.frames) == len(among.segment_features)
        np.testing.assert_allclose(among.segments, among.frames * 0.02, rtol=1e-12)


def test_a_file_is_cut_as_its_waveform(checkpoint: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(8.0, 3), 16000, subtype="FLOAT")
    for windows in ("whole", "overlap-add"):
        segmenter = Segmenter(checkpoint, replace(SETTINGS, windows=windows))
        from_file, from_wave = segmenter(tmp_path / "a.wav"), segmenter(wave(8.0, 3))
        np.testing.assert_array_equal(from_file.frames, from_wave.frames)
        np.testing.assert_array_equal(from_file.features, from_wave.features)


def test_windows_give_every_frame_once_and_in_its_place(checkpoint: Path) -> None:
    long = wave(31.0, 5)
    whole = Segmenter(checkpoint, replace(SETTINGS, windows="whole"))(long)
    joined = Segmenter(checkpoint, replace(SETTINGS, windows="overlap-add"))(long)
    assert joined.length == whole.length
    assert joined.features is not None
    assert whole.features is not None
    shifts = {
        shift: float(np.abs(np.roll(joined.features, shift, axis=0)[300:1200] - whole.features[300:1200]).mean())
        for shift in range(-8, 9)
    }
    assert min(shifts, key=lambda shift: shifts[shift]) == 0
    assert joined.segments[-1, 1] > 28  # nothing is lost behind the first window


@pytest.mark.parametrize(("frames", "expected"), [(0, []), (1, [(0, 1)]), (250, [(0, 250)]), (251, [(0, 250), (1, 251)])])
def test_windows_cover_all_frames(frames: int, expected: list[tuple[int, int]]) -> None:
    assert spans(frames) == expected
    for count in (475, 476, 500, 1234):
        made = spans(count)
        assert made[0][0] == 0
        assert made[-1][1] == count
        assert all(last - first == 250 for first, last in made)
        assert all(after[0] <= before[1] - 25 for before, after in pairwise(made))


@pytest.mark.parametrize("count", [1, 25, 250, 251, 300, 476, 1000])
def test_joined_windows_of_the_same_frames_are_these_frames(count: int) -> None:
    frames = np.random.default_rng(count).random((count, 3)).astype(np.float32)
    joined, made = Joined(), np.full((count, 3), np.nan, np.float32)
    for first, last in spans(count):
        for at, settled in joined.add(first, frames[first:last]):
            made[at : at + len(settled)] = settled
    for at, settled in joined.rest():
        made[at : at + len(settled)] = settled
    np.testing.assert_allclose(made, frames, rtol=1e-6)


def test_windows_come_in_along_ramps() -> None:
    part = weights()[:, 0]
    assert part[:6].tolist() == pytest.approx([0, 1 / 6, 2 / 7, 3 / 8, 4 / 9, 0.5])
    assert part + part[::-1] == pytest.approx(np.ones(25))


def test_frames_of_long_audio_wait_in_a_file(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    segmenter = Segmenter(checkpoint, replace(SETTINGS, windows="overlap-add"))
    in_memory = segmenter(wave(14.0, 6))
    monkeypatch.setattr(hearing, "_IN_MEMORY", 100)
    in_file = segmenter(wave(14.0, 6))
    np.testing.assert_array_equal(in_memory.frames, in_file.frames)
    np.testing.assert_array_equal(in_memory.features, in_file.features)
    store = FrameStore(200, 4)
    store.write(3, np.arange(8, dtype=np.float32).reshape(2, 4))
    assert store.read(4, 5).tolist() == [[4, 5, 6, 7]]


@pytest.mark.parametrize("windows", ["whole", "overlap-add"])
def test_what_cannot_be_heard_is_named_and_the_rest_goes_on(checkpoint: Path, tmp_path: Path, windows: str) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "broken.flac").write_bytes(b"fLaC and no more")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "same.wav", np.full(16000, 0.25), 16000)
    soundfile.write(tmp_path / "short.wav", wave(0.02, 0), 16000)
    soundfile.write(tmp_path / "good.wav", wave(2.0, 0), 16000)
    soundfile.write(tmp_path / "longer.wav", wave(2.0, 0), 16000)
    segmenter = Segmenter(checkpoint, replace(SETTINGS, windows=windows))
    names = ["empty.wav", "broken.flac", "silent.wav", "same.wav", "short.wav", "good.wav", "gone.wav"]
    sounds = [*(tmp_path / name for name in names), Recording(str(tmp_path / "longer.wav"), None, 31000)]
    found = list(segmenter.found(sounds))
    assert [item.reason if isinstance(item, AudioFault) else "" for item in found] == [
        "empty", "unreadable", "silent", "silent", "short", "", "vanished", "changed",
    ]  # fmt: skip
    again = list(segmenter.found(sounds, cutters=2))
    assert again[5][0].frames.tolist() == found[5][0].frames.tolist()  # type: ignore[index]
    with pytest.raises(AudioFault):
        segmenter([tmp_path / "good.wav", tmp_path / "same.wav"])


def test_layers_that_are_not_there_are_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="layer 9 doesn't exist: the encoder has 3 layers"):
        Segmenter(checkpoint, PRESETS["current"])
    with pytest.raises(InputError, match="layer 4"):
        Segmenter(checkpoint, replace(SETTINGS, voicing=Voicing(layer=4)))
