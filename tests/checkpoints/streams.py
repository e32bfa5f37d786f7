"""Pickles written step by step, as no program would, and the readers' answer to them."""

from __future__ import annotations

import io
import pickle
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vocable.checkpoints.kmeans_pickle import read_kmeans_pickle
from vocable.errors import InputError, UnsafeFileError

START, MARK, TUPLE, REDUCE, BUILD, STOP = b"\x80\x05", b"(", b"t", b"R", b"b", b"."
NEWOBJ, SETITEM, SETITEMS, APPEND, APPENDS, ADDITEMS = b"\x81", b"s", b"u", b"a", b"e", b"\x90"


def name(module: str, attribute: str) -> bytes:
    return value(module) + value(attribute) + b"\x93"


def value(thing: object) -> bytes:
    """Return the steps that push a plain value."""
    out = io.BytesIO()
    pickler = pickle._Pickler(out, 4)
    pickler.memoize = lambda _: None  # type: ignore[method-assign]
    pickler.save(thing)
    return out.getvalue()


def call(callee: bytes, *arguments: bytes) -> bytes:
    return callee + MARK + b"".join(arguments) + TUPLE + REDUCE


def dtype(code: bytes = value("f8"), state: bytes = value((3, "<", None, None, None, -1, -1, 0))) -> bytes:
    return call(name("numpy", "dtype"), code, value(False), value(True)) + state + BUILD


EMPTY = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), value((0,)), value(b"b"))
FRAMES = np.arange(6.0).reshape(2, 3)


def array(
    shape: bytes = value((2, 3)), kind: bytes = dtype(), raw: bytes = value(FRAMES.tobytes()), fortran: bytes = value(False)
) -> bytes:
    return EMPTY + MARK + value(1) + shape + kind + fortran + raw + TUPLE + BUILD


def frombuffer(raw: bytes = value(FRAMES.tobytes()), shape: bytes = value((2, 3)), order: bytes = value("C")) -> bytes:
    return call(name("numpy.core.numeric", "_frombuffer"), raw, dtype(), shape, order)


MODEL = name("sklearn.cluster._kmeans", "KMeans") + b")" + NEWOBJ
WRAPPER = name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")" + NEWOBJ


def joblib_array(raw: bytes = FRAMES.tobytes(), **state: bytes) -> bytes:
    fields = {
        "subclass": name("numpy", "ndarray"),
        "shape": value((2, 3)),
        "order": value("C"),
        "dtype": dtype(),
        "allow_mmap": value(False),
    }
    pairs = b"".join(value(key) + item for key, item in (fields | state).items())
    return WRAPPER + b"}" + MARK + pairs + SETITEMS + BUILD + raw


@contextmanager
def in_proportion(mebibytes: int = 24, seconds: float = 5) -> Iterator[None]:
    began = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes << 20
    assert time.monotonic() - began < seconds


def read(folder: Path, steps: bytes) -> np.ndarray:
    (folder / "km.pkl").write_bytes(START + steps + STOP)
    return read_kmeans_pickle(folder / "km.pkl")


def refuse(folder: Path, steps: bytes, message: str = "") -> None:
    with in_proportion(), pytest.raises((InputError, UnsafeFileError), match=rf"km\.pkl .*{message}"):
        read(folder, steps)
