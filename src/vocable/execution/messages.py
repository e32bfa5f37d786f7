"""Messages between a process and the workers it started, through their own pipes: a length, then a pickled value."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Opening:
    """Tells a worker to open a job on a device; every other value is a shard of the job opened last."""

    device: str
    job: Any


def pack(value: Any) -> bytes:
    """Return a value as the content of a message."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(content: bytes) -> Any:
    """Return the value of a message. It comes from a process of the same run, through its pipe or Ray, never from a file."""
    return pickle.loads(content)


def write_message(stream: IO[bytes], content: bytes) -> None:
    """Write one message and flush it."""
    stream.write(len(content).to_bytes(8, "little") + content)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """Read one message, or None at the end of the stream, be it between messages or within one."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    size = int.from_bytes(header, "little")
    content = stream.read(size)
    return content if len(content) == size else None
