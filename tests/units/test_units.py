from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError, MismatchError
from vocable.features import Mfcc
from vocable.units import Units, expand, read_units, run_lengths, write_units
from vocable.units.dictionary import read_dictionary, require_clusters, write_dictionary
from vocable.units.label_files import header_file, open_units, text_writer
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, UnitsHeader
from vocable.units.usage import usage_scores

ROWS = [np.array([3, 3, 0, 99]), np.array([], dtype=int), np.array([7])]
HEADER = UnitsHeader(clusters=100, rate=100.0, codebook="c" * 64, manifest="m" * 64, features=Mfcc().spec.identity())
UNITS = Units.of(ROWS, HEADER, ["a", "b/c", "ü"])

rows_of_units = st.lists(st.lists(st.integers(0, 70_000), max_size=20), max_size=8)


def test_units_are_small_and_know_their_utterances() -> None:
    assert UNITS.values.dtype == np.uint16
    assert [row.tolist() for row in UNITS] == [row.tolist() for row in ROWS]
    assert UNITS[2].tolist() == [7]
    assert len(UNITS) == 3
    assert Units.of([np.array([70_000])], UnitsHeader()).values.dtype == np.uint32
    assert len(Units.of([], UnitsHeader())) == 0
    with pytest.raises(InputError, match="don't go together"):
        Units(UNITS.values, UNITS.lengths[:2])


@given(rows_of_units)
def test_run_lengths_are_undone_by_expanding(rows: list[list[int]]) -> None:
    for row in rows:
        units, durations = run_lengths(np.array(row, dtype=np.int64))
        assert expand(units, durations).tolist() == row
        assert (units[1:] != units[:-1]).all()
        assert (durations > 0).all()


def test_impossible_runs_are_refused() -> None:
    for durations in ([1], [1, 0], [2, -1]):
        with pytest.raises(InputError, match="at least one frame"):
            expand(np.array([1, 2]), np.array(durations))


@pytest.mark.parametrize("form", ["km", "rle", "units"])
def test_label_files_round_trip(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"train.{form}"
    write_units(path, UNITS)
    found = read_units(path)
    assert [row.tolist() for row in found] == [row.tolist() for row in ROWS]
    assert found.header == HEADER
    assert found.ids == (UNITS.ids if form == "units" else None)
    assert found.values.dtype == np.uint16
    header, sequences = open_units(path)
    assert header == HEADER
    assert [row.tolist() for row in sequences] == [row.tolist() for row in ROWS]


@given(rows_of_units)
def test_text_forms_hold_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    units = Units.of([np.array(row, dtype=np.int64) for row in rows], UnitsHeader())
    for form in ("km", "rle"):
        write_units(folder / f"a.{form}", units)
        assert [row.tolist() for row in read_units(folder / f"a.{form}")] == rows


def test_km_is_fairseqs(tmp_path: Path) -> None:
    write_units(tmp_path / "a.km", UNITS)
    assert (tmp_path / "a.km").read_bytes() == b"3 3 0 99\n\n7\n"
    write_units(tmp_path / "a.rle", UNITS)
    assert (tmp_path / "a.rle").read_bytes() == b"3:2 0:1 99:1\n\n7:1\n"
    header = json.loads(header_file(tmp_path / "a.km").read_text())
    assert (header["utterances"], header["frames"], header["rate"]) == (3, 5, 100.0)


def test_labels_that_were_changed_do_not_pass_for_what_their_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.km"
    write_units(path, UNITS)
    path.write_text("3 3 0 98\n\n7\n")
    with pytest.raises(MismatchError, match="not the file that a.km.json was written for"):
        read_units(path)
    header_file(path).unlink()
    assert read_units(path).header == UnitsHeader()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.km", "1 2\n3 x 4\n", r"a\.km line 2 should be units separated by blanks, but reads '3 x 4'$"),
        ("a.km", "1 -2\n", "line 1 should be units separated by blanks, but reads '1 -2'"),
        ("a.km", "99999999999\n", "line 1 should be units"),
        ("a.rle", "1:2 3\n", "line 1 should be unit:frames pairs separated by blanks, but reads '1:2 3'"),
        ("a.rle", "1:0\n", "line 1"),
        ("a.km", "1_0 2\n", "line 1 should be units separated by blanks, but reads '1_0 2'"),
        ("a.km", "1 +3\n", "line 1 should be units"),
        ("a.km", "1 2.0\n", "line 1 should be units"),
        ("a.km", "4294967295\n", "line 1 should be units"),
        ("a.rle", "1:2 3:\n", "line 1 should be unit:frames pairs"),
        ("a.rle", ":2\n", "line 1 should be unit:frames pairs"),
        ("a.rle", "1:1\n:\n", r"a\.rle line 2 should be unit:frames pairs separated by blanks, but reads ':'$"),
        ("a.rle", "5: :3 1:2\n", "line 1 should be unit:frames pairs separated by blanks, but reads '5: :3 1:2'"),
        ("a.rle", "1:2:3\n", "line 1 should be unit:frames pairs"),
        ("a.rle", "1 :2 3:4\n", "line 1 should be unit:frames pairs"),
        ("a.rle", "1:2,3:4\n", "line 1 should be unit:frames pairs"),
        ("a.rle", "²:1\n", "line 1 should be unit:frames pairs"),
    ],
)
def test_bad_label_lines_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_units(tmp_path / name)


def test_impossible_label_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist: give a label file"):
        read_units(tmp_path / "no.km")
    with pytest.raises(InputError, match=r"ends in \.km, \.units, \.rle"):
        write_units(tmp_path / "a.txt", UNITS)
    with pytest.raises(InputError, match="keeps utterance ids"):
        write_units(tmp_path / "a.units", replace(UNITS, ids=None))


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), text_writer(tmp_path / "a.km", HEADER) as write:
        write(ROWS[0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_dictionaries_are_replaced_never_added_to(tmp_path: Path) -> None:
    path = tmp_path / "dict.km.txt"
    for clusters in (5, 3):
        write_dictionary(path, clusters)
        assert path.read_text() == "".join(f"{unit} 1\n" for unit in range(clusters))
    assert read_dictionary(path) == ["0", "1", "2"]
    require_clusters(path, 3, 2)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, "doesn't exist"),
        ("", InputError, "is empty, so every label would be unknown"),
        ("0 1\n1\n", InputError, "line 2 should be a symbol and a count"),
        ("0 1\n1 1\n0 1\n", InputError, "names '0' twice"),
        ("0 1\n1 1\n", MismatchError, "has 2 units, where the labels need 0 to 2"),
        ("a 1\nb 1\nc 1\n", MismatchError, "has the symbol 'a', which is no unit"),
        ("0 1\n1 1\n\udcff 1\n", InputError, r"dict\.km\.txt line 3 is not UTF-8 text.*: save the file as UTF-8"),
    ],
)
def test_wrong_dictionaries_are_refused(tmp_path: Path, content: str | None, error: type[Exception], message: str) -> None:
    if content is not None:
        (tmp_path / "dict.km.txt").write_text(content, errors="surrogateescape")
    with pytest.raises(error, match=message):
        require_clusters(tmp_path / "dict.km.txt", 3, 2)


def test_labels_that_do_not_say_their_clusters_take_any_dictionary_that_has_them(tmp_path: Path) -> None:
    write_dictionary(tmp_path / "d", 5)
    for largest in (2, 4):
        require_clusters(tmp_path / "d", None, largest)
    with pytest.raises(MismatchError, match="has 5 units, where the labels need 0 to 5"):
        require_clusters(tmp_path / "d", None, 5)


def test_dictionaries_by_preprocess_are_understood(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("2 90\n0 50 #fairseq:overwrite\n1 7\nmadeupword0000 0\n")
    require_clusters(tmp_path / "d", 3, 2)


def manifest(*samples: int) -> Manifest:
    return Manifest.of(Utterance(f"u{at}", f"u{at}.wav", count) for at, count in enumerate(samples))


def checked(header: UnitsHeader = UnitsHeader(), counts: tuple[int, ...] = (98, 48), **options: object) -> list[str]:
    survey = Survey.of([np.arange(count) % 5 for count in counts], header.clusters)
    return check_labels("train.km", header, survey, **options)  # type: ignore[arg-type]


def test_labels_that_fit_pass(tmp_path: Path) -> None:
    rows = manifest(16000, 8000)
    write_dictionary(tmp_path / "dict.km.txt", 5)
    header = replace(HEADER, clusters=5, manifest=rows.digest)
    assert checked(header, manifest=rows, dictionary=tmp_path / "dict.km.txt", lengths=np.array([98, 48]), rate=100.0) == []
    assert checked(header, (99, 47), manifest=rows) == []  # one frame off is rounding


@pytest.mark.parametrize(
    ("header", "lengths", "options", "message"),
    [
        ({}, (98,), {"manifest": manifest(16000, 8000)}, "has 1 lines, but the manifest has 2 rows"),
        ({}, (98, 48), {"lengths": np.array([98])}, "has 2 lines, but the .len has 1 rows"),
        ({}, (98, 48), {"lengths": np.array([98, 47])}, "line 2 has 48 labels, but the .len says 47 frames"),
        (
            {"features": Mfcc().spec.identity()},
            (98, 50),
            {"manifest": manifest(16000, 8000)},
            "line 2 has 50 labels, but 'u1' should have 48",
        ),
        ({}, (98, 48), {"manifest": manifest(16000, 8000), "rate": 50.0}, "should have 49 .*another rate"),
        ({"clusters": 4}, (98, 48), {}, "holds the unit 4, but was made with 4 clusters"),
        ({"rate": 100.0}, (98, 48), {"rate": 50.0}, "has 100 labels a second, not 50: set the label rate to 100, .* at 50$"),
        ({"rate": 100.0001}, (98, 48), {"rate": 100}, "has 100.0001 labels a second, not 100: set the label rate to 100.0001,"),
        ({"rate": 100 / 3}, (98, 48), {"rate": 33.3333333333}, "has 33.333333333333336 labels a second, not 33.3333333333:"),
        (
            {"manifest": "0" * 64, "rate": 100.0},
            (98, 48),
            {"manifest": manifest(16000, 8000)},
            "made for another manifest, with as many rows",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    header: dict[str, object], lengths: tuple[int, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(MismatchError, match=message):
        checked(UnitsHeader(**header), lengths, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -50.0])
def test_a_rate_that_no_labels_have_is_refused(rate: float) -> None:
    for header in (UnitsHeader(), UnitsHeader(rate=100.0)):
        with pytest.raises(InputError, match=rf"^--rate {rate:g}: labels a second are a number above 0; give such as 100"):
            checked(header, rate=rate)


def test_what_could_not_be_checked_is_said(tmp_path: Path) -> None:
    assert checked() == ["train.km has no header of ours: checked by counts and lengths alone"]
    notes = checked(manifest=manifest(16000, 8000))
    assert "lengths were not compared with the audio" in notes[1]
    assert len(checked(manifest=manifest(16000, 8000), rate=100.0)) == 1
    write_dictionary(tmp_path / "d", 4)
    with pytest.raises(MismatchError):
        checked(dictionary=tmp_path / "d")


def test_how_units_are_used() -> None:
    survey = Survey.of([np.array([0, 0, 1, 1]), np.array([2, 2, 0, 0])])
    usage = usage_scores(survey, clusters=5, rate=50.0)
    assert (usage.units, usage.used, usage.dead, usage.frames) == (5, 3, 2, 8)
    assert (usage.mean_run, usage.median_run, usage.longest_run) == (2, 2, 2)
    assert survey.histogram.tolist() == [4, 2, 2]
    assert survey.durations.tolist() == [0, 0, 4]
    lasting = Survey.of([np.array([1, 1, 1, 1, 1, 0, 2])])
    assert (usage_scores(lasting).median_run, usage_scores(lasting).longest_run) == (1, 5)
    assert usage.units_per_second == 25
    assert usage.perplexity == pytest.approx(np.exp(-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))))
    assert usage.bitrate == pytest.approx(25 * 1.5)
    assert usage_scores(Survey.of([])).bitrate is None


def test_units_are_never_wrapped() -> None:
    units = Units.of([np.array([65541, 3])], UnitsHeader(clusters=100))
    assert units.values.tolist() == [65541, 3]
