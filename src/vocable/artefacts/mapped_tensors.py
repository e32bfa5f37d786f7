"""Large `.safetensors` files: written part by part, and read where they lie, without bringing them into memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import Header, canonical_json
from vocable.artefacts.tensors import KEY, checked_header
from vocable.artefacts.writing import replacing
from vocable.errors import InputError

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_LENGTH = 8


def write_in_parts(
    path: Path, shapes: Mapping[str, tuple[Any, Sequence[int]]], header: Header, parts: Iterable[NDArray[Any]]
) -> None:
    """Write named arrays that come in parts, and a JSON header; equal content gives equal bytes.

    Args:
        path: of the file.
        shapes: type and shape of each array, in the order they come in.
        header: that goes with them.
        parts: of all arrays, one after another; together they have as many values as the shapes say.

    Raises:
        ValueError: they haven't.
    """
    entries: dict[str, Any] = {"__metadata__": {KEY: canonical_json(header)}}
    total = 0
    for name, (kind, shape) in shapes.items():
        size = np.dtype(kind).itemsize * math.prod(shape)
        entries[name] = {"dtype": _NAMES[np.dtype(kind)], "shape": list(shape), "data_offsets": [total, total + size]}
        total += size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)
    with replacing(path) as file:
        file.write(len(text).to_bytes(_LENGTH, "little") + text)
        written = sum(file.write(np.ascontiguousarray(part).data.cast("B")) for part in parts if part.size)
        if written != total:
            raise ValueError(f"{written} bytes were given for arrays of {total}")


def map_tensors(path: Path, form: str) -> tuple[dict[str, NDArray[Any]], Header]:
    """Return a file's arrays, which are read as they are looked at, and its header, which is of `form`.

    Raises:
        InputError: the file can't be read, is cut short, isn't safetensors, or is of another form.
    """
    header = checked_header(path, form)  # which also finds whether the arrays lie one after another to the file's end
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        entries = json.loads(file.read(length))
    first = _LENGTH + length
    held: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", first) if path.stat().st_size > first else np.empty(0, np.uint8)
    found: dict[str, NDArray[Any]] = {}
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _TYPES:
            raise InputError(f"{path} holds {name} as {entry['dtype']}: {', '.join(_TYPES)} are known; make it again")
        first, last = entry["data_offsets"]
        found[name] = held[first:last].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found, header
