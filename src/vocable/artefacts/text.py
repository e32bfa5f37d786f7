"""Text that others may have written, taken apart into lines."""

from __future__ import annotations

from pathlib import Path

from vocable.errors import InputError


def lines_of(path: Path, content: bytes) -> list[str]:
    """Return the lines of a text file without their ends.

    Args:
        path: of the file, for the message.
        content: of the file.

    Raises:
        InputError: a line isn't UTF-8; the message names it.
    """
    lines = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            text = line[:60].decode(errors="replace")
            raise InputError(f"{path} line {number} is not UTF-8 text, but reads {text!r}: save the file as UTF-8") from error
    return lines
