"""`Ledger`: which blocks of work are done, and where their results lie.

Each process that does work appends to files of its own: results to `blocks/<writer>.bin`, and one line for each to
`ledger/<writer>.jsonl` once the result is written. Readers merge all lines. So there is no database and no lock, two
processes never write to one file, a killed process leaves at most a result without its line (which is done again), and two
processes that do the same block write the same bytes twice, of which the first are taken.

A result is found by a key made of everything it depends on, so that nothing is ever taken for something else.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import canonical_json
from vocable.artefacts.writing import space_checked, writer_name
from vocable.errors import InputError

Numbers = NDArray[np.uint64]

_OFFSET_BITS = 44  # of a line in its file; the file's number is above
_LINE = re.compile(
    rb'^\{"check":\d+,"failure":(?P<failure>null|"(?:[^"\\\n]|\\.)*"),"file":"(?P<file>[^"\n]*)","key":"(?P<key>[^"\n]*)",'
    rb'"offset":(?P<offset>\d+),"size":(?P<size>\d+),(?:"spoiled":(?P<spoiled>\d+),)?"stage":"(?P<stage>[^"\n]*)",'
    rb'"summary":[^\n]*\}\n',
    re.MULTILINE,
)
"""A line as `canonical_json` writes it, found without reading all of it; keys, stages and names of files need no escapes."""


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


class Ledger:
    """The results of a run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = writer_name()

    def entries(self, stage: str) -> Entries:
        """Return a stage's entries by key; what was done whole counts more than what was done in part, or given up.

        Results whose file is gone or too short count as not done.
        """
        return Entries(self.folder, stage)

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


def _append(path: Path, content: bytes) -> int:
    """Append to a file that no other process writes, and return where the content begins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        offset = file.tell()
        file.write(content)
    return offset


class Entries(Mapping[str, Entry]):
    """A stage's entries by key, of which places in files are held and not the entries: some 40 bytes for each.

    Looking one up takes a search among sorted numbers, and reading a line.

    Args:
        folder: the ledger's.
        stage: whose entries.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._files: list[mmap.mmap] = []
        self._sizes: dict[bytes, int] = {}
        self._folder = folder
        found = _Places()
        # In the order of their names; a line cut short by a kill is passed over.
        for path in sorted((folder / "ledger").glob("*.jsonl")):
            self._add(path, stage.encode(), found)
        self._high, self._low, self._place = found.sorted()

    def _add(self, path: Path, stage: bytes, found: _Places) -> None:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return
            lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        number = len(self._files)
        self._files.append(lines)
        for line in _LINE.finditer(lines):
            if line["stage"] != stage:
                continue
            failed = line["failure"] != b"null"
            if not failed and int(line["size"]) and int(line["offset"]) + int(line["size"]) > self._size(line["file"]):
                continue
            worth = 0 if failed else 1 if line["spoiled"] not in (None, b"0") else 2
            found.add(line["key"], number, line.start(), worth)

    def _size(self, name: bytes) -> int:
        if name not in self._sizes:
            path = self._folder / "blocks" / name.decode()
            self._sizes[name] = path.stat().st_size if path.is_file() else 0
        return self._sizes[name]

    def __getitem__(self, key: str) -> Entry:
        high, low = _numbers(canonical_json(key)[1:-1].encode())
        at = int(np.searchsorted(self._high, np.uint64(high)))
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return self._entry(at)
            at += 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (self._entry(at).key for at in range(len(self)))

    def __len__(self) -> int:
        return len(self._high)

    def _entry(self, at: int) -> Entry:
        number, offset = divmod(int(self._place[at]), 1 << _OFFSET_BITS)
        lines = self._files[number]
        return Entry(**json.loads(lines[offset : lines.find(b"\n", offset)]))


class _Places:
    """Where lines of keys lie, as they are found."""

    def __init__(self) -> None:
        self._high, self._low, self._place, self._worth = array("Q"), array("Q"), array("Q"), array("B")

    def add(self, key: bytes, file: int, offset: int, worth: int) -> None:
        high, low = _numbers(key)
        self._high.append(high)
        self._low.append(low)
        self._place.append(file << _OFFSET_BITS | offset)
        self._worth.append(worth)

    def sorted(self) -> tuple[Numbers, Numbers, Numbers]:
        """Return the two numbers of each key, and the place of its line that counts most, of equal ones the first."""
        high, low, place = (np.frombuffer(one, np.uint64) for one in (self._high, self._low, self._place))
        order = np.lexsort((255 - np.frombuffer(self._worth, np.uint8), low, high))
        high, low, place = high[order], low[order], place[order]
        first = np.ones(len(high), dtype=np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return high[first], low[first], place[first]


def _numbers(key: bytes) -> tuple[int, int]:
    """Return two numbers that stand for a key: of 2^128 pairs, no two keys have one."""
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
