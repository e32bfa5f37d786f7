"""Files that appear whole or not at all.

A file is written beside its place under a name nobody else uses, then renamed into place. A process that is killed leaves
at most such a part file, which the next run on the same machine removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vocable.errors import DiskFullError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _machine() -> str:
    """Return what tells this machine, or container, from others that may write to the same folder."""
    try:
        processes = os.readlink("/proc/self/ns/pid")  # containers count their processes apart, often under one host name
    except OSError:
        processes = ""
    return hashlib.sha256(f"{socket.gethostname()}\n{processes}".encode()).hexdigest()[:16]


_HOST = _machine()
_PART = re.compile(rf"\..*\.{_HOST}-(\d+)-[0-9a-f]{{8}}\.part")


def writer_name() -> str:
    """Return a name no other process uses, on this machine or another: host, process id and a random tail."""
    return f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a part file beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    Raises:
        DiskFullError: no space is left, or a quota or file-size limit is reached; an older `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_beside(path)
    try:
        with space_checked(path):
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        if error.filename == os.fspath(part):  # nobody but us knows that name
            error.filename = os.fspath(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def part_beside(path: Path) -> Path:
    """Return a name beside `path` for what is half written, by which `remove_leftovers` knows it."""
    # 50 characters are at most 200 bytes, so that the part's name stays under the 255 of common filesystems.
    return path.with_name(f".{path.name[:50]}.{writer_name()}.part")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


@contextmanager
def space_checked(path: Path) -> Iterator[None]:
    """Turn a full disk, met while writing `path`, into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DiskFullError(
            f"no space left to write {path} ({os.strerror(error.errno or 0).lower()}): free some and run the same command again; "
            "what was finished is kept"
        ) from error


def remove_leftovers(directory: Path) -> None:
    """Remove the part files and folders that dead processes of this machine left in `directory` (not below it)."""
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        match = _PART.fullmatch(entry.name)
        if match and not _is_alive(int(match.group(1))):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
