"""Arrays that a stream describes wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints.streams import (
    BUILD,
    EMPTY,
    FRAMES,
    MODEL,
    array,
    call,
    dtype,
    frombuffer,
    joblib_array,
    name,
    read,
    refuse,
    value,
)

NO_SHAPE, NO_NUMBERS, UNFILLED = "an array's shape is no shape", "shape is not of whole numbers", "bytes don't fill its shape"
BAD_SHAPES = {
    "a list": (value([2, 3]), NO_SHAPE),
    "a number": (value(6), NO_SHAPE),
    "none": (value(None), NO_SHAPE),
    "too many": (value((1,) * 40 + (2, 3)), NO_SHAPE),
    "a bool": (value((True, 6)), NO_NUMBERS),
    "negative": (value((-2, -3)), NO_NUMBERS),
    "a float": (value((2.0, 3)), NO_NUMBERS),
    "text": (value(("2", 3)), NO_NUMBERS),
    "huge": (value((2**62, 2**62)), NO_NUMBERS),
    "huge with a zero": (value((2**62, 0)), NO_NUMBERS),
    "unbounded": (value((1 << 4096, 0)), NO_NUMBERS),
    "too few bytes": (value((3, 3)), UNFILLED),
    "too many bytes": (value((1, 3)), UNFILLED),
}


@pytest.mark.parametrize(("shape", "message"), BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_shapes_are_tuples_of_numbers_that_the_bytes_fill(tmp_path: Path, shape: bytes, message: str) -> None:
    for steps in (array(shape), frombuffer(shape=shape)):
        refuse(tmp_path, steps, message)
    refuse(tmp_path, joblib_array(shape=shape), "damaged" if message == UNFILLED else message)


def test_an_array_never_reads_on_into_the_next(tmp_path: Path) -> None:
    """A joblib array's bytes have no length of their own: what is too many is taken for steps."""
    refuse(tmp_path, joblib_array(FRAMES.tobytes() + b"\xff"), "damaged")
    refuse(tmp_path, joblib_array(FRAMES.tobytes()[:-8]), "an array's shape is larger than the file")


@pytest.mark.parametrize("raw", [value([1, 2]), value(1 << 32), value(None), value("\0" * 48), value("é" * 48), b"}", dtype()])
def test_the_content_of_an_array_is_bytes(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, array(raw=raw), "an array's content is no bytes")
    refuse(tmp_path, frombuffer(raw), "an array's content is no bytes")


@pytest.mark.parametrize("order", [value("K"), value(3), value(None), value("A"), b"]"])
def test_the_order_of_an_array_is_of_rows_or_of_columns(tmp_path: Path, order: bytes) -> None:
    refuse(tmp_path, frombuffer(order=order), "neither by rows nor by columns")
    refuse(tmp_path, joblib_array(order=order), "neither by rows nor by columns")
    refuse(tmp_path, array(fortran=order), "stands where a bool should")


@pytest.mark.parametrize("state", [value([1, (2, 3)]), value({}), value(None), value(FRAMES.tobytes())])
def test_the_description_of_an_array_is_a_tuple(tmp_path: Path, state: bytes) -> None:
    refuse(tmp_path, EMPTY + state + BUILD, "stands where a tuple should")


TEXTLESS = "an array's type is no text"
KINDS = [
    *(
        (dtype(value(code)), "where only numbers are read")
        for code in ("O8", "O", "V8", "U2", "S8", "M8", "c8", "f8,f8", "f", "g16")
    ),
    *((dtype(item), TEXTLESS) for item in (value(8), value(["f8"]), value({"names": []}), value(b"f8"), value(None), MODEL)),
    *((dtype(state=value(state)), "stands where a tuple should") for state in (None, {}, [3, "<"])),
    *((dtype(state=value((3, order))), "stands where a str should") for order in (4, ["<"], None)),
    *((dtype(state=value((3, order))), "order of an array's bytes is unknown") for order in ("x", "", "<f8,")),
    (dtype(state=value(())), "damaged"),
    *((kind, "stands where a Dtype should") for kind in (value("f8"), value(None), name("numpy", "dtype"), MODEL)),
]


@pytest.mark.parametrize(("kind", "message"), KINDS)
def test_arrays_hold_numbers_and_nothing_else(tmp_path: Path, kind: bytes, message: str) -> None:
    for steps in (array(kind=kind), joblib_array(dtype=kind), array(kind=kind, raw=value([1, 2, 3, 4, 5, 6]))):
        refuse(tmp_path, steps, message)


def test_whole_numbers_and_truth_values_are_arrays_but_no_centroids(tmp_path: Path) -> None:
    for code in ("i8", "u8"):
        refuse(tmp_path, array(kind=dtype(value(code))), "holds no fitted k-means model")
    refuse(tmp_path, array(kind=dtype(value("b1")), raw=value(b"\1" * 6)), "holds no fitted k-means model")


@pytest.mark.parametrize("text", [value(b"ab"), value(3), value(None), value(["a"]), b"}", MODEL])
def test_only_text_is_encoded(tmp_path: Path, text: bytes) -> None:
    refuse(tmp_path, array(raw=call(name("_codecs", "encode"), text, value("latin1"))), "stands where a str should")


def test_text_is_encoded_as_latin1_only(tmp_path: Path) -> None:
    content = FRAMES.tobytes().decode("latin1")
    encode = name("_codecs", "encode")
    assert np.array_equal(read(tmp_path, array(raw=call(encode, value(content), value("latin1")))), FRAMES)
    for codec in ("zlib", "utf-16", "punycode", "rot13", ["latin1"]):
        refuse(tmp_path, array(raw=call(encode, value(content), value(codec))), "damaged")
    refuse(tmp_path, array(raw=call(encode, value("\u0100" * 48), value("latin1"))), "damaged")


def test_one_content_is_not_copied_into_many_arrays(tmp_path: Path) -> None:
    size = 1 << 17
    raw = value(bytes(size * 8)) + b"q\x00"
    many = b"".join(array(value((size // 8, 8)), raw=b"h\x00", fortran=value(True)) + b"a" for _ in range(200))
    refuse(tmp_path, raw + b"]" + many)
    encoded = b"]" + b"".join(call(name("_codecs", "encode"), b"h\x00", value("latin1")) + b"a" for _ in range(500))
    refuse(tmp_path, value("\xff" * (size * 8)) + b"q\x00" + encoded)


@pytest.mark.parametrize("alignment", [value("a"), value(-1), value(None), value(16)])
def test_padding_stays_inside_the_file(tmp_path: Path, alignment: bytes) -> None:
    with_padding = joblib_array(b"\xff" + FRAMES.tobytes(), numpy_array_alignment_bytes=alignment)
    refuse(tmp_path, with_padding, "damaged")
    aligned = joblib_array(b"\x05-----" + FRAMES.tobytes(), numpy_array_alignment_bytes=value(16))
    assert np.array_equal(read(tmp_path, aligned), FRAMES)
