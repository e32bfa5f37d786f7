from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.timelines import Timeline
from vocable.timelines.tables import read_frame_labels, read_tsv

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
        ([0, 1 - 6e-6], [1, 2], ("a", "b"), "interval 1 .*overlaps"),  # by a sample at 192 kHz
        ([0.5, 0.5 - 5e-7], [0.5, 1], ("a", "b"), "interval 1 .*overlaps"),
    ],
)
def test_impossible_intervals_are_refused(starts: list[float], ends: list[float], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Timeline(np.array(starts), np.array(ends), labels)


def test_intervals_whose_sums_were_rounded_do_not_overlap() -> None:
    end = 1.1 + 2.2
    assert end > 3.3
    assert Timeline(np.array([1.1, 3.3]), np.array([end, 4.0]), ("a", "b")).labels_at([2.0, 3.4]) == ["a", "b"]


def test_a_frames_label_holds_for_half_a_hop_around_its_centre() -> None:
    line = Timeline.from_frames(["x", "x", "y"], rate=50, first_centre=0.0125)
    assert line.starts == pytest.approx([0.0025, 0.0425])
    assert line.ends == pytest.approx([0.0425, 0.0625])
    assert line.labels_at([0.0024, 0.0026, 0.0424, 0.0426, 0.0624, 0.0626]) == [None, "x", "x", "y", "y", None]


def test_frame_labels_are_found_again_at_their_frames() -> None:
    labels = ["x", "x", "y", "z", "z", "z"]
    line = Timeline.from_frames(labels, rate=100, first_centre=0.0125)
    assert line.labels == ("x", "y", "z")
    assert line.labels_at(0.0125 + np.arange(6) / 100) == labels


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


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_tables_are_read_with_a_byte_order_mark_and_any_line_ends(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffstart\tend\tphone\n0\t1\tø\u2028\n1\t2\tb\n".replace("\n", newline).encode())
    assert read_tsv(path).labels == ("ø\u2028", "b")
    path.write_bytes("\ufeffu1\tx,y\n".replace("\n", newline).encode())
    assert read_frame_labels(path) == {"u1": ["x", "y"]}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_tables_that_are_not_utf_8_are_named_with_the_line(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(mark + "start\tend\tphone\n0\t1\ta\nü\n".encode("latin-1"))
    for read in (read_tsv, read_frame_labels):
        with pytest.raises(InputError, match=r"a\.tsv line 3 is not UTF-8 text: save the file as UTF-8"):
            read(path)
    path.write_bytes("start\tend\tphone\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"a\.tsv line 1 is not UTF-8"):
        read_tsv(path)


def test_a_table_whose_intervals_overlap_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("start\tend\tphone\n0\t2\ta\n1\t3\tb\n")
    with pytest.raises(
        InputError, match=r"a\.tsv line 2: interval 1 \(0-2 s, 'a'\) overlaps the next or runs backwards: correct"
    ):
        read_tsv(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0\t1\ta\n\n1\tnan\tb\n", r"line 4: interval 2 \(1-nan s, 'b'\) should have finite numbers of seconds"),
        ("0\t1\ta\n\n\n-inf\t2\tb\n", r"line 5: interval 2 \(-inf-2 s, 'b'\) should have finite"),
        ("\n0\t1\ta\n\n2\t1.5\tb\n3\t4\tc\n", r"line 5: interval 2 \(2-1.5 s, 'b'\) overlaps the next or runs backwards"),
    ],
)
def test_the_line_of_an_impossible_interval_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"start\tend\tphone\n{rows}")
    with pytest.raises(InputError, match=rf"a\.tsv {message}"):
        read_tsv(path)
