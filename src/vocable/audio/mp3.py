"""MP3, decoded to its end.

An MP3 has no length. libsndfile takes the one that the first frame holds (Xing or Info), or estimates it from that frame's bit
rate, and stops there: a file of varying bit rate without that frame, or two files in one, lose what comes after. It decodes
all of a stream that it can't seek in, if that frame is taken off; so that is what such files are given as.
(libmpg123, inside it, notes what it stumbles over on stderr; libsndfile has no switch for that.)
"""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import soundfile
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.audio.files import in_memory

_BIT_RATES = {  # kbit/s of layer III, by MPEG 1 or not
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MARK = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")  # of a layer III frame; its other bits are looked at later
_RUN = 3  # frames in a row: one alone may be chance, in a picture or another tag
_PIECE = 1 << 18
_ZEROS = 1000  # bytes at the end: after 1024 without a frame the decoder gives up, and a frame may end in some itself


def decode_mp3(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return samples of shape (samples, channels) and their rate.

    Raises:
        AudioFault: streams of different rates or channels in one file, of which only the first would be decoded.
        soundfile.SoundFileError: it is no MP3.
    """
    content = content[: len(content.rstrip(b"\0")) + _ZEROS]
    start = _after_id3(content)
    length = _frame_length(content, start)
    info = content[start : start + length].find(b"Xing") if length else -1
    if length and info < 0:
        info = content[start : start + length].find(b"Info")
    if info < 0:
        return _streamed(content[start:])
    end = _end_of_counted(content, start, length, start + info)
    second = None if end is None else _run_after(content, end)
    if second is not None and _sound_of(content, second) != _sound_of(content, start):
        raise AudioFault("unreadable", "it holds streams of different sample rates or channels: cut it into a file for each")
    if end is None or second is not None:
        return _streamed(content[start + length :])
    with in_memory(content[start:end]) as counted, soundfile.SoundFile(counted.fileno(), closefd=False) as file:
        return file.read(dtype="float32", always_2d=True), file.samplerate  # what follows would be noted on stderr


def _end_of_counted(content: bytes, start: int, length: int, info: int) -> int | None:
    """Return where the frames end that the first frame counts, or up to its own length later; None if it counts none.

    Encoders differ in whether the bytes include the first frame: its own length more leaves none of the counted behind.
    """
    flags = int.from_bytes(content[info + 4 : info + 8], "big")
    if not flags & 1:
        return None
    at = start + length
    if flags & 2:
        return at + int.from_bytes(content[info + 12 : info + 16], "big")
    for _ in range(int.from_bytes(content[info + 8 : info + 12], "big")):
        step = _frame_length(content, at)
        if not step:
            break
        at += step
    return at


def _run_after(content: bytes, at: int) -> int | None:
    """Return where the next run of frames begins, at `at` or after tags and padding; None if there is none."""
    return next((mark.start() for mark in _MARK.finditer(content, at) if _is_run(content, mark.start())), None)


def _is_run(content: bytes, at: int) -> bool:
    sounds = set()
    for _ in range(_RUN):
        length = _frame_length(content, at)
        if not length:
            return False
        sounds.add(_sound_of(content, at))
        at += length
    return len(sounds) == 1


def _sound_of(content: bytes, at: int) -> tuple[int, int, bool]:
    """Return what all frames of a stream share: the version, the sample rate's code, and whether it is mono."""
    return content[at + 1] >> 3 & 3, content[at + 2] >> 2 & 3, content[at + 3] >> 6 == 3


def _streamed(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Decode through a pipe, in which nothing can seek."""
    reader, writer = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(writer, "wb") as file:
                file.write(content)
        except BrokenPipeError:
            pass  # the decoder had enough, or refused

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        with soundfile.SoundFile(reader, closefd=False) as file:
            pieces = []
            while len(piece := file.read(_PIECE, dtype="float32", always_2d=True)):
                pieces.append(piece)
            rate, channels = file.samplerate, file.channels
    finally:
        os.close(reader)
        thread.join()
    return (np.concatenate(pieces) if pieces else np.empty((0, channels), dtype=np.float32)), rate


def _after_id3(content: bytes) -> int:
    """Return where the first frame begins: after the ID3v2 tag, if there is one, at the next frame's mark."""
    at = 0
    if content[:3] == b"ID3" and len(content) > 10:
        size = 0
        for byte in content[6:10]:
            size = size << 7 | byte & 0x7F
        at = 10 + size
    return next((mark.start() for mark in _MARK.finditer(content, at) if _frame_length(content, mark.start())), 0)


def _frame_length(content: bytes, at: int) -> int:
    """Return the bytes of the layer III frame that begins there, or 0 if none does."""
    header = content[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, sample_rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer != 1 or bit_rate in (0, 15) or sample_rate == 3:
        return 0
    factor = 144 if version == 3 else 72
    rate = _BIT_RATES[version == 3][bit_rate] * 1000
    return factor * rate // _SAMPLE_RATES[version][sample_rate] + (header[2] >> 1 & 1)
