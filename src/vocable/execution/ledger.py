"""`Ledger`: which blocks of work are done, and where their results lie.

Each process that does work appends to files of its own: results to `blocks/<writer>.bin`, and one line for each to
`ledger/<writer>.jsonl` once the result is written. Readers merge all lines. So there is no database and no lock, two
processes never write to one file, a killed process leaves at most a result without its line (which is done again), and two
processes that do the same block write the same bytes twice, of which the first are taken.

A result is found by a key made of everything it depends on, so that nothing is ever taken for something else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json
from vocable.artefacts.writing import space_checked, writer_name
from vocable.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A finished block, or one that was given up."""

    stage: str
    """What was done, such as "units"."""
    key: str
    """Digest of everything the result depends on."""
    file: str = ""
    offset: int = 0
    size: int = 0
    check: int = 0
    """CRC-32 of the result."""
    summary: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    """Why the block was given up."""
    spoiled: int = 0
    """Items it was done without, since they ended their process; a later run tries it again."""

    @property
    def worth(self) -> int:
        """How much it counts beside others of its key."""
        return 0 if self.failure is not None else 1 if self.spoiled else 2


class Ledger:
    """The results of a run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = writer_name()

    def entries(self, stage: str) -> dict[str, Entry]:
        """Return a stage's entries by key; what was done whole counts more than what was done in part, or given up.

        Results whose file is gone or too short count as not done.
        """
        found: dict[str, Entry] = {}
        sizes: dict[str, int] = {}
        for entry in self._lines():
            if entry.stage != stage or (entry.key in found and found[entry.key].worth >= max(1, entry.worth)):
                continue
            if entry.failure is None and entry.size:
                if entry.file not in sizes:
                    path = self.folder / "blocks" / entry.file
                    sizes[entry.file] = path.stat().st_size if path.is_file() else 0
                if entry.offset + entry.size > sizes[entry.file]:
                    continue
            found[entry.key] = entry
        return found

    def append(self, stage: str, key: str, result: bytes, summary: dict[str, Any], spoiled: int = 0) -> Entry:
        """Record a finished block with its result.

        Raises:
            DiskFullError: the block then counts as not done.
        """
        with space_checked(self.folder):
            # Closed after each block: on a network filesystem other hosts see what was written when it is closed.
            blocks = self.folder / "blocks" / f"{self._writer}.bin"
            offset = _append(blocks, result) if result else 0
            entry = Entry(stage, key, blocks.name, offset, len(result), zlib.crc32(result), summary, spoiled=spoiled)
            return self._record(entry)

    def give_up(self, stage: str, key: str, failure: str) -> Entry:
        """Record a block that was set aside; a later run tries it again."""
        with space_checked(self.folder):
            return self._record(Entry(stage, key, failure=failure))

    def read(self, entry: Entry) -> bytes:
        """Return a block's result.

        Raises:
            InputError: the file was damaged.
        """
        if not entry.size:
            return b""
        path = self.folder / "blocks" / entry.file
        with path.open("rb") as file:
            file.seek(entry.offset)
            result = file.read(entry.size)
        if zlib.crc32(result) != entry.check:
            raise InputError(
                f"{path} is damaged at byte {entry.offset}: remove it and run the same command again, which makes it anew"
            )
        return result

    def _record(self, entry: Entry) -> Entry:
        _append(self.folder / "ledger" / f"{self._writer}.jsonl", canonical_json(asdict(entry)).encode() + b"\n")
        return entry

    def _lines(self) -> Iterator[Entry]:
        """Yield all whole lines of all writers, in the order of their names; a line cut short by a kill is passed over."""
        for path in sorted((self.folder / "ledger").glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    yield Entry(**json.loads(line))
                except (ValueError, TypeError):
                    continue


def _append(path: Path, content: bytes) -> int:
    """Append to a file that no other process writes, and return where the content begins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        offset = file.tell()
        file.write(content)
    return offset
