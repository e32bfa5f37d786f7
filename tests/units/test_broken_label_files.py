"""Label files that anyone may have written: what is wrong is said with the file's name, and nothing asks for all memory."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocable.artefacts.tensors import read_tensors, write_tensors
from vocable.errors import InputError
from vocable.features import Mfcc
from vocable.units import Units, read_units, write_units
from vocable.units.label_files import FORMAT, header_file, open_units
from vocable.units.units import Survey, UnitsHeader

SPEC = Mfcc().spec.identity()
HEADER = UnitsHeader(clusters=100, rate=100.0, codebook="c" * 64, manifest="m" * 64, features=SPEC)
UNITS = Units.of([np.array([3, 3, 0, 99]), np.array([], dtype=int), np.array([7])], HEADER, ["a", "b/c", "ü"])
DAY = 24 * 3600 * 100  # frames

WRONG: list[tuple[str, Any, str]] = [
    *[("clusters", value, "should give .* for 'clusters'") for value in (-5, 0, "x", 1.5, True, 1 << 40)],
    *[("rate", value, "should give .* for 'rate'") for value in ("a", 0, -1, [], True, 10**400)],
    *[("features", value, "should give an object for 'features'") for value in (None, [], "mfcc")],
    ("features", {**SPEC, "hop": 0}, "a feature spec should give .* for 'hop'"),
    ("features", {**SPEC, "parameters": None}, "a feature spec should give .* for 'parameters'"),
    ("features", {"kind": "mfcc"}, "a feature spec is incomplete"),
    *[(name, value, f"should give .* for '{name}'") for name in ("codebook", "manifest", "whole") for value in (1, [], {})],
    *[("whole_rows", value, "should give .* for 'whole_rows'") for value in (-1, "3", 1.5)],
    ("format", "vocable.frames/1", "should say it is 'vocable.units/1', but says .vocable.frames/1"),
]


def written(path: Path, change: dict[str, Any], without: str | None = None) -> Path:
    """Write labels whose header was meddled with."""
    write_units(path, UNITS)
    arrays, header = read_tensors(path, FORMAT) if path.suffix == ".units" else ({}, json.loads(header_file(path).read_text()))
    changed = {name: value for name, value in {**header, **change}.items() if name != without}
    if path.suffix == ".units":
        write_tensors(path, arrays, changed)
    else:
        header_file(path).write_text(json.dumps(changed))
    return path


def header_name(path: Path) -> str:
    return path.name if path.suffix == ".units" else header_file(path).name


@pytest.mark.parametrize("form", ["km", "rle", "units"])
@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_header_with_a_wrong_value_is_refused_by_file_and_key(
    tmp_path: Path, form: str, key: str, value: Any, message: str
) -> None:
    path = written(tmp_path / f"train.{form}", {key: value})
    for read in (read_units, open_units):
        with pytest.raises(InputError, match=f"{header_name(path)}:? {message}.*: (make|it was made)"):
            read(path)


@pytest.mark.parametrize("rate", ["NaN", "Infinity"])
def test_a_rate_that_json_does_not_have_is_refused(tmp_path: Path, rate: str) -> None:
    path = written(tmp_path / "train.km", {"rate": float(rate)})
    with pytest.raises(InputError, match=rf"train\.km\.json is not valid JSON \({rate} is no number"):
        read_units(path)


@pytest.mark.parametrize("form", ["km", "rle", "units"])
@pytest.mark.parametrize("key", ["clusters", "rate", "codebook", "manifest", "features", "format"])
def test_a_header_that_lacks_a_key_is_refused_by_file_and_key(tmp_path: Path, form: str, key: str) -> None:
    path = written(tmp_path / f"train.{form}", {}, without=key)
    message = "should say it is .*, but says nothing" if key == "format" else f"lacks its {key}: it is not whole; make it again"
    with pytest.raises(InputError, match=f"{header_name(path)} {message}"):
        read_units(path)


@pytest.mark.parametrize("form", ["km", "rle"])
def test_a_header_beside_text_that_lacks_its_digest_is_refused(tmp_path: Path, form: str) -> None:
    for change, without, message in (({}, "text", "lacks its text"), ({"text": None}, None, "should give text for 'text'")):
        path = written(tmp_path / f"train.{form}", change, without)
        with pytest.raises(InputError, match=f"{header_name(path)} {message}"):
            read_units(path)


@pytest.mark.parametrize("form", ["km", "rle", "units"])
@pytest.mark.parametrize("key", ["whole", "whole_rows"])
def test_older_headers_that_do_not_name_the_whole_are_read(tmp_path: Path, form: str, key: str) -> None:
    assert read_units(written(tmp_path / f"train.{form}", {}, without=key)).header == HEADER


@pytest.mark.parametrize("form", ["km", "rle", "units"])
def test_what_a_header_leaves_open_is_null(tmp_path: Path, form: str) -> None:
    nothing = {"clusters": None, "rate": None, "codebook": None, "manifest": None, "features": {}}
    assert read_units(written(tmp_path / f"train.{form}", nothing)).header == UnitsHeader()
    found = read_units(written(tmp_path / f"train.{form}", {"rate": 100, "clusters": 1 << 24})).header
    assert (found.rate, type(found.rate), found.clusters) == (100.0, float, 1 << 24)


def test_a_header_says_all_that_is_known_of_labels(tmp_path: Path) -> None:
    """A field added to `UnitsHeader` and not to its reader would be lost."""
    header = UnitsHeader(100, 50.0, "c", "m", SPEC, "w", 7)
    assert all(value is not None for value in asdict(header).values())
    for form in ("km", "rle", "units"):
        write_units(tmp_path / f"a.{form}", Units.of([np.array([1])], header, ["a"]))
        assert read_units(tmp_path / f"a.{form}").header == header


def compact(path: Path, **arrays: Any) -> Path:
    """Write a `.units` file with other arrays; None leaves one out."""
    write_units(path, UNITS)
    found, header = read_tensors(path, FORMAT)
    write_tensors(path, {name: array for name, array in {**found, **arrays}.items() if array is not None}, header)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        *[({name: None}, f"lacks its {name}: it is not whole; make it again") for name in ("units", "lengths", "ids")],
        ({"units": np.zeros(5)}, "should hold one row of uint16 or uint32 as its units, but holds float64"),
        ({"units": np.zeros(5, np.int32)}, "should hold one row of uint16 or uint32 as its units"),
        ({"units": np.zeros((5, 1), np.uint16)}, r"should hold one row .* as its units, but holds uint16 of shape \(5, 1\)"),
        ({"units": np.zeros(4, np.uint16)}, "3 lengths that add up to 5, 4 units and 3 ids don't go together"),
        ({"units": np.array([1, 2, 3, 4, (1 << 32) - 1], np.uint32)}, "holds the unit 4294967295, where 16777215 is the largest"),
        ({"units": np.array([1, 2, 3, 4, 1 << 24], np.uint32)}, "holds the unit 16777216, where .*: label again"),
        ({"lengths": np.array([5, -1, 1])}, "should hold one row of uint32 as its lengths, but holds int64"),
        ({"lengths": np.array([4, 0, 2], np.uint32)}, "3 lengths that add up to 6, 5 units"),
        ({"lengths": np.array([5], np.uint32)}, "1 lengths that add up to 5, 5 units and 3 ids don't go together"),
        ({"lengths": np.zeros(0, np.uint32), "units": np.zeros(0, np.uint16)}, "0 lengths .* and 3 ids don't go together"),
        ({"ids": np.frombuffer(b"a\nb", np.uint8)}, "3 lengths .* and 2 ids don't go together"),
        ({"ids": np.frombuffer(b"a\nb\n\xff", np.uint8)}, "holds ids that are not UTF-8 text: make it again"),
        ({"ids": np.zeros(3, np.float32)}, "should hold one row of uint8 as its ids"),
    ],
)
def test_broken_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"train\.units:? {message}"):
        read_units(compact(tmp_path / "train.units", **arrays))


def test_the_largest_unit_of_all_can_be_surveyed(tmp_path: Path) -> None:
    units = read_units(compact(tmp_path / "a.units", units=np.array([1, 2, 3, 4, (1 << 24) - 1], np.uint32)))
    assert Survey.of(units).largest == (1 << 24) - 1


def test_labels_of_no_utterance_round_trip(tmp_path: Path) -> None:
    for form in ("km", "rle", "units"):
        write_units(tmp_path / f"a.{form}", Units.of([], HEADER, []))
        assert len(read_units(tmp_path / f"a.{form}")) == 0


@pytest.mark.parametrize("line", ["1:16777215 " * 200, "1:8640000 2:1"], ids=["many", "just"])
def test_a_line_of_runs_longer_than_a_day_is_refused_before_it_fills_memory(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.rle").write_text(f"1:1\n{line}\n")
    tracemalloc.start()
    try:
        with pytest.raises(
            InputError, match=rf"a\.rle line 2 has \d+ frames, more than the {DAY} of a day .*: cut the utterance"
        ):
            read_units(tmp_path / "a.rle")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_day_is_read_and_written_as_runs_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "a.rle").write_text(f"1:{DAY - 1} 2:1\n")
    assert len(read_units(tmp_path / "a.rle")[0]) == DAY
    longer = Units.of([np.array([3]), np.zeros(DAY + 1, np.uint16)], UnitsHeader())
    with pytest.raises(InputError, match=rf"b\.rle line 2 has {DAY + 1} frames.*cut the utterance.*or write \.km or \.units"):
        write_units(tmp_path / "b.rle", longer)
    assert not (tmp_path / "b.rle").exists()
