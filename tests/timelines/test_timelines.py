from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.timelines import Alignments, Timeline
from vocable.timelines.tables import read_frame_labels, read_tsv
from vocable.timelines.textgrid import read_textgrid, write_textgrid

LINE = Timeline(np.array([0.0, 0.5, 1.2]), np.array([0.5, 1.0, 2.0]), ("a", "b", "c"))


def test_a_label_holds_from_its_start_to_just_before_its_end() -> None:
    assert LINE.labels_at([0.0, 0.499, 0.5, 0.999, 1.0, 1.1, 1.2, 2.0, -1]) == ["a", "a", "b", "b", None, None, "c", None, None]
    assert Timeline(np.empty(0), np.empty(0), ()).labels_at([0.0, 1.0]) == [None, None]


@pytest.mark.parametrize(
    ("starts", "ends", "labels", "message"),
    [
        ([0, 1], [1, 2], ("a",), "2 starts, 2 ends and 1 labels"),
        ([0, 1], [1.5, 2], ("a", "b"), "interval 1 .*overlaps"),
        ([0, 1], [0.5, 0.9], ("a", "b"), "interval 2 .*backwards"),
        ([0, float("nan")], [1, 2], ("a", "b"), "finite"),
    ],
)
def test_impossible_intervals_are_refused(starts: list[float], ends: list[float], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Timeline(np.array(starts), np.array(ends), labels)


def test_frame_labels_are_found_again_at_their_frames() -> None:
    labels = ["x", "x", "y", "z", "z", "z"]
    line = Timeline.from_frames(labels, rate=100, first_centre=0.0125)
    assert line.labels == ("x", "y", "z")
    assert line.labels_at(0.0125 + np.arange(6) / 100) == labels


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_textgrids_round_trip_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.TextGrid"
    original = Timeline(np.array([0.25, 1.0]), np.array([0.75, 1.5]), ('say "ah" 3.5 [x]', "ø"))
    path.write_text(write_textgrid(original, 2.0, "phones"), encoding=encoding)
    found = read_textgrid(path)
    assert found.labels == ("", 'say "ah" 3.5 [x]', "", "ø", "")
    assert found.starts.tolist() == [0, 0.25, 0.75, 1.0, 1.5]
    assert found.ends[-1] == 2.0


def test_the_short_form_and_point_tiers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2.5\n<exists>\n3\n"TextTier"\n"clicks"\n0\n2.5\n1\n1.5\n"click"\n'
        '"IntervalTier"\n"words"\n0\n2.5\n1\n0\n2.5\n"one"\n"IntervalTier"\n"Phones"\n0\n2.5\n2\n0\n1\n"w"\n1\n2.5\n"n"\n'
    )
    assert read_textgrid(path).labels == ("w", "n")
    assert read_textgrid(path, "words").labels == ("one",)
    with pytest.raises(InputError, match="no interval tier 'clicks'; it has 'words', 'Phones'"):
        read_textgrid(path, "clicks")


def test_broken_textgrids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    text = write_textgrid(LINE, 2.0, "phones")
    for content, message in (("hello", "not a Praat TextGrid"), (text[: len(text) // 2], "cut short")):
        path.write_text(content)
        with pytest.raises(InputError, match=rf"a\.TextGrid is {message}"):
            read_textgrid(path)
    path.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n<absent>\n')
    with pytest.raises(InputError, match="no interval tier"):
        read_textgrid(path)


def test_tables_name_their_columns_and_their_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('start\tend\tphone\tword\n0.0\t0.5\tAH0\t"a\n\n0.5\t0.7\tB\tbe\n')
    assert read_tsv(path).labels == ("AH0", "B")
    assert read_tsv(path, "word").labels == ('"a', "be")
    with pytest.raises(InputError, match="no column 'tone'; it has start, end, phone, word"):
        read_tsv(path, "tone")
    path.write_text("start\tend\tphone\n0.0\tx\tB\n")
    with pytest.raises(InputError, match="line 2 should be start, end"):
        read_tsv(path)
    path.write_text("0.0 0.5 B\n")
    with pytest.raises(InputError, match="line 1 should name the columns"):
        read_tsv(path)


def test_per_frame_labels_name_their_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "frames.txt"
    path.write_text("a\tx,x,y\n\nb\t\n")
    assert read_frame_labels(path) == {"a": ["x", "x", "y"], "b": []}
    path.write_text("a x,y\n")
    with pytest.raises(InputError, match="line 1 should be an utterance id, a tab"):
        read_frame_labels(path)
    path.write_text("a\tx\na\ty\n")
    with pytest.raises(InputError, match="line 2 names 'a' a second time"):
        read_frame_labels(path)


def test_alignments_are_found_by_id_or_by_its_last_part(tmp_path: Path) -> None:
    for name in ("p/u1.tsv", "q/u2.tsv", "r/u2.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("start\tend\tphone\n0\t1\t" + name[0] + "\n")
    found = Alignments(tmp_path)
    assert len(found) == 3

    def label(name: str) -> str | None:
        line = found.find(name)
        return None if line is None else line.labels[0]

    assert label("p/u1") == label("speaker/chapter/u1") == label("u1") == "p"
    assert label("r/u2") == "r"
    assert label("u3") is None
    with pytest.raises(InputError, match="2 alignments that could be 'u2'"):
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
