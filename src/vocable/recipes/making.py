"""What the files in a folder are made from, while many processes are still writing them, one by one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import NamedTuple

from vocable.artefacts.writing import part_beside
from vocable.errors import InputError

MARK = ".made-from"


class Making(NamedTuple):
    """A making of files."""

    key: str
    """Of what they are made from."""
    name: str
    """Which making of them it is: files of an earlier one may be gone, or others'."""


def making_in(folder: Path) -> Making | None:
    """Return what the files in a folder are made from, if it says so."""
    try:
        parts = (folder / MARK).read_text().split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Making(parts[0], parts[1]) if len(parts) == 2 else None


def begun(folder: Path, key: str, again: bool) -> Making:
    """Note what files are made from from now on; of several processes that begin together, one does.

    Args:
        folder: of the files.
        key: of what they are made from.
        again: in place of an earlier making.

    Raises:
        InputError: another run makes other files there.
    """
    target = folder / MARK
    part = part_beside(target)
    part.write_text(f"{key} {uuid.uuid4().hex}\n")
    try:
        if again:
            os.replace(part, target)
        else:
            os.link(part, target)
    except FileExistsError:
        pass
    except OSError:  # a filesystem without links
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    made = making_in(folder)
    if made is None or made.key != key:
        raise InputError(f"another run writes other files to {folder}: run them one after the other")
    return made
