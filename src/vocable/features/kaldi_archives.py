"""Kaldi's tables of matrices and of text, read by offset: `KEY PATH:OFFSET` a line, binary matrices (FM, DM, CM) behind it.

The format is Kaldi's (matrix/kaldi-matrix.cc, matrix/compressed-matrix.h); numbers are little endian. What a file says of its
size is compared with what it has before anything is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

_VALUES = {b"FM ": "<f4", b"DM ": "<f8"}
_LONGEST_LINE = 1 << 24


@dataclass(frozen=True)
class Entry:
    """Where a table has what belongs to a key."""

    key: str
    path: Path
    offset: int


def read_table(scp: Path) -> list[Entry]:
    """Read an scp file whose archives lie beside it, wherever it says they were.

    Raises:
        InputError: a line is of another kind, or a key stands twice.
    """
    entries: list[Entry] = []
    seen: set[str] = set()
    try:
        lines = scp.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{scp} can't be read ({error}): give a table of lines KEY PATH:OFFSET") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, *rest = line.split(maxsplit=1)
        name, colon, offset = (rest[0].strip() if rest else "").rpartition(":")
        if not key.isprintable() or not colon or not name or not offset.isdecimal():
            raise InputError(f"{scp}, line {number}: {line[:80]!r} isn't KEY PATH:OFFSET: mend it, or make the table anew")
        if key in seen:
            raise InputError(f"{scp}, line {number}: {key} stands there for the second time: keep one of both")
        seen.add(key)
        entries.append(Entry(key, scp.parent / Path(name).name, int(offset)))
    return entries


def read_matrix(entry: Entry) -> NDArray[np.float64]:
    """Return the matrix of an entry, of shape (rows, columns).

    Raises:
        InputError: there is none, or it isn't whole.
    """
    with _reading(entry) as file:
        return _matrix(file, entry.path.stat().st_size - entry.offset)


@contextmanager
def _reading(entry: Entry) -> Iterator[BinaryIO]:
    try:
        with entry.path.open("rb") as file:
            file.seek(entry.offset)
            yield file
    except OSError as error:
        raise InputError(f"{entry.path} can't be read ({error.strerror}): put the archives beside their table") from error
    except (ValueError, struct.error) as error:
        raise InputError(
            f"{entry.path} has no whole matrix at {entry.offset}, as {entry.key}'s ({error}): copy it again"
        ) from error


def matrix_shape(entry: Entry) -> tuple[int, int]:
    """Return rows and columns of the matrix of an entry, of which only its head is read.

    Raises:
        InputError: there is none, or the file is too short for it.
    """
    with _reading(entry) as file:
        return _head(file, entry.path.stat().st_size - entry.offset)[1:]


def read_numbers(entry: Entry) -> NDArray[np.int64]:
    """Return the whole numbers on the line of an entry.

    Raises:
        InputError: there is no such line.
    """
    try:
        with entry.path.open("rb") as file:
            file.seek(entry.offset)
            line = file.readline(_LONGEST_LINE)
        return np.array([int(item) for item in line.split()], dtype=np.int64)
    except OSError as error:
        raise InputError(f"{entry.path} can't be read ({error.strerror}): put the labels beside their table") from error
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{entry.path} has no line of whole numbers at {entry.offset}, as {entry.key}'s: copy it again"
        ) from error


def _head(file: BinaryIO, room: int) -> tuple[bytes, int, int]:
    """Return kind, rows and columns of a matrix that the file has room for; a compressed one is left right behind its kind."""
    if file.read(2) != b"\0B":
        raise ValueError("it doesn't begin as a binary one")
    kind = file.read(3)
    if kind in _VALUES:
        rows, columns = _size(file), _size(file)
        wanted = rows * columns * np.dtype(_VALUES[kind]).itemsize
    elif kind == b"CM ":
        place = file.tell()
        _, _, rows, columns = struct.unpack("<ffii", _exactly(file, 16))
        file.seek(place)
        if rows < 0 or columns < 0:
            raise ValueError("its size is damaged")
        wanted = columns * (8 + rows)
    else:
        raise ValueError(f"its kind is {kind!r}, and FM, DM and CM are read")
    if wanted > room:
        raise ValueError(f"{rows} rows of {columns} values don't fit the file")
    return kind, rows, columns


def _matrix(file: BinaryIO, room: int) -> NDArray[np.float64]:
    kind, rows, columns = _head(file, room)
    if kind == b"CM ":
        return _compressed(file)
    dtype = np.dtype(_VALUES[kind])
    values = np.frombuffer(_exactly(file, rows * columns * dtype.itemsize), dtype)
    return values.reshape(rows, columns).astype(np.float64)


def _size(file: BinaryIO) -> int:
    width, number = struct.unpack("<bi", _exactly(file, 5))
    if width != 4 or number < 0:
        raise ValueError("its size is damaged")
    return int(number)


def _compressed(file: BinaryIO) -> NDArray[np.float64]:
    """Return a matrix of one byte a value, between percentiles of its column."""
    least, span, rows, columns = struct.unpack("<ffii", _exactly(file, 16))
    stated = np.frombuffer(_exactly(file, 8 * columns), "<u2").reshape(columns, 4).astype(np.float64)
    points = least + span * stated / 65535
    codes = np.frombuffer(_exactly(file, rows * columns), np.uint8).reshape(columns, rows).astype(np.float64)
    low, quarter, three, high = (points[:, at : at + 1] for at in range(4))
    below = low + (quarter - low) * codes / 64
    middle = quarter + (three - quarter) * (codes - 64) / 128
    above = three + (high - three) * (codes - 192) / 63
    made: NDArray[np.float64] = np.where(codes <= 64, below, np.where(codes <= 192, middle, above)).T.copy()
    return made


def _exactly(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise ValueError("the file ends within it")
    return found
