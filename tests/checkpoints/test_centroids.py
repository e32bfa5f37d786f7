from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocable.checkpoints import npy
from vocable.checkpoints.centroids import read_centroids
from vocable.errors import InputError

CENTROIDS = np.random.default_rng(0).standard_normal((10, 39))


def npy_file(path: Path, header: str | bytes, content: bytes = b"", version: int = 1) -> Path:
    text = header.encode() if isinstance(header, str) else header
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + content)
    return path


def header(shape: str = "(2, 3)", descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def refuse(path: Path, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as caught:
            read_centroids(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("form", ["npy", "scikit-learn"])
def test_centroids_are_float32_whatever_they_were(tmp_path: Path, dtype: str, layout: Any, form: str) -> None:
    given = layout(CENTROIDS.astype(dtype))
    if form == "npy":
        with (tmp_path / "c").open("wb") as file:
            np.save(file, given)
    else:
        (tmp_path / "c").write_bytes(pickle.dumps(given))
    found = read_centroids(tmp_path / "c")
    assert found.centroids.dtype == np.dtype("=f4")
    assert found.centroids.flags.c_contiguous
    assert np.array_equal(found.centroids, given.astype(np.float32))
    assert found.origin == form


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300, 3.5e38])
@pytest.mark.parametrize("form", ["npy", "pickle"])
@pytest.mark.filterwarnings("error")
def test_centroids_are_finite_as_float32(tmp_path: Path, value: float, form: str) -> None:
    spoiled = CENTROIDS.copy()
    spoiled[3, 4] = value
    np.save(tmp_path / "c.npy", spoiled)
    if form == "pickle":
        (tmp_path / "c.npy").write_bytes(pickle.dumps(spoiled))
    refuse(tmp_path / "c.npy", "NaN or infinite as float32")


@pytest.mark.parametrize(
    "given",
    [
        np.zeros(3),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.zeros((1, 2, 3)),
        np.array(1.0),
        np.zeros((2, 3), int),
        np.eye(2) > 0,
        np.eye(2) * 1j,
    ],
)
def test_other_arrays_are_refused_in_both_forms(tmp_path: Path, given: np.ndarray) -> None:
    np.save(tmp_path / "c.npy", given)
    refuse(tmp_path / "c.npy", "should hold centroids of shape")
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(given))
    with pytest.raises(Exception, match=r"c\.pkl") as caught:
        read_centroids(tmp_path / "c.pkl")
    assert type(caught.value).__module__ == "vocable.errors"


def test_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.array([[print, 1.0]], dtype=object), allow_pickle=True)
    refuse(tmp_path / "c.npy", "should hold centroids .* but holds object")


@pytest.mark.parametrize(
    "shape", ["(1000000000, 1000000)", "(4000000000, 39)", f"({2**62}, {2**62})", f"({2**62}, 0)", "(2, 4)", "(1, 3)"]
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_shape_that_the_file_does_not_fill_is_refused_before_memory_is_taken(tmp_path: Path, shape: str, version: int) -> None:
    refuse(npy_file(tmp_path / "c.npy", header(shape), bytes(24), version), r"c\.npy is not a whole \.npy file")


def test_the_headers_here_would_be_read_if_they_were_honest(tmp_path: Path) -> None:
    content = np.arange(6, dtype="<f4").tobytes()
    for version in (1, 2):
        found = read_centroids(npy_file(tmp_path / "c.npy", header(), content, version)).centroids
        assert np.array_equal(found, np.arange(6).reshape(2, 3))


BAD_HEADERS = {
    "empty": "",
    "no dict": "3\n",
    "garbage": "\x00\x01{{{",
    "open bracket": "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3\n",
    "open string": "{'descr': '''<f4\n",
    "indented": "  {\n  3\n 2",
    "no UTF-8": b"{'descr': '\xff\xfe'}",
    "deep": "(" * 9000,
    "deep brackets": "[" * 150 + "]" * 150,
    "minus": "-" * 9000 + "1",
    "too long": header() + " " * 12_000,
    "missing key": "{'descr': '<f4', 'shape': (2, 3)}\n",
    "more keys": "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}\n",
    "a call": "{'descr': print('x'), 'fortran_order': False, 'shape': (2, 3)}\n",
    "a number as type": header(descr="4"),
    "an unknown type": header(descr="'<q9'"),
    "a bad order": header(order="3"),
    "a list as shape": header("[2, 3]"),
    "text as shape": header("('2', 3)"),
    "a negative shape": header("(-2, -3)"),
    "a bool as shape": header("(True, 6)"),
    "a number that can't be printed": header(f"(0x{'f' * 5000}, 3)"),
    "a number that can't be read": header(f"({'9' * 5000}, 3)"),
}


@pytest.mark.parametrize("text", BAD_HEADERS.values(), ids=BAD_HEADERS)
@pytest.mark.filterwarnings("ignore")
def test_any_other_header_is_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    for version in (1, 2, 3, 9):
        refuse(npy_file(tmp_path / "c.npy", text, bytes(24), version), r"c\.npy is not a whole \.npy file")


@pytest.mark.parametrize(
    "descr", ["'|O'", "'|V4'", "[('a', '<f4')]", "('<f4', (3,))", "[('a', ('<f4', (1000000000,)))]", "'<U1'", "'<M8[s]'"]
)
def test_other_types_are_refused(tmp_path: Path, descr: str) -> None:
    refuse(npy_file(tmp_path / "c.npy", header(descr=descr), bytes(24)), "should hold centroids|not a whole")


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + header().encode())
    refuse(tmp_path / "c.npy", "not a whole")


def test_every_truncation_and_every_addition_is_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", CENTROIDS[:2])
    content = (tmp_path / "c.npy").read_bytes()
    for cut in [*range(6, len(content), 7), len(content) - 1]:
        (tmp_path / "c.npy").write_bytes(content[:cut])
        refuse(tmp_path / "c.npy", "not a whole")
    (tmp_path / "c.npy").write_bytes(content + b"\0")
    refuse(tmp_path / "c.npy", "it has 753 bytes, its header says 752")


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_do_more_than_fail_or_change_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", CENTROIDS[:2])
    content = (tmp_path / "c.npy").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(content)
        spoiled[int(rng.integers(140))] = int(rng.integers(256))
        (tmp_path / "c.npy").write_bytes(spoiled)
        try:
            assert read_centroids(tmp_path / "c.npy").centroids.ndim == 2
        except InputError as error:
            assert "c.npy" in str(error)


def test_a_matrix_larger_than_any_model_is_not_brought_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "c.npy", CENTROIDS)
    size = (tmp_path / "c.npy").stat().st_size
    monkeypatch.setattr(npy, "LARGEST_MODEL", size)
    assert len(read_centroids(tmp_path / "c.npy").centroids) == 10
    monkeypatch.setattr(npy, "LARGEST_MODEL", size - 1)
    refuse(tmp_path / "c.npy", "holds 10 rows, which are frames rather than centroids")
