"""What stands for the few classes and functions that files of k-means models name: inert, and imported from nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from vocable.checkpoints.pickle_machine import Content, Name, StandIn, exactly
from vocable.checkpoints.stored_arrays import Latin1, StoredArray, checked_shape, number_type, size_of, stored_array
from vocable.errors import UnsafeFileError


class Estimator(StandIn):
    """Stands for a KMeans or MiniBatchKMeans, and keeps its attributes."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def built(self, state: object, content: Content) -> StandIn:
        """Keep the attributes."""
        self.state = exactly(dict, state)
        return self


class Array(StandIn):
    """Stands for a numpy.ndarray: `stored` once the file has described it."""

    __slots__ = ("stored",)

    def __init__(self, stored: StoredArray | None = None) -> None:
        self.stored = stored

    def built(self, state: object, content: Content) -> StandIn:
        """Take the description of an array that is pickled whole."""
        _, shape, dtype, fortran, raw = exactly(tuple, state)
        self.stored = stored_array(shape, exactly(Dtype, dtype).made(), raw, "F" if exactly(bool, fortran) else "C")
        return self


class _JoblibArray(StandIn):
    """Stands for joblib's NumpyArrayWrapper: says what array follows in the stream."""

    __slots__ = ()

    def built(self, state: object, content: Content) -> StandIn:
        fields = exactly(dict, state)
        shape, dtype = checked_shape(fields["shape"]), exactly(Dtype, fields["dtype"]).made()
        if fields.get("numpy_array_alignment_bytes") is not None:
            content.take(content.take(1)[0])
        return Array(stored_array(shape, dtype, content.take(size_of(shape, dtype)), fields["order"]))


class Dtype(StandIn):
    """Stands for a numpy.dtype of numbers."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object, *_: object) -> None:
        self._code, self._order = code, "="

    def built(self, state: object, content: Content) -> StandIn:
        """Take the order of the bytes."""
        order = exactly(str, exactly(tuple, state)[1])
        if order not in ("<", ">", "=", "|"):
            raise ValueError("the order of an array's bytes is unknown")
        self._order = order
        return self

    @property
    def is_object(self) -> bool:
        """Whether it is the type of Python's objects."""
        return self._code in ("O", "O8")

    def made(self) -> np.dtype[Any]:
        """Return the type itself.

        Raises:
            UnsafeFileError: it is not one of numbers.
        """
        return number_type(self._code, self._order)


class _Forgotten(StandIn):
    """Stands for what centroids don't need: single numbers, and the random generators that fitted models may carry."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def built(self, state: object, content: Content) -> StandIn:
        return self


def _reconstruct(*_: object) -> Array:
    return Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object, *_: object) -> Array:
    return Array(stored_array(shape, exactly(Dtype, dtype).made(), raw, order))


def _encode(text: object, codec: object) -> Latin1:
    if exactly(str, codec) not in ("latin1", "latin-1"):
        raise ValueError("bytes are written in an unknown way")
    return Latin1(exactly(str, text))


def _of_class(cls: object, *_: object) -> object:
    made = exactly(Name, cls).make
    if made not in (Estimator, _JoblibArray):
        raise UnsafeFileError("it asks for an object of an unknown class, which no file of arrays needs")
    return made()


def _only_named(*_: object) -> object:
    raise UnsafeFileError("it calls what such files only name")


_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMERIC = ("numpy._core.numeric", "numpy.core.numeric")
_ESTIMATORS = ("sklearn.cluster._kmeans", "sklearn.cluster.k_means_", "sklearn.cluster")
_JOBLIB = ("joblib.numpy_pickle", "sklearn.externals.joblib.numpy_pickle")

KNOWN: dict[tuple[str, str], Name] = {
    ("numpy", "ndarray"): Name(_only_named),
    ("numpy", "dtype"): Name(Dtype),
    **{(module, "_reconstruct"): Name(_reconstruct) for module in _MODULES},
    **{(module, "scalar"): Name(_Forgotten) for module in _MODULES},
    **{(module, "_frombuffer"): Name(_frombuffer) for module in _NUMERIC},
    **{(module, name): Name(Estimator) for module in _ESTIMATORS for name in ("KMeans", "MiniBatchKMeans")},
    **{(module, "NumpyArrayWrapper"): Name(_JoblibArray) for module in _JOBLIB},
    **{("numpy.random._pickle", name): Name(_Forgotten) for name in ("__randomstate_ctor", "__bit_generator_ctor")},
    ("numpy.random", "__RandomState_ctor"): Name(_Forgotten),
    ("numpy.random._mt19937", "MT19937"): Name(_only_named),
    ("copyreg", "_reconstructor"): Name(_of_class),
    ("copy_reg", "_reconstructor"): Name(_of_class),
    ("builtins", "object"): Name(_only_named),
    ("__builtin__", "object"): Name(_only_named),
    ("_codecs", "encode"): Name(_encode),
}
