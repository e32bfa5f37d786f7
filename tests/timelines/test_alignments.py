from __future__ import annotations

import os
from pathlib import Path

import pytest

from vocable.errors import InputError
from vocable.timelines import Alignments
from vocable.timelines.tables import read_frame_labels, read_tsv
from vocable.timelines.textgrid import read_textgrid, write_textgrid


def test_alignments_are_found_by_id_or_where_one_name_ends_as_the_other(tmp_path: Path) -> None:
    for name in ("p/u1.tsv", "q/u2.tsv", "r/u2.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("start\tend\tphone\n0\t1\t" + name[0] + "\n")
    found = Alignments(tmp_path)
    assert len(found) == 3

    def label(name: str) -> str | None:
        line = found.find(name)
        return None if line is None else line.labels[0]

    assert label("p/u1") == label("speaker/p/u1") == label("u1") == "p"
    assert label("speaker/chapter/u1") is label("xp/u1") is label("chapter/p") is None
    assert label("r/u2") == "r"
    assert label("u3") is None
    with pytest.raises(InputError, match="2 alignments that 'u2' could mean"):
        found.find("u2")


def test_alignments_from_frames_and_broken_ones(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("u1\tx,x,y\n")
    found = Alignments(tmp_path / "f.txt", rate=50, first_centre=0.0125)
    line = found.find("a/u1")
    assert line is not None
    assert line.labels == ("x", "y")
    with pytest.raises(InputError, match="doesn't exist"):
        Alignments(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no"):
        Alignments(tmp_path / "empty")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "u.tsv").write_text("start\tend\tphone\n0\t2\ta\n1\t3\tb\n")
    with pytest.raises(InputError, match=r"u\.tsv.*interval 1"):
        Alignments(tmp_path / "d").find("u")


def test_a_name_that_ends_as_several_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("u1\tx\np/u1\ty\n")
    found = Alignments(tmp_path / "f.txt")
    assert [found.name_of(name) for name in ("u1", "p/u1", "q/u1", "q/u2")] == ["u1", "p/u1", "u1", None]
    with pytest.raises(InputError, match="2 alignments that 's/p/u1' could mean, u1 and p/u1 among them: name them by"):
        found.find("s/p/u1")


def test_only_per_frame_labels_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("u1\tx,x,y\n")
    (tmp_path / "u2.tsv").write_text("start\tend\tphone\n0\t1\ta\n")
    frames, intervals = Alignments(tmp_path / "f.txt", rate=50), Alignments(tmp_path)
    assert (frames.rate, frames.frame_count("a/u1"), frames.frame_count("u2")) == (50, 3, None)
    assert intervals.frame_count("u2") is None


def test_paths_may_be_strings(tmp_path: Path) -> None:
    table, grid, frames = (str(tmp_path / name) for name in ("a.tsv", "b.TextGrid", "c.txt"))
    Path(table).write_text("start\tend\tphone\n0\t1\ta\n")
    Path(frames).write_text("u1\tx,x,y\n")
    line = read_tsv(table)
    Path(grid).write_text(write_textgrid(line, 1.0, "phones"))
    assert read_textgrid(grid).labels == line.labels
    assert read_frame_labels(frames) == {"u1": ["x", "x", "y"]}
    assert len(Alignments(str(tmp_path))) == 2
    assert len(Alignments(frames)) == 1
    with pytest.raises(InputError, match="nowhere doesn't exist"):
        Alignments(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("other", ["p/u.TextGrid", "p/u.TSV"])
def test_two_files_for_one_utterance_are_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "p").mkdir()
    for name in ("p/u.tsv", other):
        (tmp_path / name).write_text("start\tend\tphone\n0\t1\ta\n")
    with pytest.raises(InputError, match="both align 'p/u': remove one, or give") as caught:
        Alignments(tmp_path)
    assert all(str(tmp_path / name) in str(caught.value) for name in ("p/u.tsv", other))
    (tmp_path / "q").mkdir()
    (tmp_path / other).rename(tmp_path / "q" / Path(other).name)
    assert len(Alignments(tmp_path)) == 2


@pytest.mark.parametrize("closed", ["d", "d/inner"])
def test_a_folder_of_alignments_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "d" / "u.tsv").write_text("start\tend\tphone\n0\t1\ta\n")
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path) == str(tmp_path / closed):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=f"{closed}: permission denied: change its permissions"):
        Alignments(tmp_path / "d")


def test_a_folder_that_is_called_as_an_alignment_is_none(tmp_path: Path) -> None:
    (tmp_path / "old.tsv").mkdir()
    (tmp_path / "old.tsv" / "u.tsv").write_text("start\tend\tphone\n0\t1\ta\n")
    assert Alignments(tmp_path).name_of("u") == "old.tsv/u"
    assert len(Alignments(tmp_path)) == 1
