"""How many bytes of sound a WAV, AIFF, W64 or AU file declares, against how many are there.

libsndfile makes do with what is there and says nothing; a file whose copy was broken off would pass as a shorter one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Literal

from vocable.audio.faults import AudioFault

# Who writes into a pipe can't know the size: sox puts 0x7F000000 and 0x7FFFF000, arecord 0x80000000, ffmpeg 0xFFFFFFFF. Some
# take their own header off that, and more.
_UNKNOWN = 0x7D000000
_CARELESS = 64  # bytes that some writers count too many: a pad byte, a part of a frame, the header itself
_UNKNOWN_OF_64_BITS = 1 << 62
_IN_DS64 = 0xFFFFFFFF  # of an RF64, whose own size has 64 bits and stands in the chunk ds64
_MOST_CHUNKS = 1000  # before the sound; more is no header


@dataclass(frozen=True)
class _Layout:
    """How a family of files lays its chunks out: each has a name, the size of what follows, and that."""

    sound: bytes
    order: Literal["little", "big"]
    first: int = 12
    """Byte at which the first chunk begins."""
    size_bytes: int = 4
    includes_head: bool = False
    """Whether a chunk's size counts its name and size too."""
    multiple: int = 2
    """Bytes to which chunks are filled up."""

    @property
    def unknown(self) -> int:
        return _UNKNOWN if self.size_bytes == 4 else _UNKNOWN_OF_64_BITS


_WAVE = _Layout(b"data", "little")
_LAYOUTS = {
    b"RIFF": _WAVE,
    b"RF64": _WAVE,
    b"RIFX": _Layout(b"data", "big"),
    b"FORM": _Layout(b"SSND", "big"),
    b"riff": _Layout(bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), "little", 40, 8, includes_head=True, multiple=8),
}


def check_whole(source: BinaryIO) -> None:
    """Refuse a file, open at its start, that holds less sound than its header declares; leave it at its start.

    Sizes that stand for "not known", and files of other kinds, pass.

    Raises:
        AudioFault: unreadable.
    """
    end = source.seek(0, os.SEEK_END)
    source.seek(0)
    declared, begin = _declared(source, end)
    source.seek(0)
    there = max(end - begin, 0)
    if declared is not None and declared > there + _CARELESS:
        raise AudioFault("unreadable", f"the file is cut short: its header says {declared} bytes of sound, {there} are there")


def _declared(source: BinaryIO, end: int) -> tuple[int | None, int]:
    """Return the bytes of sound that the header declares, None if it doesn't, and where they begin."""
    kind = source.read(4)
    if kind in (b".snd", b"dns."):
        order: Literal["little", "big"] = "big" if kind == b".snd" else "little"
        begin, size = (int.from_bytes(source.read(4), order) for _ in range(2))
        return (size if size < _UNKNOWN else None), begin
    layout = _LAYOUTS.get(kind)
    return (None, 0) if layout is None else _sound_chunk(source, end, layout)


def _sound_chunk(source: BinaryIO, end: int, layout: _Layout) -> tuple[int | None, int]:
    """Return the size of the chunk with the sound, None if it isn't known or there is none, and where its content begins."""
    at, size_in_ds64 = layout.first, None
    for _ in range(_MOST_CHUNKS):
        if at + len(layout.sound) + layout.size_bytes > end:
            break
        source.seek(at)
        name, field = source.read(len(layout.sound)), source.read(layout.size_bytes)
        begin = source.tell()
        size = int.from_bytes(field, layout.order)
        content = size - (begin - at) if layout.includes_head else size
        if name == layout.sound:
            if size_in_ds64 is not None and size == _IN_DS64:
                return (size_in_ds64 if size_in_ds64 < _UNKNOWN_OF_64_BITS else None), begin
            return (content if size < layout.unknown else None), begin
        if name == b"ds64":
            source.read(8)  # the size of the whole file
            size_in_ds64 = int.from_bytes(source.read(8), "little")
        if content < 0:
            break
        at = -(-(begin + content) // layout.multiple) * layout.multiple
    return None, 0
