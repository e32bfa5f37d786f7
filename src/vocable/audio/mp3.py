"""MP3, decoded to its end.

An MP3 has no length. libsndfile takes the one that the first frame holds (Xing or Info), or estimates it from that frame's bit
rate, and stops there: a file of varying bit rate without that frame, or two files in one, lose what comes after. It decodes
all of a stream that it can't seek in, if that frame is taken off; so that is what such files are given as.
"""

from __future__ import annotations

import io
import os
import threading

import numpy as np
import soundfile
from numpy.typing import NDArray

_BIT_RATES = {  # kbit/s of layer III, by MPEG 1 or not
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SLACK = 0.02  # of the size: tags and padding
_SLACK_BYTES = 1 << 16
_PIECE = 1 << 18


def decode_mp3(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return samples of shape (samples, channels) and their rate.

    Raises:
        soundfile.SoundFileError: it is no MP3.
    """
    start = _after_id3(content)
    length = _frame_length(content, start)
    info = content[start : start + length].find(b"Xing") if length else -1
    if length and info < 0:
        info = content[start : start + length].find(b"Info")
    if info >= 0 and _says_all(content, start, start + info):
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            return file.read(dtype="float32", always_2d=True), file.samplerate
    return _streamed(content[start + length :] if info >= 0 else content[start:])


def _says_all(content: bytes, start: int, info: int) -> bool:
    """Tell whether the frame that holds the length counts frames, and bytes as many as there are."""
    flags = int.from_bytes(content[info + 4 : info + 8], "big")
    if flags & 3 != 3:
        return bool(flags & 1)
    counted = int.from_bytes(content[info + 12 : info + 16], "big")
    return len(content) - start - counted <= max(_SLACK_BYTES, _SLACK * counted)


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
    while at < len(content) - 4 and not _frame_length(content, at):
        at += 1
    return at if at < len(content) - 4 else 0


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
