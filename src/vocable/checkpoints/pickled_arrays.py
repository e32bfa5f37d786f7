"""A dictionary of arrays out of a `.npy` that NumPy pickled it into, without running anything in the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vocable.checkpoints.compressed import LARGEST_MODEL
from vocable.checkpoints.pickle_machine import Content, Name, StandIn, carry_out, exactly
from vocable.checkpoints.stand_ins import KNOWN, Array, Dtype
from vocable.errors import InputError, UnsafeFileError


class _Held(Array):
    """Stands for an array of numbers, or for one of Python's objects, of which the values are kept."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] | None = None

    def built(self, state: object, content: Content) -> StandIn:
        values = exactly(tuple, state)
        if len(values) == 5 and type(values[4]) is list and exactly(Dtype, values[2]).is_object:
            self.values = values[4]
            return self
        return super().built(state, content)


_NAMES = {
    name: Name(lambda *_: _Held()) if name[1] == "_reconstruct" else made
    for name, made in KNOWN.items()
    if name[0].startswith(("numpy", "_codecs"))
}


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of numbers in a dictionary that `numpy.save` wrote; other values are left out.

    Raises:
        UnsafeFileError: the file asks for a function or class that no array needs.
        InputError: it is damaged, or something else.
    """
    if path.stat().st_size > LARGEST_MODEL:
        raise InputError(f"{path} is too large for the arrays of an utterance: give another file")
    content = path.read_bytes()
    try:
        head = io.BytesIO(content)
        version = npy_format.read_magic(head)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        _, _, dtype = read(head)
        found = carry_out(content[head.tell() :], _NAMES) if dtype.hasobject else None
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path} was not read, and nothing in it was run: {error}; make it again") from error
    except Exception as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"{path} is not a whole .npy file ({what}): make it again") from error
    held = found.values if isinstance(found, _Held) else None
    if held is None or len(held) != 1 or not isinstance(held[0], dict):
        raise InputError(f"{path} holds no dictionary of arrays: give what SD-HuBERT's code wrote, or vocable")
    return {
        name: value.stored.values() for name, value in held[0].items() if isinstance(value, Array) and value.stored is not None
    }


def is_pickled(path: Path) -> bool:
    """Tell whether a `.npy` holds Python's objects."""
    try:
        with path.open("rb") as file:
            version = npy_format.read_magic(file)
            return version == (1, 0) and np.dtype(npy_format.read_array_header_1_0(file)[2]).hasobject
    except (OSError, ValueError):
        return False
