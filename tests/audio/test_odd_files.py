"""Files that lie about themselves, and names that tools stumble over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import speech_like, write_audio
from vocable.audio.blocks import blocks_of
from vocable.audio.decoding import count_samples, file_state, read_waveform
from vocable.audio.faults import AudioFault, Skipped, read_skipped, write_skipped
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import read_manifest, write_manifest
from vocable.errors import InputError


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    for look in (lambda path: read_waveform(path), count_samples):
        with pytest.raises(AudioFault, match="not a regular file"):
            look(str(tmp_path / "a.wav"))


@pytest.mark.parametrize("byte", [100, 5000, 20_000])
def test_a_flac_whose_middle_is_damaged_is_unreadable(tmp_path: Path, byte: int) -> None:
    path = write_audio(tmp_path / "a.flac", 2.0, 1)
    content = bytearray(path.read_bytes())
    content[byte : byte + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(AudioFault) as caught:
        read_waveform(path)
    assert caught.value.reason == "unreadable"


def test_a_header_that_promises_far_too_much_takes_no_memory(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 0.5, 1)
    content = bytearray(path.read_bytes())
    content[40:44] = (0x7FFFFFF0).to_bytes(4, "little")  # the size of the data
    path.write_bytes(content)
    samples, rate = count_samples(str(path))
    assert (samples, rate) == (8000, 16000)
    path = write_audio(tmp_path / "a.flac", 0.5, 1)
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 36 bits of samples
    path.write_bytes(content)
    with pytest.raises(AudioFault, match=r"cut short: its header says 68719476735 samples, 8000 are there"):
        read_waveform(path)


def test_faults_name_the_file_where_no_manifest_does(tmp_path: Path) -> None:
    with pytest.raises(AudioFault, match=f"^{tmp_path}/no.wav: the file is not there$"):
        read_waveform(tmp_path / "no.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AudioFault, match="a link to a file that is not there"):
        read_waveform(tmp_path / "gone.wav")


def test_the_rate_of_hubert_is_the_default(tmp_path: Path) -> None:
    assert len(read_waveform(write_audio(tmp_path / "a.wav", 0.5, 1, sample_rate=8000))) == 8000


def test_the_state_of_a_file_follows_what_happens_to_it(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 0.5, 1)
    before = file_state(str(path))
    os.utime(path, (1, 1))
    assert file_state(str(path)) != before
    assert file_state(f"{path.with_name('x.zip')}:5:10") == file_state(str(tmp_path / "no")) == ""
    (tmp_path / "x.zip").write_bytes(b"x")
    assert file_state(f"{tmp_path}/x.zip:5:10") == file_state(f"{tmp_path}/x.zip")


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\x0bb", "a\x1cb", "ü\u2029"])
def test_characters_that_python_takes_for_line_ends_are_none(tmp_path: Path, name: str) -> None:
    rows = [Utterance(name, f"{name}.wav", 5), Utterance("z", "z.wav", 6)]
    for form in ("tsv", "csv", "jsonl"):
        write_manifest(tmp_path / f"m.{form}", Manifest.of(rows, "/d"))
        assert [(item.id, item.samples) for item in read_manifest(tmp_path / f"m.{form}")] == [(name, 5), ("z", 6)]
    items = [Skipped(f"{name}.wav", "short", f"of {name}")]
    write_skipped(tmp_path / "s.jsonl", items)
    assert read_skipped(tmp_path / "s.jsonl") == items


def test_a_root_that_no_manifest_can_carry_is_refused(tmp_path: Path) -> None:
    for root, path in (("/a\nb", "a.wav"), ("/a\tb", "a.wav"), ("/a", "c\n.wav")):
        with pytest.raises(InputError, match="holds a tab or a line break, which no manifest can carry: rename it"):
            write_manifest(tmp_path / "m.tsv", Manifest.of([Utterance("a", path, 1)], root))
        assert not (tmp_path / "m.tsv").exists()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_manifests_from_other_systems_are_read(tmp_path: Path, ending: str, mark: str) -> None:
    (tmp_path / "m.tsv").write_bytes(f"{mark}/d{ending}a b.wav\t5{ending}".encode())
    found = read_manifest(tmp_path / "m.tsv")
    assert [found.where(row) for row in found] == ["/d/a b.wav"]
    (tmp_path / "m.csv").write_bytes(f"{mark}path,samples{ending}/d/a.wav,5{ending}".encode())
    assert read_manifest(tmp_path / "m.csv")[0].samples == 5


def test_channels_need_a_table(tmp_path: Path) -> None:
    stereo = np.stack([speech_like(0.5, 1), speech_like(0.5, 2)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16000)
    rows = Manifest.of([Utterance(f"a{at}", str(tmp_path / "a.wav"), 8000, channel=at) for at in (1, 2)])
    write_manifest(tmp_path / "m.csv", rows)
    found = read_manifest(tmp_path / "m.csv")
    assert [item.channel for item in found] == [1, 2]
    left, right = (read_waveform(found.where(item), 16000, item.channel) for item in found)
    assert not np.array_equal(left, right)


@pytest.mark.parametrize("form", ["flac", "wav", "ogg", "aiff"])
def test_other_sounds_that_are_called_mp3_are_read_as_what_they_are(tmp_path: Path, form: str) -> None:
    path = write_audio(tmp_path / f"a.{form}", 1.0, 1)
    called = path.rename(tmp_path / "a.mp3")
    assert count_samples(str(called)) == (16000, 16000)
    assert np.corrcoef(read_waveform(called), speech_like(1.0, 1))[0, 1] > 0.9


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"path": "a"}', '{"path": "a", "reason": "short", "detail": "", "more": 1}', "[" * 200_000, "\udcff"]
)
def test_a_damaged_record_of_what_was_left_out_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    write_skipped(tmp_path / "s.jsonl", [Skipped("a", "short", "")])
    with (tmp_path / "s.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"s\.jsonl line 2 is no record of what was left out .*: make it anew"):
        read_skipped(tmp_path / "s.jsonl")


def foreign() -> str:
    """Return a name that is not UTF-8, as Python spells it."""
    return os.fsdecode(b"f\xe9")


def test_a_folder_that_is_not_utf_8_is_worked_on_like_another(tmp_path: Path) -> None:
    rows = [Utterance("a", "a.wav", 5), Utterance("b", f"{foreign()}.wav", 6)]
    found = [Manifest.of(rows, f"/d/{name}") for name in (foreign(), "f", "f\\xe9")]
    contents = {block.content for manifest in found for block in blocks_of(manifest)}
    assert len(contents) == len({manifest.state for manifest in found}) == 3
    assert len({manifest.digest for manifest in found}) == 1
    assert found[0].digest != Manifest.of([rows[0], Utterance("b", "f.wav", 6)], "/d").digest


@pytest.mark.parametrize("form", ["tsv", "scp", "csv", "jsonl", "parquet"])
def test_a_manifest_of_names_that_are_not_utf_8_is_not_written(tmp_path: Path, form: str) -> None:
    for root, name in ((f"/d/{foreign()}", "a"), ("/d", foreign())):
        with pytest.raises(InputError, match=r"f\\xe9.* is not UTF-8, which no manifest can carry: rename it"):
            write_manifest(
                tmp_path / f"m.{form}", Manifest.of([Utterance("z", "z.wav", 1), Utterance("a", f"{name}.wav", 1)], root)
            )
        assert os.listdir(tmp_path) == []


def test_a_manifest_in_a_folder_that_is_not_utf_8_needs_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / foreign()
    folder.mkdir()
    (folder / "m.csv").write_text("path\na.wav\n")
    (folder / "m.scp").write_text("u a.wav\n")
    (folder / "m.tsv").write_text(".\na.wav\t5\n")
    monkeypatch.chdir(folder)
    for name in (folder / "m.csv", folder / "m.scp", Path("m.csv"), Path("m.tsv")):
        with pytest.raises(
            InputError, match=r"its paths start from .*f\\xe9, a name that is not UTF-8: rename the folder, or give"
        ) as caught:
            read_manifest(name)
        str(caught.value).encode()
    (folder / "m.csv").write_text("path\n/d/a.wav\n")
    (folder / "m.tsv").write_text("/d\na.wav\t5\n")
    assert [read_manifest(folder / name).ids for name in ("m.csv", "m.tsv")] == [("/d/a",), ("a",)]
