"""Centroids out of scikit-learn's k-means models, pickled or dumped with joblib, without running anything in the file.

A pickle is a program that may call any function it names. This reader knows the few names that such a model needs and puts
inert stand-ins of ours in their place: arrays are built from shape, type and bytes; everything else is remembered and never
called. A file that names anything else is refused. Neither scikit-learn nor joblib is imported, so their versions don't matter.
"""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vocable.checkpoints.compressed import read_decompressed
from vocable.errors import InputError, UnsafeFileError


def read_kmeans_pickle(path: Path) -> NDArray[np.floating[Any]]:
    """Return `cluster_centers_` of a KMeans or MiniBatchKMeans, shape (clusters, dim), in the type it was stored.

    Reads plain pickles and joblib files of old and new versions, plain or compressed with gzip, zlib, bzip2, xz or lzma.

    Raises:
        UnsafeFileError: the file asks for a function or class that no k-means model needs.
        InputError: it is damaged, or something else than a fitted k-means model.
    """
    content = read_decompressed(path)
    try:
        found = _Reader(path, content).load()
    except (UnsafeFileError, InputError) as error:
        raise type(error)(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except Exception as error:  # a broken stream can fail in any way: short reads, stack underflow, bad text
        raise InputError(f"{path} is cut short or damaged ({type(error).__name__}: {error}): copy it again") from error
    centroids = found.state.get("cluster_centers_") if isinstance(found, _Inert) else found
    if isinstance(centroids, _Array):
        centroids = centroids.value
    if not isinstance(centroids, np.ndarray) or centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise InputError(f"{path} holds no fitted k-means model: a matrix cluster_centers_ was expected")
    return centroids


class _Inert:
    """Stands for an object of a class that is never made: keeps its state."""

    def __new__(cls, *_: object) -> Self:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _ArrayWrapper(_Inert):
    """Stands for joblib's NumpyArrayWrapper: says what array follows in the stream."""


class _ArrayType:
    """Stands for numpy.ndarray, which is only named."""


class _Dtype:
    """Stands for numpy.dtype while it is put together."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order: Literal["<", ">"] = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def made(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in "fiub" or dtype.hasobject:
            raise UnsafeFileError(f"an array of type {self.code!r} was not read: only numbers are")
        return dtype.newbyteorder(self.order) if dtype.itemsize > 1 else dtype


class _Array:
    """Stands for an array that is pickled whole."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(shape, dtype, raw if isinstance(raw, bytes) else None, "F" if fortran else "C")


def _array(shape: Any, dtype: Any, raw: bytes | None, order: str) -> NDArray[Any]:
    made = dtype.made()
    if raw is None or int(np.prod(shape, dtype=object)) * made.itemsize != len(raw):
        raise InputError("an array's bytes don't fill its shape")
    array = np.frombuffer(raw, dtype=made).reshape(shape, order=order)  # type: ignore[call-overload]
    return np.ascontiguousarray(array.astype(made.newbyteorder("="), copy=False))


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(raw: Any, dtype: _Dtype, shape: Any, order: str, *_: object) -> NDArray[Any]:
    return _array(shape, dtype, bytes(raw), order)


def _scalar(dtype: _Dtype, raw: Any = None) -> Any:
    return _array((), dtype, _latin1(raw), "C")[()]


def _latin1(text: Any, *_: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin1")


def _same_class(cls: Any, *_: object) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, _Inert)):
        raise UnsafeFileError("an object of an unknown class was not made")
    return cls()


_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMERIC = ("numpy._core.numeric", "numpy.core.numeric")
_ESTIMATORS = ("sklearn.cluster._kmeans", "sklearn.cluster.k_means_", "sklearn.cluster")
_JOBLIB = ("joblib.numpy_pickle", "sklearn.externals.joblib.numpy_pickle")

_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    **{(module, "_reconstruct"): _reconstruct for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
    **{(module, "_frombuffer"): _frombuffer for module in _NUMERIC},
    **{(module, name): _Inert for module in _ESTIMATORS for name in ("KMeans", "MiniBatchKMeans")},
    **{(module, "NumpyArrayWrapper"): _ArrayWrapper for module in _JOBLIB},
    # The state of a random generator, which fitted models may carry.
    **{("numpy.random._pickle", name): _Inert for name in ("__randomstate_ctor", "__bit_generator_ctor")},
    ("numpy.random", "__RandomState_ctor"): _Inert,
    ("numpy.random._mt19937", "MT19937"): _Inert,
    ("copyreg", "_reconstructor"): _same_class,
    ("copy_reg", "_reconstructor"): _same_class,
    ("builtins", "object"): _Inert,
    ("__builtin__", "object"): _Inert,
    ("_codecs", "encode"): _latin1,
}


_PurePython: Any = pickle._Unpickler  # its steps can be overridden


class _Reader(_PurePython):  # type: ignore[misc]
    """Reads a stream with stand-ins for the known names, and refuses all others."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PurePython.dispatch)

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, io.BytesIO(content)
        self._size = len(content)
        super().__init__(self._content, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a name."""
        if (module, name) not in _KNOWN:
            raise UnsafeFileError(
                f"{self._path} was not read, and nothing in it was run: it asks for {module}.{name}, "
                "which no k-means model needs; get the model from a source you trust, or its centroids as .npy"
            )
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to outside the file."""
        raise UnsafeFileError(f"{self._path} was not read: it refers to something outside itself")

    def load_build(self) -> None:
        """Give an object its state; where it announces an array, read that from the stream."""
        super().load_build()
        top = self.stack[-1]
        if isinstance(top, _ArrayWrapper):
            self.stack[-1] = self._read_array(top.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _read_array(self, state: dict[str, Any]) -> NDArray[Any]:
        dtype = state["dtype"]
        if isinstance(dtype, np.dtype) or not isinstance(dtype, _Dtype):
            raise UnsafeFileError(f"{self._path} was not read: it holds an array of an unknown type")
        size = int(np.prod(state["shape"], dtype=object)) * dtype.made().itemsize
        if state.get("numpy_array_alignment_bytes") is not None:
            (padding,) = struct.unpack("B", self._content.read(1))
            self._content.seek(padding, io.SEEK_CUR)
        if not 0 <= size <= self._size - self._content.tell():
            raise InputError(f"{self._path} is cut short: an array of shape {state['shape']} doesn't fit into it; copy it again")
        return _array(state["shape"], dtype, self._content.read(size), "F" if state.get("order") == "F" else "C")
