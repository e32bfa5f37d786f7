from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import write_audio
from vocable.audio.faults import AudioFault, Skipped, count_reasons, read_skipped, require_none, write_skipped
from vocable.audio.manifest import Utterance
from vocable.audio.scan import LengthLimits, candidates, examine, find_audio, without_duplicates
from vocable.errors import InputError

LIMITS = LengthLimits(min_samples=400, max_samples=32000)


def test_audio_is_found_sorted_whatever_its_case(tmp_path: Path) -> None:
    for name in ("b/z.wav", "b/a.FLAC", "a.mp3", "c.txt", "d.wav.bak", "e.M4A", "B/x.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find_audio(tmp_path) == (["B/x.ogg", "a.mp3", "b/a.FLAC", "b/z.wav", "e.M4A"], [])
    assert find_audio(tmp_path, ["wav,.flac"])[0] == ["b/a.FLAC", "b/z.wav"]
    with pytest.raises(InputError, match="is not a folder"):
        find_audio(tmp_path / "nowhere")


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.wav").write_bytes(b"")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "corpus" / "twice").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "self.wav").symlink_to(tmp_path / "corpus" / "self.wav")
    assert find_audio(tmp_path / "corpus")[0] == ["link/a.wav", "self.wav"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert find_audio(tmp_path)[1] == [Skipped("closed", "unreadable", "the folder can't be listed (Permission denied)")]


def test_every_unusable_file_has_its_reason(tmp_path: Path) -> None:
    write_audio(tmp_path / "good.wav", 1.0, 1)
    write_audio(tmp_path / "good.flac", 1.0, 2)
    write_audio(tmp_path / "short.wav", 0.02, 1)
    write_audio(tmp_path / "long.wav", 3.0, 1)
    write_audio(tmp_path / "eight.wav", 1.0, 1, sample_rate=8000)
    write_audio(tmp_path / "tab\t.wav", 1.0, 1)
    write_audio(tmp_path / "line\n.wav", 1.0, 1)
    write_audio(tmp_path / " blank.wav", 1.0, 1)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "broken.flac").write_bytes(b"fLaC and no more")
    raw = os.fsencode(tmp_path) + b"/latin\xe9.wav"
    os.link(tmp_path / "good.wav", raw)
    (tmp_path / "gone.wav").symlink_to(tmp_path / "missing")
    paths, _ = find_audio(tmp_path)
    utterances, skipped = without_duplicates(examine(str(tmp_path), candidates(paths), 16000, LIMITS))
    assert {item.id: item.samples for item in utterances} == {"good": 16000, "eight": 16000}
    assert {item.path: item.reason for item in skipped} == {
        "good.wav": "duplicate id",
        "short.wav": "short",
        "long.wav": "long",
        "tab\t.wav": "name",
        "line\n.wav": "name",
        " blank.wav": "name",
        "empty.wav": "empty",
        "broken.flac": "unreadable",
        "latin\\xe9.wav": "name",
        "gone.wav": "vanished",
    }
    assert next(item for item in skipped if item.reason == "duplicate id").detail == "good.flac has the id 'good' too"


def test_the_record_of_what_was_left_out_round_trips_sorted(tmp_path: Path) -> None:
    items = [Skipped("b", "short", 'say "x"\n'), Skipped("a", "silent", "ü"), Skipped("c", "short", "")]
    write_skipped(tmp_path / "skipped.jsonl", items)
    assert read_skipped(tmp_path / "skipped.jsonl") == sorted(items)
    assert count_reasons(items) == {"short": 2, "silent": 1}
    require_none([])
    with pytest.raises(InputError, match=r"a: silent: ü, and 2 more \(all in x\)"):
        require_none(items, Path("x"))


def test_faults_travel_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(AudioFault("short", "too short")))
    assert (fault.reason, str(fault)) == ("short", "too short")


def test_lengths_that_a_manifest_does_not_give_are_looked_up(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 1.0, 1)
    soundfile.write(tmp_path / "b.wav", np.zeros(100), 16000)
    rows = [
        Utterance("x", "a.wav", -1, "s", 1),
        Utterance("y", "b.wav", -1),
        Utterance("z", "c.wav", -1),
        Utterance("w", "d.wav", 5000),
    ]
    found = list(examine(str(tmp_path), rows, 16000, LIMITS))
    assert found[0] == Utterance("x", "a.wav", 16000, "s", 1)
    assert [(item.path, item.reason) for item in found[1:3] if isinstance(item, Skipped)] == [
        ("b.wav", "short"),
        ("c.wav", "vanished"),
    ]
    assert found[3] == rows[3]
