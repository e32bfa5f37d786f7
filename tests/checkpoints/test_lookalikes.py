from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocable.checkpoints.centroids import read_centroids
from vocable.checkpoints.kmeans_pickle import read_kmeans_pickle
from vocable.errors import InputError

READERS = [read_kmeans_pickle, read_centroids]
REMEDY = "; give what vocable kmeans writes, a scikit-learn k-means model, or centroids as .npy"


@pytest.mark.parametrize(("form", "called"), [("WAV", "WAV"), ("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF"), ("MP3", "MP3")])
def test_audio_is_named(tmp_path: Path, form: str, called: str) -> None:
    path = tmp_path / "km.bin"
    soundfile.write(path, np.zeros(1600), 16000, format=form)
    if form == "MP3":
        path.write_bytes(b"ID3\x04\0\0\0\0\0\0" + path.read_bytes())
    for read in READERS:
        with pytest.raises(InputError, match=rf"km\.bin is no codebook: it looks like audio \({called}\){REMEDY}"):
            read(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"3 4 4\n17 0\n", r"labels \(lines of whole numbers\)"),
        (b"17 " * 100_000, r"labels \(lines of whole numbers\)"),
        (b"0 1\r\n1 1\r\n", r"labels \(lines of whole numbers\)"),
        (b"/data\na.wav\t16000\n", "a manifest"),
        (b"corpus\na b.wav\t16000\nc.zip:3:4\t-1\tspeaker\n", "a manifest"),
        (b"corpus\n\xff\xfe.wav\t16000", "a manifest"),
        (b"PK\x03\x04 and more", "a zip archive, such as a PyTorch checkpoint"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"format": "x"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"NIST_1A\n   1024\n", "audio"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "km").write_bytes(content)
    for read in READERS:
        with pytest.raises(InputError, match=f"km is no codebook: it looks like {what}.*{REMEDY}"):
            read(tmp_path / "km")


@pytest.mark.parametrize("content", [b"\xff\xfb\x90", b"hello, this is text\n", b"a\nb\tc\n", b"12 a\n", b"\0" * 100])
def test_what_is_unknown_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "km").write_bytes(content)
    for read in READERS:
        with pytest.raises(InputError, match=f"km is no codebook: it starts like none of their formats{REMEDY}"):
            read(tmp_path / "km")


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    for read in READERS:
        with pytest.raises(InputError, match=r"is a folder: give the codebook itself, such as .*codebook\.safetensors"):
            read(tmp_path)
        with pytest.raises(InputError, match="no doesn't exist: give a codebook"):
            read(tmp_path / "no")


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_is_mistaken(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "km").write_bytes(pickle.dumps(np.eye(2), protocol))
    assert np.array_equal(read_centroids(tmp_path / "km").centroids, np.eye(2))


@pytest.mark.parametrize(
    ("beside", "content"),
    [("train_0_1.len", "3\n4\n"), ("train_0_1.len", ""), ("train_0_1.json", json.dumps({"format": "vocable.frames/1"}))],
)
def test_frames_are_no_centroids(tmp_path: Path, beside: str, content: str) -> None:
    np.save(tmp_path / "train_0_1.npy", np.eye(7, dtype=np.float32))
    (tmp_path / beside).write_text(content)
    with pytest.raises(
        InputError, match=rf"train_0_1\.npy holds frames, not centroids, as {beside} beside it says: fit a codebook"
    ):
        read_centroids(tmp_path / "train_0_1.npy")


@pytest.mark.parametrize(
    ("beside", "content"),
    [
        ("km.json", '{"format": "vocable.units/1"}'),
        ("km.json", "[1]"),
        ("km.json", "{}"),
        ("km.json", "no json"),
        ("km.json", "[" * 100_000),
        ("km.json", "\udcff"),
        ("other.len", "3\n"),
        ("km.tsv", "3\n"),
    ],
)
def test_other_neighbours_say_nothing(tmp_path: Path, beside: str, content: str) -> None:
    np.save(tmp_path / "km.npy", np.eye(7))
    (tmp_path / beside).write_text(content, errors="surrogateescape")
    assert len(read_centroids(tmp_path / "km.npy").centroids) == 7


def test_folders_beside_say_nothing_either(tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", np.eye(7))
    for suffix in (".len", ".json"):
        (tmp_path / "km").with_suffix(suffix).mkdir()
    assert len(read_centroids(tmp_path / "km.npy").centroids) == 7
