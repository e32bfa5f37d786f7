"""`Ledger`: which blocks of work are done, and where their results lie.

Each process that does work appends to files of its own: results to `blocks/<writer>.bin`, and one line for each to
`ledger/<writer>.jsonl` once the result is written. Readers merge all lines. So there is no database and no lock, two
processes never write to one file, a killed process leaves at most a result without its line (which is done again), and two
processes that do the same block write the same bytes twice, of which the first are taken.
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
    """A finished block: what kind of work, made from what, and where its result lies."""

    stage: str
    """What was done, such as "units"."""
    key: str
    """Digest of everything the result depends on but the block itself."""
    block: int
    file: str
    offset: int
    size: int
    check: int
    """CRC-32 of the result."""
    summary: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The results of a run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = writer_name()

    def done(self, stage: str, key: str) -> dict[int, Entry]:
        """Return the finished blocks of a stage by index. Results whose file is gone or too short count as not done."""
        found: dict[int, Entry] = {}
        sizes: dict[str, int] = {}
        for entry in self._entries():
            if (entry.stage, entry.key) == (stage, key) and entry.block not in found:
                if entry.file not in sizes:
                    path = self.folder / "blocks" / entry.file
                    sizes[entry.file] = path.stat().st_size if path.is_file() else 0
                if entry.offset + entry.size <= sizes[entry.file]:
                    found[entry.block] = entry
        return found

    def append(self, stage: str, key: str, block: int, result: bytes, summary: dict[str, Any]) -> Entry:
        """Record a finished block with its result.

        Raises:
            DiskFullError: the block then counts as not done.
        """
        results, lines = self.folder / "blocks" / f"{self._writer}.bin", self.folder / "ledger" / f"{self._writer}.jsonl"
        with space_checked(self.folder):
            # Closed after each block: on a network filesystem other hosts see what was written when it is closed.
            entry = Entry(stage, key, block, results.name, _append(results, result), len(result), zlib.crc32(result), summary)
            _append(lines, canonical_json(asdict(entry)).encode() + b"\n")
        return entry

    def read(self, entry: Entry) -> bytes:
        """Return a block's result.

        Raises:
            InputError: the file was damaged.
        """
        path = self.folder / "blocks" / entry.file
        with path.open("rb") as file:
            file.seek(entry.offset)
            result = file.read(entry.size)
        if zlib.crc32(result) != entry.check:
            raise InputError(
                f"{path} is damaged at byte {entry.offset}: remove it and run the same command again, which makes it anew"
            )
        return result

    def _entries(self) -> Iterator[Entry]:
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
