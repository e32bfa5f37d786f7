"""JSON that says what made an artefact: canonical, so that equal content has equal bytes, and digests of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import write_text
from vocable.errors import InputError

Header = dict[str, Any]


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces; NaN and infinity are errors, since JSON has neither."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_of_array(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array: its type, its shape and its little-endian bytes."""
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    hasher = hashlib.sha256(canonical_json([ordered.dtype.str, list(ordered.shape)]).encode())
    hasher.update(ordered.data)
    return hasher.hexdigest()


def write_header(path: Path, header: Header) -> None:
    """Write a JSON file people can read: sorted, indented, whole or not at all."""
    write_text(path, json.dumps(header, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_header(path: Path, form: str | None = None) -> Header:
    """Read a JSON file, and check that it is of `form`, such as "vocable.units/1".

    Raises:
        InputError: the file isn't JSON, or is of another form.
    """
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): make it again, or remove it") from error
    if not isinstance(header, dict):
        raise InputError(f"{path} holds JSON, but not a header of ours: make it again, or remove it")
    if form is not None and header.get("format") != form:
        raise InputError(
            f"{path} should say it is {form!r}, but says {header.get('format')!r}: it was made by another version or tool"
        )
    return header
