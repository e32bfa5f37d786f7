from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import speech_like, write_audio
from vocable.audio.decoding import count_samples, read_waveform, resampled_length
from vocable.audio.faults import AudioFault


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats_are_read_and_counted_as_decoded(tmp_path: Path, form: str) -> None:
    path = str(write_audio(tmp_path / f"a.{form}", 1.5, 1))
    waveform = read_waveform(path, 16000)
    assert waveform.dtype == np.float32
    assert count_samples(path) == (len(waveform), 16000)
    assert np.corrcoef(waveform[:20000], speech_like(1.5, 1)[:20000])[0, 1] > (0.999 if form in ("wav", "flac", "aiff") else 0.9)


def test_opus_is_read(tmp_path: Path) -> None:
    path = str(write_audio(tmp_path / "a.opus", 1.0, 1, format="OGG", subtype="OPUS"))
    assert count_samples(path) == (16000, 16000)
    assert len(read_waveform(path, 16000)) == 16000


@pytest.mark.parametrize("form", ["m4a", "webm"])
def test_media_containers_are_read_with_pyav(tmp_path: Path, form: str) -> None:
    import av

    path = str(tmp_path / f"a.{form}")
    with av.open(path, "w") as container:
        stream = container.add_stream({"m4a": "aac", "webm": "libopus"}[form], rate=48000, layout="stereo")
        samples = np.repeat(speech_like(1.0, 3, 48000)[None], 2, axis=0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = 48000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    counted, rate = count_samples(path)
    assert abs(counted / rate - 1.0) < 0.1
    waveform = read_waveform(path, 16000)
    assert len(waveform) == resampled_length(counted, rate, 16000)
    assert 0.01 < np.abs(waveform).max() < 1.5


def test_broken_media_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(AudioFault, match="can't be decoded"):
        read_waveform(str(path), 16000)
    import builtins

    original = builtins.__import__

    def without_av(name: str, *arguments: object, **options: object) -> object:
        if name == "av":
            raise ImportError(name)
        return original(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(AudioFault, match=r"\.m4a files need the media extra: pip install 'vocable\[media\]'"):
        read_waveform(str(path), 16000)


def test_channels_are_averaged_or_one_is_taken(tmp_path: Path) -> None:
    stereo = np.stack([speech_like(0.5, 1), speech_like(0.5, 2)], axis=1)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, stereo, 16000, subtype="FLOAT")
    assert np.array_equal(read_waveform(path, 16000), stereo.mean(axis=1, dtype=np.float32))
    assert np.array_equal(read_waveform(path, 16000, channel=2), stereo[:, 1])
    with pytest.raises(AudioFault, match="channel 3 asked for, 2 there"):
        read_waveform(path, 16000, channel=3)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 5, 1000, 44101])
def test_resampling_gives_the_length_that_was_promised(tmp_path: Path, rate: int, samples: int) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.full(samples, 0.1), rate)
    assert len(read_waveform(path, 16000)) == resampled_length(samples, rate, 16000) == int(samples * 16000 / rate + 0.5)


def test_a_tone_keeps_its_pitch_when_resampled(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100), 44100)
    spectrum = np.abs(np.fft.rfft(read_waveform(path, 16000)))
    assert spectrum.argmax() == 1000


def test_stored_slices_of_zip_archives_are_read(tmp_path: Path) -> None:
    inner = write_audio(tmp_path / "a.flac", 0.5, 4)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(inner, "a.flac")
        info = archive.getinfo("a.flac")
    offset = (tmp_path / "x.zip").read_bytes().index(b"fLaC")
    path = f"{tmp_path}/x.zip:{offset}:{info.file_size}"
    assert np.array_equal(read_waveform(path, 16000), read_waveform(str(inner), 16000))
    assert count_samples(path) == (8000, 16000)
    with pytest.raises(AudioFault, match="can't be decoded"):
        read_waveform(f"{tmp_path}/x.zip:0:20", 16000)


def test_names_of_any_kind_are_opened(tmp_path: Path) -> None:
    for name in ("with blank.wav", "tab\there.wav", 'quo"te.wav', "жук.wav", "$(x);|&.wav"):
        assert len(read_waveform(str(write_audio(tmp_path / name, 0.1, 1)), 16000)) == 1600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "vanished"),
        (b"", "empty"),
        (b"RIFF nonsense", "unreadable"),
        ("zeros", "silent"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("none", "empty"),
    ],
)
def test_each_fault_has_its_reason(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        values = {"zeros": np.zeros(1000), "none": np.zeros(0)}.get(content, np.ones(1000))
        if content in ("nan", "inf"):
            values[500] = float(content)
        soundfile.write(path, values, 16000, subtype="FLOAT")
    with pytest.raises(AudioFault) as caught:
        read_waveform(str(path), 16000)
    assert caught.value.reason == reason
    assert "0x" not in str(caught.value)  # no address, which would differ from run to run


def test_a_flac_that_is_cut_short_is_unreadable(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", 2.0, 1)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(AudioFault, match="can't be decoded") as caught:
        read_waveform(str(path), 16000)
    assert caught.value.reason == "unreadable"


def test_huge_but_finite_samples_are_finite(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(1000, 3e38), 16000, subtype="FLOAT")
    assert len(read_waveform(str(tmp_path / "a.wav"), 16000)) == 1000
