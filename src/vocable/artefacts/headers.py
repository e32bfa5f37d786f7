"""JSON that says what made an artefact: canonical, so that equal content has equal bytes; digests of it; and how it is read.

A header may come from anywhere, so nothing in it is believed: `parse_header` takes the text apart, and `read_field` takes a
value out, if it is of the kind that it should be.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import write_text
from vocable.errors import InputError

Header = dict[str, Any]
T = TypeVar("T")

# Ours have a handful of levels; Python's own limit would be met later, and anywhere, by whatever goes through them.
_DEEPEST = 32
_LONGEST_SHOWN = 60


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
    header = parse_header(str(path), path.read_bytes())
    if form is not None:
        require_form(path, header, form)
    return header


def parse_header(where: str, content: bytes | str) -> Header:
    """Return the JSON object that `content` is.

    Args:
        where: it is from, for the message.
        content: UTF-8, if it is bytes.

    Raises:
        InputError: it is something else, has a number that JSON has not, text that UTF-8 has not, or too many levels.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        header = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        _check_levels(header)
    except (ValueError, RecursionError) as error:
        reason = "it has too many levels" if isinstance(error, RecursionError) else error
        raise InputError(f"{where} is not valid JSON ({reason}): make it again, or remove it") from error
    if not isinstance(header, dict):
        raise InputError(f"{where} holds JSON, but not a header of ours: make it again, or remove it")
    return header


def require_form(path: Path, header: Header, form: str) -> None:
    """Refuse a header of another form than `form`, such as "vocable.units/1".

    Raises:
        InputError: it is.
    """
    if (said := header.get("format")) != form:
        said = "nothing" if said is None else _shown(said)
        raise InputError(f"{path} should say it is {form!r}, but says {said}: it was made by another version or tool")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a field may hold: the test for it, and its name in a message."""

    wanted: str
    accepts: Callable[[Any], bool]

    def or_null(self) -> Kind[T | None]:
        """Return the kind that takes null too."""
        return Kind(f"{self.wanted}, or null,", lambda value: value is None or self.accepts(value))


def _is_number(value: object) -> bool:
    # JSON's whole numbers may be beyond every float.
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


TEXT: Kind[str] = Kind("text", lambda value: isinstance(value, str))
OBJECT: Kind[Header] = Kind("an object", lambda value: isinstance(value, dict))
LIST: Kind[list[Any]] = Kind("a list", lambda value: isinstance(value, list))
NUMBER: Kind[float] = Kind("a number", _is_number)
POSITIVE: Kind[float] = Kind("a number above 0", lambda value: _is_number(value) and value > 0)


def whole(least: int, most: int = (1 << 63) - 1) -> Kind[int]:
    """Return the kind of whole numbers between two limits, both included."""
    return Kind(f"a whole number from {least} to {most}", lambda value: _is_whole(value, least, most))


def read_field(where: str | Path, header: Header, key: str, kind: Kind[T]) -> T:
    """Return a field of a header.

    Args:
        where: the header is from, for the message.
        header: what `parse_header` returned, or an object in it.
        key: of the field.
        kind: of the value, such as `TEXT` or `whole(1)`.

    Raises:
        InputError: the field is missing, or of another kind.
    """
    if key not in header:
        raise InputError(f"{where} lacks its {key}: it is not whole; make it again")
    value: T = header[key]
    if not kind.accepts(value):
        raise InputError(f"{where} should give {kind.wanted} for {key!r}, but gives {_shown(value)}: make it again")
    return value


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the name of a file before what is said of its content."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:_LONGEST_SHOWN]} is too large")
    return number


def _check_levels(value: object) -> None:
    """Refuse what has too many levels to be gone through, or text that can't be written again.

    Raises:
        ValueError: it has.
    """
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for item in level:
            if isinstance(item, str):
                item.encode()  # half of a surrogate pair fails
            elif isinstance(item, dict):
                inner += [*item, *item.values()]
            elif isinstance(item, list):
                inner += item
        if not (level := inner):
            return
    raise ValueError("it has too many levels")
