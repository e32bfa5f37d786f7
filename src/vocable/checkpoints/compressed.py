"""Files as joblib compresses them, taken apart with a limit on what comes out."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vocable.errors import InputError, UnsafeFileError

LARGEST_MODEL = 4 << 30
# What is stored are float arrays, which hardly compress; something that grows fiftyfold is no model.
_LARGEST_RATIO = 50
_SMALLEST_LIMIT = 16 << 20
# bgzip writes a member for every 64 KiB, which are half as many in the largest file.
_MOST_MEMBERS = 1 << 17
# The dictionary of xz -9 is 64 MiB; a header may ask for 4 GiB.
_MOST_MEMORY = 1 << 27
_BITE = 1 << 16
_PIECE = 1 << 20

_FORMATS: list[tuple[bytes, Callable[[], Any]]] = [
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"\x78\x01", zlib.decompressobj),
    (b"\x78\x5e", zlib.decompressobj),
    (b"\x78\x9c", zlib.decompressobj),
    (b"\x78\xda", zlib.decompressobj),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)),
    (b"\x5d\x00\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MOST_MEMORY)),
]


def read_decompressed(path: Path) -> bytes:
    """Return a file's content, decompressed if it is gzip, zlib, bzip2, xz or lzma, in as many members as there are.

    Raises:
        InputError: it is cut short, larger than any model, or compressed in another way.
        UnsafeFileError: it grows beyond what a model could be.
    """
    size = path.stat().st_size
    if size > LARGEST_MODEL:
        raise InputError(f"{path} is no k-means model: those take less than its {size >> 20} MiB; give its centroids as .npy")
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(b"\x04\x22\x4d\x18"):
            raise InputError(f"{path} is compressed with lz4: decompress it first, with 'lz4 -d {path}'")
        for magic, opener in _FORMATS:
            if start.startswith(magic):
                return _decompress(path, size, _members(file, magic, opener))
        return file.read()


def _decompress(path: Path, size: int, pieces: Iterator[bytes]) -> bytes:
    limit = min(max(_SMALLEST_LIMIT, _LARGEST_RATIO * size), LARGEST_MODEL)
    # Not a bytearray: BytesIO hands out what it gathered without a second copy.
    out = io.BytesIO()
    try:
        for piece in pieces:
            out.write(piece)
            if out.tell() > limit:
                grown = f"its {size} bytes decompress to more than {limit >> 20} MiB"
                raise UnsafeFileError(
                    f"{path} was not read: {grown}, which no k-means model does; get it from a source you trust"
                )
    except EOFError as error:
        raise InputError(f"{path} is cut short: copy it again") from error
    except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): copy it again") from error
    return out.getvalue()


def _members(file: BinaryIO, magic: bytes, opener: Callable[[], Any]) -> Iterator[bytes]:
    waiting = b""
    for _ in range(_MOST_MEMBERS):
        waiting = _past_padding(file, (yield from _member(file, opener(), waiting)))
        if not waiting:
            return
        waiting += file.read(_BITE) if len(waiting) < len(magic) else b""
        if not waiting.startswith(magic):
            raise ValueError("something else follows its end")
    raise ValueError(f"it is made of more than {_MOST_MEMBERS} pieces")


def _member(file: BinaryIO, stream: Any, waiting: bytes) -> Generator[bytes, None, bytes]:
    """Yield what one member holds, and return what was read beyond it."""
    while not stream.eof:
        # zlib hands back what it has not looked at yet; the others keep it, and say when they need more.
        if not waiting and getattr(stream, "needs_input", True):
            waiting = file.read(_BITE)
            if not waiting:
                raise EOFError
        yield stream.decompress(waiting, _PIECE)
        waiting = getattr(stream, "unconsumed_tail", b"")
    beyond: bytes = stream.unused_data
    return beyond


def _past_padding(file: BinaryIO, waiting: bytes) -> bytes:
    """Return what follows the zeros that tapes and xz put between members; nothing at the end of the file."""
    while not (waiting := waiting.lstrip(b"\0")):
        waiting = file.read(_BITE)
        if not waiting:
            break
    return waiting
