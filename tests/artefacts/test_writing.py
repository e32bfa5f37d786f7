from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from vocable.artefacts.writing import remove_leftovers, replacing, write_bytes, writer_name
from vocable.errors import DiskFullError


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b.txt") as file:
        file.write(b"one")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"one"
    assert [item.name for item in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "f", b"old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "f") as file:
        file.write(b"half")
        raise RuntimeError
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_sentence_and_keeps_the_older_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "f", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskFullError, match="no space left to write .*f .*run the same command again"):
            write_bytes(tmp_path / "f", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "f"):
        raise OSError(errno.EIO, "broken")
    assert caught.value.errno == errno.EIO


def test_long_and_foreign_names_fit(tmp_path: Path) -> None:
    name = "ж" * 120 + ".km"
    write_bytes(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x"


def test_parts_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    code = "from vocable.artefacts.writing import writer_name; print(writer_name())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f".f.{dead}.part").write_bytes(b"")
    (tmp_path / f".f.{writer_name()}.part").write_bytes(b"")
    (tmp_path / "other.part").write_bytes(b"")
    remove_leftovers(tmp_path)
    left = sorted(item.name for item in tmp_path.iterdir())
    assert len(left) == 2
    assert str(os.getpid()) in left[0]
    remove_leftovers(tmp_path / "nowhere")


def test_writer_names_are_unique() -> None:
    assert len({writer_name() for _ in range(100)}) == 100
