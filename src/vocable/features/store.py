"""Frames on disk as fairseq has them: `NAME.npy` with all utterances stacked, `NAME.len` with a line of frames for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.artefacts.text import lines_of
from vocable.artefacts.writing import space_checked, write_bytes, write_text
from vocable.errors import InputError, MismatchError
from vocable.features.kaldi import Frames

# The header of fairseq's files (npy_append_array): format 2.0, padded so that rows can be added without moving the data.
_HEADER_SIZE = 192
# Nine digits are four months of frames; with more, the sum of a file's lines might not fit in 64 bits.
_LENGTH = re.compile(r"\s*[0-9]{1,9}\s*")


def npy_header(rows: int, dim: int) -> bytes:
    """Return the 192-byte header of a float32 array of shape (rows, dim)."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}".encode("latin1")
    return b"\x93NUMPY\x02\x00" + (_HEADER_SIZE - 12).to_bytes(4, "little") + text.ljust(_HEADER_SIZE - 13) + b"\n"


def length_file(npy: Path) -> Path:
    """Return the `.len` that belongs to a `.npy`."""
    return npy.with_suffix(".len")


class StoredFrames:
    """Frames that lie on disk, memory-mapped; utterance i is `self[i]`, float32 of shape (frames, dim).

    Raises:
        InputError: a file is missing, or not what it should be.
        MismatchError: the lengths don't add up to the rows.
    """

    def __init__(self, npy: str | Path) -> None:
        self.path = npy = Path(npy)
        self.array = _mapped(npy)
        self.lengths = read_lengths(length_file(npy))
        self._ends = np.cumsum(self.lengths)
        total = int(self._ends[-1]) if len(self._ends) else 0
        if total != len(self.array):
            raise MismatchError(
                f"{npy} has {len(self.array)} frames, but {length_file(npy).name} adds up to {total}: "
                "its dump was interrupted; make both again"
            )

    @property
    def content(self) -> str:
        """Digest of the lengths, and of name, size and time of the file: what work on it depends on."""
        status = self.path.stat()
        return digest_of([str(self.path.absolute()), status.st_size, status.st_mtime_ns, digest_of_array(self.lengths)])

    @property
    def dim(self) -> int:
        """Values in a frame."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, utterance: int) -> Frames:
        first, last = self.span(utterance)
        return self.array[first:last]

    def span(self, utterance: int) -> tuple[int, int]:
        """Return the first row of an utterance in `array`, and one past its last."""
        end = int(self._ends[utterance])
        return end - int(self.lengths[utterance]), end

    def __iter__(self) -> Iterator[Frames]:
        return (self[at] for at in range(len(self)))


def read_lengths(path: Path) -> NDArray[np.int64]:
    """Read a `.len` file.

    Raises:
        InputError: it is missing, or a line is no number of frames; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: it belongs beside the .npy of the same name")
    return _parsed_lengths(path, path.read_bytes())


def _parsed_lengths(path: Path, content: bytes) -> NDArray[np.int64]:
    lengths = []
    for number, line in enumerate(lines_of(path, content), 1):
        if not _LENGTH.fullmatch(line):
            raise InputError(f"{path} line {number} should be a number of frames, but reads {line[:60]!r}: dump the frames again")
        lengths.append(int(line))
    return np.array(lengths, dtype=np.int64)


def write_lengths(path: Path, lengths: Sequence[int] | NDArray[np.int64]) -> None:
    """Write a `.len` file."""
    write_text(path, "".join(f"{int(length)}\n" for length in lengths))


class FrameAppender:
    """Adds utterances to a store, one at a time.

    Data come first, then the header that counts them, then the line in `.len`; so a kill leaves a file that NumPy opens, and
    the next `append` drops what an interrupted one left over. One process at a time may append to a store.

    Args:
        npy: the array's file; made if it doesn't exist.
        dim: values in a frame.

    Raises:
        InputError: a file of the store is not what it should be.
        MismatchError: the store has frames of another dimension or another header, or fewer than its `.len` says.
    """

    def __init__(self, npy: str | Path, dim: int) -> None:
        self._npy, self._dim = (npy := Path(npy)), dim
        npy.parent.mkdir(parents=True, exist_ok=True)
        if not npy.exists():
            write_text(length_file(npy), "")
            write_bytes(npy, npy_header(0, dim))
        self._rows: int | None = self._recover()

    def append(self, frames: Frames) -> None:
        """Add an utterance's frames, shape (frames, dim).

        Raises:
            MismatchError: frames of another dimension.
            DiskFullError: nothing was added.
        """
        if frames.ndim != 2 or frames.shape[1] != self._dim:
            raise MismatchError(
                f"frames of shape {frames.shape} can't be added to {self._npy}, which holds {self._dim} values a frame"
            )
        rows, self._rows = self._recover() if self._rows is None else self._rows, None
        with space_checked(self._npy):
            with self._npy.open("r+b") as file:
                write_rows(file, rows, frames)
                file.seek(0)
                file.write(npy_header(rows + len(frames), self._dim))
            with length_file(self._npy).open("a") as lines:
                lines.write(f"{len(frames)}\n")
        self._rows = rows + len(frames)

    def _recover(self) -> int:
        """Drop what an interrupted append left over, and return the rows that are whole."""
        array = _mapped(self._npy)
        lengths = length_file(self._npy)
        text = lengths.read_bytes() if lengths.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        rows = int(_parsed_lengths(lengths, whole).sum())
        with self._npy.open("rb") as file:
            header = file.read(_HEADER_SIZE)
        if array.shape[1] != self._dim:
            raise MismatchError(f"{self._npy} holds {array.shape[1]} values a frame, not {self._dim}: give another name")
        if header != npy_header(len(array), self._dim):
            raise MismatchError(f"{self._npy} has a header that can't grow: copy its frames to a new store")
        if rows > len(array):
            raise MismatchError(f"{self._npy} holds {len(array)} frames, but {lengths.name} adds up to {rows}: make both again")
        if whole != text or not lengths.exists():
            lengths.write_bytes(whole)
        with self._npy.open("r+b") as file:
            file.write(npy_header(rows, self._dim))
            file.truncate(_HEADER_SIZE + rows * self._dim * 4)
        return rows


def make_room(npy: Path, rows: int, dim: int) -> None:
    """Make a new file with room for (rows, dim) float32.

    Raises:
        FileExistsError: it is there.
    """
    npy.parent.mkdir(parents=True, exist_ok=True)
    with space_checked(npy), npy.open("xb") as file:
        file.truncate(_HEADER_SIZE + rows * dim * 4)
        file.write(npy_header(rows, dim))


def has_room(npy: Path, rows: int, dim: int) -> bool:
    """Tell whether a file has the header and the size of (rows, dim) float32."""
    with npy.open("rb") as file:
        return file.read(_HEADER_SIZE) == npy_header(rows, dim) and npy.stat().st_size == _HEADER_SIZE + rows * dim * 4


def write_rows(file: BinaryIO, first: int, frames: Frames) -> None:
    """Write frames at row `first` of an open store; two processes that write the same rows write the same bytes."""
    file.seek(_HEADER_SIZE + first * frames.shape[1] * 4)
    file.write(np.ascontiguousarray(frames, dtype="<f4").data)


def _mapped(npy: Path) -> Frames:
    if not npy.is_file():
        raise InputError(f"{npy} doesn't exist")
    try:
        array: Frames = npy_format.open_memmap(npy, mode="r")
    except Exception as error:  # the header is Python text, which can be wrong in every way that Python knows
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"{npy} is not a whole .npy file ({reason}): make it again") from error
    if array.ndim != 2 or array.dtype != np.float32:
        raise InputError(
            f"{npy} should hold float32 frames of shape (frames, dim), but holds {array.dtype} of shape {array.shape}"
        )
    return array
