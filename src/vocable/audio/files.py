"""Sound as open files that libsndfile reads by itself.

Given a Python object it would call back into Python for each piece. An interrupt that arrives in such a call is swallowed, and
libsndfile takes the file for a broken one; given a descriptor it isn't interrupted at all.
"""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO

import soundfile


def in_memory(content: bytes) -> BinaryIO:
    """Return some bytes as an open file that lies on no disk, where the system has such, and else in a temporary folder."""
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("sound"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (the caller closes it)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """An open file as sound. It is only read forwards: seeking fails in files whose header doesn't say how long they are.

    Args:
        file: open and unbuffered, so that its descriptor stands where it does; stays open.

    Raises:
        soundfile.SoundFileError: libsndfile doesn't know it.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file.fileno(), closefd=False)

    def seekable(self) -> bool:
        return False
