"""Arrays with a header in one `.safetensors` file, which holds no code and can be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vocable.artefacts.headers import TEXT, Header, canonical_json, parse_header, read_field, require_form
from vocable.artefacts.writing import write_bytes
from vocable.errors import InputError, sentence_of

# One metadata key: safetensors keeps them in a hash map, whose order would change the bytes from run to run.
KEY = "vocable"


def write_tensors(path: Path, tensors: dict[str, NDArray[Any]], header: Header) -> None:
    """Write named arrays and a JSON header; equal content gives equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_bytes(path, save(contiguous, {KEY: canonical_json(header)}))


def read_tensors(path: Path, form: str) -> tuple[dict[str, NDArray[Any]], Header]:
    """Read arrays and header, and check that the file is of `form`, such as "vocable.codebook/1".

    Raises:
        InputError: the file can't be read, is cut short, isn't safetensors, or is of another form.
    """
    with _opened(path) as file:
        header = _of_form(path, file, form)
        return {name: _array(path, file, name) for name in file.keys()}, header  # noqa: SIM118 (not a mapping)


def checked_header(path: Path, form: str) -> Header:
    """Return the header of a whole file of `form`, whose arrays aren't read.

    Raises:
        InputError: the file can't be read, is cut short, isn't safetensors, or is of another form.
    """
    with _opened(path) as file:
        return _of_form(path, file, form)


def read_vector(path: Path, tensors: Mapping[str, NDArray[Any]], name: str, types: tuple[str, ...]) -> NDArray[Any]:
    """Return one of a file's arrays, of shape (values,).

    Args:
        path: of the file, for the message.
        tensors: its arrays.
        name: of the array.
        types: it may be of, such as ("float32", "float64").

    Raises:
        InputError: it is missing, of another type, or has another number of dimensions.
    """
    array = require_array(path, tensors, name)
    if array.ndim != 1 or array.dtype.name not in types:
        raise InputError(
            f"{path} should hold one row of {' or '.join(types)} as its {name}, but holds {array.dtype} of shape {array.shape}: "
            "make it again"
        )
    return array


def require_array(path: Path, tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return one of a file's arrays, whatever it is.

    Raises:
        InputError: it is missing.
    """
    if name not in tensors:
        raise InputError(f"{path} lacks its {name}: it is not whole; make it again")
    return tensors[name]


def read_tensors_header(path: Path) -> Header | None:
    """Read the header alone, or None if the file carries no header of ours.

    Raises:
        InputError: the file can't be read, is cut short, isn't safetensors, or has a header that doesn't say its format.
    """
    with _opened(path) as file:
        header = _header(path, file.metadata())
    if header is not None:
        read_field(path, header, "format", TEXT)
    return header


def is_safetensors(path: Path) -> bool:
    """Tell by content whether a file is safetensors: an eight-byte length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb"):
            pass  # what fails here names the file and the reason, which safetensors doesn't
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy or make it again") from error
    except OSError as error:
        reason = sentence_of(error) if error.filename is not None else f"{path} can't be read ({error}): give the path of a file"
        raise InputError(reason) from error


def _of_form(path: Path, file: Any, form: str) -> Header:
    header = _header(path, file.metadata()) or {}
    require_form(path, header, form)
    return header


def _header(path: Path, metadata: dict[str, str] | None) -> Header | None:
    return parse_header(f"the header of {path}", metadata[KEY]) if metadata and KEY in metadata else None


def _array(path: Path, file: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = file.get_tensor(name)
    except (AttributeError, TypeError) as error:  # bfloat16 and the like, for which NumPy has no type
        raise InputError(f"{path} holds {name} as numbers that NumPy doesn't have ({error}): write them as float32") from error
    return array
