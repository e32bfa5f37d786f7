"""Files whose headers declare more sound, or another rate, than there is."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from helpers import write_audio
from vocable.audio.decoding import count_samples, read_waveform
from vocable.audio.faults import AudioFault

FORMS = {
    "wav": {},
    "adpcm.wav": {"subtype": "IMA_ADPCM"},
    "wavex.wav": {"format": "WAVEX"},
    "rifx.wav": {"endian": "BIG"},
    "aiff": {},
    "ulaw.aifc": {"format": "AIFF", "subtype": "ULAW"},
    "rf64": {},
    "w64": {},
    "au": {},
    "little.au": {"endian": "LITTLE"},
}
LOOKS: list[Callable[[str], object]] = [read_waveform, count_samples]


def made(folder: Path, form: str) -> Path:
    return write_audio(folder / f"a.{form}", 1.0, 1, **FORMS.get(form, {}))


def replaced(path: Path, at: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_short_is_unreadable(tmp_path: Path, form: str) -> None:
    path = made(tmp_path, form)
    whole = path.read_bytes()
    assert len(read_waveform(path)) == count_samples(str(path))[0] >= 16000
    for size in (len(whole) * 2 // 3, len(whole) - 300):
        path.write_bytes(whole[:size])
        for look in LOOKS:
            with pytest.raises(AudioFault, match=r"cut short: its header says \d+ bytes of sound, \d+ are there") as caught:
                look(str(path))
            assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("too_many", [1, 2, 36, 44, 64])
def test_what_careless_writers_count_too_many_is_no_fault(tmp_path: Path, too_many: int) -> None:
    """A pad byte, a part of a frame, or the header itself; a file that lacks more is cut short."""
    path = made(tmp_path, "wav")
    replaced(path, 40, (32000 + too_many).to_bytes(4, "little"))
    assert len(read_waveform(path)) == count_samples(str(path))[0] == 16000
    replaced(path, 40, (32000 + 65).to_bytes(4, "little"))
    with pytest.raises(AudioFault, match="its header says 32065 bytes of sound, 32000 are there"):
        count_samples(str(path))


PIPED = [0x7D000000, 0x7EFFFFDB, 0x7F000000, 0x7F000008, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF]
SIZES = [
    *(("wav", 40, "little", size) for size in PIPED),
    *(("rifx.wav", 40, "big", size) for size in PIPED),
    *(("aiff", 0, "big", size) for size in PIPED),
    ("au", 8, "big", 0xFFFFFFFF),
]


@pytest.mark.parametrize(("form", "at", "order", "size"), SIZES)
def test_a_size_that_pipes_leave_is_read_to_the_end(
    tmp_path: Path, form: str, at: int, order: Literal["little", "big"], size: int
) -> None:
    path = made(tmp_path, form)
    if form == "aiff":
        at = path.read_bytes().index(b"SSND") + 4
    assert int.from_bytes(path.read_bytes()[at : at + 4], order) in (32000, 32008)
    replaced(path, at, size.to_bytes(4, order))
    assert count_samples(str(path))[0] == len(read_waveform(path)) == 16000


def test_a_size_of_nothing_is_not_called_cut_short(tmp_path: Path) -> None:
    path = made(tmp_path, "wav")
    replaced(path, 40, bytes(4))
    with pytest.raises(AudioFault, match="holds no samples"):
        read_waveform(path)


@pytest.mark.parametrize("size", [0, (1 << 64) - 1])
def test_an_rf64_of_unknown_size_is_no_cut_one(tmp_path: Path, size: int) -> None:
    path = made(tmp_path, "rf64")
    replaced(path, 28, size.to_bytes(8, "little"))
    try:
        read_waveform(path)
    except AudioFault as fault:
        assert "cut short" not in str(fault)


def test_a_missing_pad_byte_is_no_fault(tmp_path: Path) -> None:
    for form in ("wav", "aiff"):
        path = tmp_path / f"a.{form}"
        soundfile.write(path, np.full(1001, 0.1), 16000, subtype="PCM_U8" if form == "wav" else "PCM_S8")
        whole = path.read_bytes()
        end = (whole.index(b"data") + 8 + 1001) if form == "wav" else (whole.index(b"SSND") + 16 + 1001)
        assert end == len(whole) - 1
        path.write_bytes(whole[:end])
        assert len(read_waveform(path)) == count_samples(str(path))[0] == 1001


def test_chunks_around_the_sound_are_passed_over(tmp_path: Path) -> None:
    path = made(tmp_path, "wav")
    whole = path.read_bytes()
    for filling in (b"LIST\x05\0\0\0data!\0", b"LIST\x06\0\0\0data!!"):
        path.write_bytes(whole[:36] + filling + whole[36:] + b"LIST\xff\0\0\0cut")
        assert len(read_waveform(path)) == 16000
        path.write_bytes(whole[:36] + filling + whole[36:-100])
        with pytest.raises(AudioFault, match="32000 bytes of sound, 31900 are there"):
            read_waveform(path)


@pytest.mark.parametrize(
    "head", [b"riff" + bytes(36) + b"junk" + bytes(12) + b"\xff" * 8, b".snd" + b"\xff" * 8, b"RIFF", b"FORM" + bytes(9)]
)
def test_headers_of_nonsense_end_in_a_fault(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(head + bytes(100))
    for look in LOOKS:
        with pytest.raises(AudioFault):
            look(str(tmp_path / "a.wav"))


def test_a_slice_of_an_archive_that_holds_a_cut_file_is_unreadable(tmp_path: Path) -> None:
    path = made(tmp_path, "wav")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("whole.wav", path.read_bytes())
        archive.writestr("cut.wav", path.read_bytes()[:-1000])
    content = (tmp_path / "x.zip").read_bytes()
    whole, cut = content.index(b"RIFF"), content.rindex(b"RIFF")
    size = path.stat().st_size
    assert count_samples(f"{tmp_path}/x.zip:{whole}:{size}") == (16000, 16000)
    for slice_ in (f"x.zip:{cut}:{size - 1000}", f"x.zip:{whole}:{size - 1000}"):
        for look in LOOKS:
            with pytest.raises(AudioFault, match="cut short"):
                look(f"{tmp_path}/{slice_}")


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        ("99999999999999999999", "5"),
        ("0", "9" * 30),
        ("9" * 5000, "5"),
        (str((1 << 63) - 1), "5"),
        ("0", "101"),
        ("96", "5"),
        ("101", "0"),
    ],
)
def test_a_slice_past_the_end_of_its_archive_is_unreadable(tmp_path: Path, offset: str, length: str) -> None:
    (tmp_path / "x.zip").write_bytes(bytes(100))
    for look in LOOKS:
        with pytest.raises(
            AudioFault, match=r"its archive has 100 bytes, but the slice begins at \d+ and takes \d+: make the"
        ) as caught:
            look(f"{tmp_path}/x.zip:{offset}:{length}")
        assert caught.value.reason == "unreadable"
        assert len(caught.value.detail) < 200


def test_the_last_slice_may_end_with_its_archive_and_have_zeros_before_its_numbers(tmp_path: Path) -> None:
    path = made(tmp_path, "wav")
    (tmp_path / "x.zip").write_bytes(b"before" + path.read_bytes())
    assert len(read_waveform(f"{tmp_path}/x.zip:{'0' * 30}6:0{path.stat().st_size}")) == 16000


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 4_000_000])
def test_a_rate_that_no_sound_has_is_unreadable(tmp_path: Path, rate: int) -> None:
    path = made(tmp_path, "wav")
    replaced(path, 24, rate.to_bytes(4, "little"))
    for look in LOOKS:
        with pytest.raises(AudioFault, match=rf"its header says {rate} Hz, which no sound has \(1000 to 1000000\)") as caught:
            look(str(path))
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("rate", [1000, 1_000_000])
def test_the_lowest_and_the_highest_rate_are_read(tmp_path: Path, rate: int) -> None:
    path = made(tmp_path, "wav")
    replaced(path, 24, rate.to_bytes(4, "little"))
    assert count_samples(str(path)) == (16000, rate)
    assert len(read_waveform(path)) == 16000 * 16000 // rate


def test_a_file_that_takes_too_much_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    path = write_audio(tmp_path / "a.wav", 1.0, 1, sample_rate=8000)
    monkeypatch.setattr("vocable.audio.decoding.resample", refuse)
    with pytest.raises(AudioFault, match=r"a\.wav: it takes more memory than there is"):
        read_waveform(path)
