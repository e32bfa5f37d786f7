"""Files as joblib compresses them, taken apart with a limit on what comes out."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vocable.errors import InputError, UnsafeFileError

# What is stored are float arrays, which hardly compress; something that grows fiftyfold is no model.
_LARGEST_RATIO = 50
_SMALLEST_LIMIT = 16 << 20
_LARGEST_LIMIT = 4 << 30
_PIECE = 1 << 20

_FORMATS: list[tuple[bytes, Callable[[], Any]]] = [
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"\x78\x01", zlib.decompressobj),
    (b"\x78\x5e", zlib.decompressobj),
    (b"\x78\x9c", zlib.decompressobj),
    (b"\x78\xda", zlib.decompressobj),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)),
    (b"\x5d\x00\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 30)),
]


def read_decompressed(path: Path) -> bytes:
    """Return a file's content, decompressed if it is gzip, zlib, bzip2, xz or lzma.

    Raises:
        InputError: it is cut short, or compressed in another way.
        UnsafeFileError: it grows beyond what a model could be.
    """
    content = path.read_bytes()
    if content.startswith(b"\x04\x22\x4d\x18"):
        raise InputError(f"{path} is compressed with lz4: decompress it first, with 'lz4 -d {path}'")
    for magic, opener in _FORMATS:
        if content.startswith(magic):
            return _decompress(path, content, opener())
    return content


def _decompress(path: Path, content: bytes, stream: Any) -> bytes:
    limit = min(max(_SMALLEST_LIMIT, _LARGEST_RATIO * len(content)), _LARGEST_LIMIT)
    out = bytearray()
    waiting = content
    try:
        while not stream.eof:
            piece = stream.decompress(waiting, _PIECE)
            # zlib hands back what it has not looked at yet; the others keep it.
            waiting = stream.unconsumed_tail if hasattr(stream, "unconsumed_tail") else b""
            if not piece and not waiting and (stream.eof or getattr(stream, "needs_input", True)):
                break
            out += piece
            if len(out) > limit:
                raise UnsafeFileError(
                    f"{path} was not read: its {len(content)} bytes decompress to more than {limit >> 20} MiB, "
                    "which no k-means model does"
                )
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}): copy it again") from error
    if not stream.eof:
        raise InputError(f"{path} is cut short: copy it again")
    return bytes(out)
