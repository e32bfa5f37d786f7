"""Headers are read from files that anyone may have written: each part is checked, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from vocable.artefacts.headers import NUMBER, OBJECT, POSITIVE, TEXT, Kind, naming, parse_header, read_field, read_header, whole
from vocable.artefacts.tensors import read_tensors, read_tensors_header, read_vector, require_array
from vocable.artefacts.text import lines_of
from vocable.errors import InputError

DEEP = '{"format": "vocable.x/1", "a": ' + "[" * 40 + "]" * 40 + "}"
BROKEN = [
    ("{", "is not valid JSON"),
    ("", "is not valid JSON"),
    ("null", "holds JSON, but not a header of ours"),
    ("[]", "holds JSON, but not a header of ours"),
    ("3", "holds JSON, but not a header of ours"),
    ("[" * 100_000, "is not valid JSON .it has too many levels"),
    ('{"a":' * 100_000, "is not valid JSON .it has too many levels"),
    (DEEP, "is not valid JSON .it has too many levels"),
    ('{"a": NaN}', "is not valid JSON .NaN is no number of JSON's"),
    ('{"a": [Infinity]}', "is not valid JSON .Infinity is no number"),
    ('{"a": -Infinity}', "is not valid JSON .-Infinity is no number"),
    ('{"a": 1e999}', "is not valid JSON .1e999 is too large"),
    ('{"a": ' + "9" * 5000 + "}", "is not valid JSON"),
    ('{"a": "\\ud800"}', "is not valid JSON"),
    ('{"\\ud800": 1}', "is not valid JSON"),
]


def with_metadata(path: Path, text: str) -> Path:
    path.write_bytes(save({"x": np.zeros(3, np.float32)}, {"vocable": text}))
    return path


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=[content[:20] for content, _ in BROKEN])
def test_a_header_that_is_no_header_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "h.json").write_text(content)
    with pytest.raises(InputError, match=rf"h\.json {message}.*: make it again, or remove it$"):
        read_header(tmp_path / "h.json")


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=[content[:20] for content, _ in BROKEN])
def test_tensors_with_such_a_header_are_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = with_metadata(tmp_path / "x.safetensors", content)
    for read in (lambda: read_tensors(path, "vocable.x/1"), lambda: read_tensors_header(path)):
        with pytest.raises(InputError, match=rf"the header of .*x\.safetensors {message}"):
            read()


def test_a_header_of_utf_16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_bytes('{"a": 1}'.encode("utf-16"))
    with pytest.raises(InputError, match=r"h\.json is not valid JSON"):
        read_header(tmp_path / "h.json")


def test_a_header_that_does_not_say_its_format_is_refused(tmp_path: Path) -> None:
    path = with_metadata(tmp_path / "x.safetensors", "{}")
    with pytest.raises(InputError, match=r"x\.safetensors should say it is 'vocable\.x/1', but says nothing"):
        read_tensors(path, "vocable.x/1")
    with pytest.raises(InputError, match=r"x\.safetensors lacks its format"):
        read_tensors_header(path)
    path = with_metadata(path, '{"format": ["' + "x" * 1000 + '"]}')
    with pytest.raises(InputError, match="but says ..x{50,58}…: it was made") as caught:
        read_tensors(path, "vocable.x/1")
    assert len(str(caught.value)) < 400
    with pytest.raises(InputError, match="should give text for 'format'"):
        read_tensors_header(path)


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (TEXT, ["", "a"], [None, 1, [], {}]),
        (OBJECT, [{}], [None, [], "{}"]),
        (whole(0, 3), [0, 3], [-1, 4, 1.0, "1", True, None]),
        (whole(1), [1, 10**18], [0, 10**30]),
        (NUMBER, [0, -1.5, 3], [None, "1", True, float("nan"), float("inf"), 10**400]),
        (POSITIVE, [1, 0.5], [0, -1, 0.0, float("nan"), float("inf"), 10**400, "1", False]),
        (TEXT.or_null(), [None, "a"], [1, {}]),
    ],
)
def test_a_field_of_another_kind_is_refused_by_key(kind: Kind[object], taken: list[object], refused: list[object]) -> None:
    for value in taken:
        assert read_field("h.json", {"a": value}, "a", kind) == value
    for value in refused:
        with pytest.raises(InputError, match=r"^h\.json should give .+ for 'a', but gives .+: make it again$"):
            read_field("h.json", {"a": value}, "a", kind)


def test_a_missing_field_is_refused_by_key() -> None:
    with pytest.raises(InputError, match=r"^h\.json lacks its rate: it is not whole; make it again$"):
        read_field(Path("h.json"), {}, "rate", POSITIVE.or_null())


def test_what_a_field_holds_is_shown_as_json_and_cut_short() -> None:
    with pytest.raises(InputError, match="gives null: make"):
        read_field("h.json", {"a": None}, "a", TEXT)
    with pytest.raises(InputError, match="gives .*…: make") as caught:
        read_field("h.json", {"a": "x" * 10_000}, "a", OBJECT)
    assert len(str(caught.value)) < 200


def test_what_is_wrong_inside_a_file_gets_its_name() -> None:
    with pytest.raises(InputError, match=r"^a\.km: it is wrong$"), naming(Path("a.km")):
        raise InputError("it is wrong")


def test_headers_of_ours_are_read_as_they_were() -> None:
    header = {"format": "x", "a": [1, 2.5, None, True, "ü"], "b": {"c": {"d": {}}}}
    assert parse_header("x", json.dumps(header)) == header


def test_tensors_that_cannot_be_read_are_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, reason in (
        (tmp_path / "no.safetensors", r"no\.safetensors: no such file or directory: it isn't there"),
        (tmp_path, "is a directory: it is a folder; give the path of a file"),
        (tmp_path / "file" / "x", r"file/x: not a directory"),
        (tmp_path / ("a" * 300), "aaa: file name too long"),
        (tmp_path / "file", "file is not a whole safetensors file"),
        (Path("/dev/null"), "/dev/null can't be read .*: give the path of a file"),
    ):
        for read in (lambda path=path: read_tensors(path, "x"), lambda path=path: read_tensors_header(path)):
            with pytest.raises(InputError, match=reason):
                read()

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "secret.safetensors")  # root may read all files

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match=r"secret\.safetensors: permission denied: change its permissions"):
        read_tensors(tmp_path / "file", "x")


def test_numbers_that_numpy_does_not_have_are_refused(tmp_path: Path) -> None:
    for name, size in (("BF16", 2), ("F8_E4M3", 1)):
        header = {"__metadata__": {"vocable": '{"format":"x"}'}, "c": {"dtype": name, "shape": [1], "data_offsets": [0, size]}}
        text = json.dumps(header).encode()
        (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * size)
        with pytest.raises(
            InputError, match=r"x\.safetensors holds c as numbers that NumPy doesn't have .*: write them as float32"
        ):
            read_tensors(tmp_path / "x.safetensors", "x")


def test_arrays_are_taken_as_they_should_be_or_refused_by_name() -> None:
    path, arrays = Path("x.safetensors"), {"a": np.zeros(3, np.uint16), "b": np.zeros((3, 1), np.uint16)}
    assert read_vector(path, arrays, "a", ("uint16", "uint32")) is arrays["a"]
    assert require_array(path, arrays, "b") is arrays["b"]
    for name, types in (("a", ("float32",)), ("b", ("uint16",))):
        with pytest.raises(
            InputError, match=rf"x\.safetensors should hold one row of .+ as its {name}, but holds uint16 of shape"
        ):
            read_vector(path, arrays, name, types)
    with pytest.raises(InputError, match=r"x\.safetensors lacks its c: it is not whole; make it again"):
        read_vector(path, arrays, "c", ("uint16",))


def test_lines_that_are_not_utf_8_are_named() -> None:
    assert lines_of(Path("a.txt"), "ä\r\nb\n\nc".encode()) == ["ä", "b", "", "c"]
    with pytest.raises(InputError, match=r"^a\.txt line 2 is not UTF-8 text, but reads '1�': save the file as UTF-8$"):
        lines_of(Path("a.txt"), b"0\n1\xff\n2\n")
