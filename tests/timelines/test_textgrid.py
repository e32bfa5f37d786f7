from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.timelines import Timeline
from vocable.timelines.textgrid import read_textgrid, write_textgrid

LINE = Timeline(np.array([0.0, 0.5, 1.2]), np.array([0.5, 1.0, 2.0]), ("a", "b", "c"))


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


@pytest.mark.parametrize("size", [10_000_000_000, -3, 4, 10**30])
@pytest.mark.parametrize("before", ["intervals: size = 3", "size = 1"])
def test_a_size_beyond_the_file_costs_nothing_and_is_refused(tmp_path: Path, size: int, before: str) -> None:
    path = tmp_path / "a.TextGrid"
    text = write_textgrid(Timeline(LINE.starts, np.array([0.5, 1.2, 2.0]), LINE.labels), 2.0, "phones")
    assert before in text
    path.write_text(text.replace(before, f"{before.partition('=')[0]}= {size}"))
    with pytest.raises(InputError, match=r"a\.TextGrid (is cut short|has no interval tier)"):
        read_textgrid(path)


def test_comments_of_a_textgrid_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(
        '\ufeff! made by hand, 3 times\nFile type = "ooTextFile"\nObject class = "TextGrid"\n0 ! from "here"\n2.5\n<exists>! yes\n1\n'
        '"IntervalTier" "phones"! the only one of 7\n0 2.5\n2\n0 1 "wow! 9"\r\n1 2.5 "a!"! 4\n! the end is "open'
    )
    assert read_textgrid(path).labels == ("wow! 9", "a!")


def test_a_textgrid_of_no_unicode_encoding_is_read_as_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(write_textgrid(Timeline([0.0], [2.0], ("für",)), 2.0, "phones"), encoding="latin-1")  # type: ignore[arg-type]
    assert read_textgrid(path).labels == ("für",)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_a_textgrid_that_is_cut_anywhere_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.TextGrid"
    text = write_textgrid(Timeline([0.0, 1.0], [1.0, 2.0], ("ah", "b\U0001d11e")), 2.0, "phones").rstrip("\n")  # type: ignore[arg-type]
    whole = ("\ufeff" + text).encode(encoding)
    path.write_bytes(whole)
    assert read_textgrid(path).labels == ("ah", "b\U0001d11e")
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.TextGrid is"):
            read_textgrid(path)


def test_a_textgrid_that_is_cut_in_a_label_with_quotes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    text = write_textgrid(Timeline([0.0], [2.0], ('say "ah" now',)), 2.0, "phones")  # type: ignore[arg-type]
    for end in ('say ""', 'say ""ah', 'say ""ah"" now'):
        path.write_text(text[: text.index(end) + len(end)])
        with pytest.raises(InputError, match=r"a\.TextGrid is cut short"):
            read_textgrid(path)


def test_intervals_that_overlap_are_named_with_their_file_and_tier(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text('"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "phones" 0 2 2 0 1.5 "a" 1 2 "b"')
    with pytest.raises(InputError, match=r"a\.TextGrid, tier 'phones': interval 1 .*overlaps"):
        read_textgrid(path)


@pytest.mark.parametrize(
    "word",
    [
        "9" * 200_000 + "x",
        "9" * 200_000 + ".x",
        "1." + "9" * 200_000 + "x",
        "1e" + "9" * 200_000 + "x",
        "." + "9" * 200_000 + "x",
    ],
)
def test_a_long_word_of_digits_takes_no_time_and_is_no_number(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(write_textgrid(LINE, 2.0, "phones").replace("xmin = 0\n", f"{word} xmin = 0\n"))
    began = time.process_time()
    assert read_textgrid(path).labels == ("a", "b", "", "c")
    assert time.process_time() - began < 2  # hours, where each of its ends is tried


@pytest.mark.parametrize("number", ["1", "1.", "1.5", ".5", "+1.5e0", "15E-1", "1.e0"])
def test_numbers_of_every_spelling_are_read(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(f'"ooTextFile" "TextGrid" 0 {number} <exists> 1 "IntervalTier" "phones" 0 {number} 1 0 {number} "a"')
    assert read_textgrid(path).ends.tolist() == [float(number)]
