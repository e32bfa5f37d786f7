"""MP3s whose length is not what their first frame says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import speech_like, write_audio
from vocable.audio.decoding import count_samples, read_waveform
from vocable.audio.faults import AudioFault
from vocable.audio.mp3 import _after_id3, _frame_length, decode_mp3

ID3V1 = b"TAG" + b"x" * 125
ID3V2 = b"ID3\x04\x00\x00\x00\x00\x08\x00" + bytes(1024)


def encoded(folder: Path, seconds: float, seed: int, sample_rate: int = 16000, channels: int = 1) -> bytes:
    """Return a small MP3 of varying bit rate."""
    samples = np.repeat(speech_like(seconds, seed, sample_rate)[:, None], channels, axis=1)
    soundfile.write(folder / "made.mp3", samples, sample_rate, bitrate_mode="VARIABLE", compression_level=0.9)
    return (folder / "made.mp3").read_bytes()


def info_of(content: bytes) -> tuple[int, int]:
    """Return where the first frame's table begins, and that frame's length."""
    return content.index(b"Xing"), _frame_length(content, _after_id3(content))


def without_count_of_bytes(content: bytes) -> bytes:
    at, _ = info_of(content)
    return content[: at + 4] + (1).to_bytes(4, "big") + content[at + 8 :]


def not_counting_the_first_frame(content: bytes) -> bytes:
    at, length = info_of(content)
    counted = int.from_bytes(content[at + 12 : at + 16], "big") - length
    return content[: at + 12] + counted.to_bytes(4, "big") + content[at + 16 :]


def test_an_mp3_counts_as_it_decodes_whatever_its_header_says(tmp_path: Path) -> None:
    first, second = write_audio(tmp_path / "1.mp3", 2.0, 1), write_audio(tmp_path / "2.mp3", 20.0, 2)
    (tmp_path / "joined.mp3").write_bytes(first.read_bytes() + second.read_bytes())
    path = str(tmp_path / "joined.mp3")
    samples, _ = count_samples(path)
    assert samples == len(read_waveform(path)) > 21.5 * 16000


def test_an_mp3_without_its_first_frame_is_read_to_the_end(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp3", 3.0, 1)
    content = path.read_bytes()
    frames = [at for at in range(len(content) - 4) if _frame_length(content, at)]
    cut = next(at for at in frames if at > content.index(b"Xing" if b"Xing" in content else b"Info"))
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    path.write_bytes(tag + content[cut:])
    samples, _ = count_samples(str(path))
    assert samples == len(read_waveform(path)) > 2.9 * 16000


@pytest.mark.parametrize("content", [b"", b"ID3", b"\xff\xfb", b"junk" * 5000, b"\xff\xfb\x90\x00" + bytes(3000)])
def test_what_only_pretends_to_be_mp3_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(AudioFault) as caught:
        read_waveform(tmp_path / "a.mp3")
    assert caught.value.reason in ("unreadable", "empty", "silent")


def test_an_mp3_that_is_cut_short_is_unreadable_or_shorter(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp3", 2.0, 1)
    path.write_bytes(path.read_bytes()[:3000])
    try:
        assert count_samples(str(path))[0] == len(read_waveform(path)) < 2 * 16000
    except AudioFault as fault:
        assert fault.reason == "unreadable"


@pytest.mark.parametrize("between", [b"", ID3V1, ID3V1 + ID3V2, bytes(500)])
@pytest.mark.parametrize("counted", [bytes, without_count_of_bytes, not_counting_the_first_frame])
def test_a_second_mp3_in_a_file_is_read_however_small_it_is(
    tmp_path: Path, between: bytes, counted: Callable[[bytes], bytes]
) -> None:
    first, second = encoded(tmp_path, 10.0, 1), encoded(tmp_path, 14.0, 2)
    assert len(second) < 1 << 16
    samples, rate = decode_mp3(counted(first) + between + second)
    assert 24.0 <= len(samples) / rate < 24.4
    assert samples[-10 * rate :].std() > 0.5 * decode_mp3(second)[0].std()


@pytest.mark.parametrize(
    "after",
    [ID3V1, b"APETAGEX" + np.random.default_rng(0).bytes(300_000), bytes(100_000), b"\xff" * 100_000, b"\xff\xfb\x90\x00" * 3],
)
@pytest.mark.parametrize("counted", [bytes, not_counting_the_first_frame])
def test_tags_and_padding_are_no_second_mp3(tmp_path: Path, after: bytes, counted: Callable[[bytes], bytes]) -> None:
    content = counted(encoded(tmp_path, 10.0, 1))
    samples, rate = decode_mp3(content)
    assert len(samples) == 10 * rate
    assert np.array_equal(decode_mp3(content + after)[0], samples)


def test_mp3s_of_different_rates_or_channels_in_one_file_are_unreadable(tmp_path: Path) -> None:
    first = encoded(tmp_path, 3.0, 1)
    for second in (encoded(tmp_path, 3.0, 2, 44100), encoded(tmp_path, 3.0, 2, 24000), encoded(tmp_path, 3.0, 2, channels=2)):
        (tmp_path / "a.mp3").write_bytes(first + second)
        with pytest.raises(AudioFault, match="it holds streams of different sample rates or channels: cut it") as caught:
            count_samples(str(tmp_path / "a.mp3"))
        assert caught.value.reason == "unreadable"


def test_a_second_mp3_that_the_decoder_does_not_reach_makes_the_file_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(encoded(tmp_path, 3.0, 1) + bytes(5000) + encoded(tmp_path, 3.0, 2))
    with pytest.raises(AudioFault, match="can't be decoded"):
        read_waveform(tmp_path / "a.mp3")


@pytest.mark.parametrize("counted", [bytes, without_count_of_bytes])
@pytest.mark.parametrize("ahead", [b"", bytes(300), b"APETAGEX" + bytes(24)])
@pytest.mark.parametrize("zeros", [0, 5000])
def test_zeros_and_tags_around_an_mp3_are_no_fault(
    tmp_path: Path, counted: Callable[[bytes], bytes], ahead: bytes, zeros: int
) -> None:
    content = counted(encoded(tmp_path, 3.0, 1))
    plain, rate = decode_mp3(content)
    found, found_rate = decode_mp3(ahead + content + bytes(zeros))
    assert (len(found), found_rate) == (len(plain), rate)
    assert np.array_equal(found, plain)
    _, length = info_of(content)
    bare, _ = decode_mp3(content[_after_id3(content) + length :] + bytes(zeros))
    assert abs(len(bare) - len(plain)) < 3000
