"""Arrays with a header in one `.safetensors` file, which holds no code and can be memory-mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vocable.artefacts.headers import Header, canonical_json
from vocable.artefacts.writing import write_bytes
from vocable.errors import InputError

# One metadata key: safetensors keeps them in a hash map, whose order would change the bytes from run to run.
_KEY = "vocable"


def write_tensors(path: Path, tensors: dict[str, NDArray[Any]], header: Header) -> None:
    """Write named arrays and a JSON header; equal content gives equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_bytes(path, save(contiguous, {_KEY: canonical_json(header)}))


def read_tensors(path: Path, form: str) -> tuple[dict[str, NDArray[Any]], Header]:
    """Read arrays and header, and check that the file is of `form`, such as "vocable.codebook/1".

    Raises:
        InputError: the file is cut short, isn't safetensors, or is of another form.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = _header(path, file.metadata(), form)
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy or make it again") from error


def read_tensors_header(path: Path) -> Header | None:
    """Read the header alone, or None if the file carries no header of ours."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy or make it again") from error
    return json.loads(metadata[_KEY]) if _KEY in metadata else None


def is_safetensors(path: Path) -> bool:
    """Tell by content whether a file is safetensors: an eight-byte length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def _header(path: Path, metadata: dict[str, str] | None, form: str) -> Header:
    found = json.loads(metadata[_KEY]) if metadata and _KEY in metadata else {}
    if found.get("format") != form:
        raise InputError(f"{path} should be {form!r}, but says {found.get('format')!r}: it was made by another version or tool")
    return dict(found)
