"""Streams written by hand to alter the reader, to hang it, or to fill the memory."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from checkpoints.streams import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BUILD,
    EMPTY,
    FRAMES,
    MARK,
    MODEL,
    NEWOBJ,
    REDUCE,
    SETITEM,
    SETITEMS,
    WRAPPER,
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
from vocable.checkpoints.pickle_machine import StandIn
from vocable.errors import InputError, UnsafeFileError

# Steps with text in them warn of its bad escapes.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")


@pytest.mark.parametrize(
    "whole", [array(), frombuffer(), joblib_array(), frombuffer(b"\x96" + struct.pack("<Q", 48) + FRAMES.tobytes())]
)
def test_the_streams_here_would_be_read_if_they_were_honest(tmp_path: Path, whole: bytes) -> None:
    for steps in (whole, MODEL + b"}" + value("cluster_centers_") + whole + SETITEM + BUILD):
        assert np.array_equal(read(tmp_path, steps), FRAMES)


@pytest.mark.parametrize(
    "target",
    [
        name("numpy", "dtype"),
        name("numpy", "ndarray"),
        name("numpy.core.multiarray", "_reconstruct"),
        name("sklearn.cluster._kmeans", "KMeans"),
        name("joblib.numpy_pickle", "NumpyArrayWrapper"),
        name("_codecs", "encode"),
        b"]",
        b"}",
        b")",
        value(3),
        value("text"),
        call(name("numpy.core.multiarray", "scalar"), dtype(), value(b"\0" * 8)),
        frombuffer(),
    ],
)
@pytest.mark.parametrize("state", [value({"made": 1, "state": 1}), value((None, {"made": 1, "state": 1, "__init__": 1}))])
def test_a_state_alters_nothing_but_an_object_of_ours(tmp_path: Path, target: bytes, state: bytes) -> None:
    refuse(tmp_path, target + state + BUILD)
    refuse(tmp_path, target + state + BUILD + b"0" + array(kind=dtype(value("O8"))))
    assert np.array_equal(read(tmp_path, array()), FRAMES)
    assert np.array_equal(read(tmp_path, joblib_array()), FRAMES)


@pytest.mark.parametrize("target", [MODEL, WRAPPER, dtype(), EMPTY])
def test_objects_of_ours_take_no_attributes(tmp_path: Path, target: bytes) -> None:
    refuse(tmp_path, target + value((None, {"made": 1, "state": {}, "stored": 1, "extra": 1})) + BUILD)
    kinds = StandIn.__subclasses__()
    assert len(kinds) == 5
    assert not any(hasattr(kind.__new__(kind), "__dict__") for kind in kinds)


BYTEARRAY = b"\x96" + struct.pack("<Q", 4) + b"abcd"
OBJECTS = [MODEL, EMPTY, array(), frombuffer(), dtype(), name("numpy", "dtype"), value("text"), value(1), BYTEARRAY]


@pytest.mark.parametrize("target", [*OBJECTS, b"]"])
@pytest.mark.parametrize("key", [value(0), value("a")])
def test_only_dicts_are_given_items_by_key(tmp_path: Path, target: bytes, key: bytes) -> None:
    for steps in (key + value(1) + SETITEM, MARK + key + value(1) + SETITEMS):
        refuse(tmp_path, target + steps, "stands where a dict should")


@pytest.mark.parametrize("target", [*OBJECTS, b"}"])
def test_only_lists_are_appended_to(tmp_path: Path, target: bytes) -> None:
    for steps in (value(0) + APPEND, MARK + value(0) + APPENDS):
        refuse(tmp_path, target + steps, "stands where a list should")
    refuse(tmp_path, target + MARK + value(0) + ADDITEMS, "nothing in it was run")


@pytest.mark.parametrize("key", [value(1), value((1, 2)), value(b"a"), value(None), MODEL, value(("cluster_centers_",))])
def test_keys_are_text(tmp_path: Path, key: bytes) -> None:
    for steps in (b"}" + key + value(1) + SETITEM, b"}" + MARK + key + value(1) + SETITEMS, MARK + key + value(1) + b"d"):
        refuse(tmp_path, MODEL + steps + BUILD, "damaged")


HUGE = 2**60
SIZES = {
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 4 << 30),
    "BYTEARRAY8, huge": b"\x96" + struct.pack("<Q", HUGE),
    "BINBYTES8": b"\x8e" + struct.pack("<Q", 4 << 30),
    "BINBYTES8, huge": b"\x8e" + struct.pack("<Q", HUGE),
    "BINBYTES": b"B" + struct.pack("<I", 2**32 - 1),
    "BINUNICODE8": b"\x8d" + struct.pack("<Q", HUGE),
    "BINUNICODE": b"X" + struct.pack("<I", 2**32 - 1),
    "BINSTRING": b"T" + struct.pack("<i", 2**31 - 1),
    "BINSTRING, negative": b"T" + struct.pack("<i", -1),
    "LONG4": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "LONG4, negative": b"\x8b" + struct.pack("<i", -1),
    "FRAME": b"\x95" + struct.pack("<Q", HUGE) + b"N",
    "LONG_BINPUT": b"Nr" + struct.pack("<I", 2**32 - 1),
    "LONG_BINGET": b"j" + struct.pack("<I", 2**32 - 1),
    "PUT": b"Np99999999999999999999\n",
    "LONG": b"L" + b"9" * 100_000 + b"L\n",
    "INT": b"I" + b"9" * 100_000 + b"\n",
    "GLOBAL": b"c" + b"9" * 100_000 + b"\n" + b"9" * 100_000 + b"\n",
}


@pytest.mark.parametrize("steps", SIZES.values(), ids=SIZES)
def test_a_size_that_the_file_does_not_have_is_refused_before_memory_is_taken(tmp_path: Path, steps: bytes) -> None:
    refuse(tmp_path, steps)
    with pytest.raises((InputError, UnsafeFileError)) as caught:
        read(tmp_path, steps)
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


DOUBLED = b")q\x00" + b"h\x00h\x00\x86q\x00" * 200  # each tuple holds the last one twice: hashing or printing it takes for ever

NESTED = b")" + b"\x85" * 40_000


@pytest.mark.parametrize("endless", [DOUBLED, NESTED], ids=["doubled", "nested"])
def test_a_structure_without_end_is_never_walked(tmp_path: Path, endless: bytes) -> None:
    for steps in (
        endless,
        b"}" + endless + value(1) + SETITEM,
        b"\x8f" + MARK + endless + ADDITEMS,
        MARK + endless + b"\x91",
        array(endless),
        array(raw=endless),
        dtype(endless),
        dtype(state=endless),
        joblib_array(shape=endless),
        joblib_array(dtype=endless),
        joblib_array(order=endless),
        endless + call(name("copyreg", "_reconstructor"), b"h\x00", b"h\x00", b"N"),
        MODEL + endless + BUILD,
        MODEL + b"}" + value("cluster_centers_") + endless + SETITEM + BUILD,
    ):
        refuse(tmp_path, steps)


@pytest.mark.parametrize("steps", [b"\x8f", b"}", b"]", b"(", MARK + b"}", b"N"])
def test_a_small_file_makes_no_great_many_objects(tmp_path: Path, steps: bytes) -> None:
    refuse(tmp_path, steps * (3_000_000 // len(steps)), "steps|damaged|not read")


@pytest.mark.parametrize(
    "steps",
    [
        EMPTY,
        WRAPPER,
        MODEL,
        MODEL + value({"cluster_centers_": 3}) + BUILD,
        MODEL + value({}) + BUILD,
        MODEL + b"}" + value("cluster_centers_") + EMPTY + SETITEM + BUILD,
        dtype(),
        name("numpy", "ndarray"),
        value(None),
    ],
)
def test_what_is_not_finished_is_no_model(tmp_path: Path, steps: bytes) -> None:
    refuse(tmp_path, steps, "holds no fitted k-means model")


@pytest.mark.parametrize("state", [value(3), value([1]), value(("a", {})), value(None), MODEL])
def test_the_state_of_a_model_is_a_dict(tmp_path: Path, state: bytes) -> None:
    refuse(tmp_path, MODEL + state + BUILD, "stands where a dict should")
    refuse(tmp_path, WRAPPER + state + BUILD, "stands where a dict should")


def test_a_fields_missing_is_damage(tmp_path: Path) -> None:
    refuse(tmp_path, WRAPPER + value({"shape": (2, 3)}) + BUILD, "damaged")
    refuse(tmp_path, EMPTY + value((1, (2, 3))) + BUILD, "damaged")


@pytest.mark.parametrize(
    "cls",
    [
        name("numpy", "ndarray"),
        name("numpy", "dtype"),
        name("numpy.core.multiarray", "_reconstruct"),
        name("_codecs", "encode"),
        name("copyreg", "_reconstructor"),
        value("sklearn.cluster._kmeans.KMeans"),
        MODEL,
        EMPTY,
    ],
)
def test_only_models_are_made_by_their_class(tmp_path: Path, cls: bytes) -> None:
    reconstructor = name("copyreg", "_reconstructor")
    state = value({"cluster_centers_": None}) + BUILD
    assert read_fails_with(
        tmp_path, call(reconstructor, name("sklearn.cluster._kmeans", "KMeans"), value(None), value(None)) + state
    )
    refuse(tmp_path, call(reconstructor, cls, name("builtins", "object"), value(None)), "an object of an unknown class|damaged")


def read_fails_with(folder: Path, steps: bytes) -> bool:
    with pytest.raises(InputError, match="holds no fitted k-means model"):
        read(folder, steps)
    return True


@pytest.mark.parametrize("callee", [value("text"), value(3), b"]", MODEL, EMPTY, array(), b")"])
def test_only_known_names_are_called(tmp_path: Path, callee: bytes) -> None:
    refuse(tmp_path, call(callee, value(1)), "stands where a Name should")
    refuse(tmp_path, callee + b")" + NEWOBJ, "stands where a Name should")


@pytest.mark.parametrize("part", [value(1), value(b"numpy"), value(None), value(("numpy",)), b"]", MODEL, DOUBLED])
def test_names_are_text(tmp_path: Path, part: bytes) -> None:
    for steps in (part + value("dtype"), value("numpy") + part):
        refuse(tmp_path, steps + b"\x93", "stands where a str should")


@pytest.mark.parametrize("step", [b"\x85", b"\x86", b"\x87", REDUCE, NEWOBJ, BUILD, b"\x93", SETITEM, APPEND])
def test_steps_have_what_they_work_on(tmp_path: Path, step: bytes) -> None:
    refuse(tmp_path, value(3) + MARK + step, "a step lacks what it works on")


def test_arguments_are_a_tuple(tmp_path: Path) -> None:
    for arguments in (b"]", b"}", value("abc"), DOUBLED[:2] + b"0N"):
        refuse(tmp_path, name("numpy", "dtype") + arguments + REDUCE, "damaged")
        refuse(tmp_path, name("sklearn.cluster._kmeans", "KMeans") + arguments + NEWOBJ, "damaged")


@pytest.mark.parametrize(
    "steps",
    [
        b"Pelsewhere\n",
        b"NQ",
        b"\x82\x01",
        b"\x97",
        b"N\x98",
        b"(ios\nsystem\n",
        b"(" + MODEL + b"o",
        MODEL + b")}\x92",
    ],
)
def test_steps_that_no_model_takes_are_refused(tmp_path: Path, steps: bytes) -> None:
    refuse(tmp_path, steps, "was not read, and nothing in it was run")


@pytest.mark.parametrize(
    "named", [name("numpy", "ndarray"), name("builtins", "object"), name("numpy.random._mt19937", "MT19937")]
)
def test_what_is_only_named_is_not_called(tmp_path: Path, named: bytes) -> None:
    refuse(tmp_path, call(named), "nothing in it was run: it calls what such files only name")
    refuse(tmp_path, named + b")" + NEWOBJ, "nothing in it was run")
