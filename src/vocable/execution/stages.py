"""A stage: blocks of work whose results are kept in a ledger, so that none is done twice."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vocable.artefacts.headers import digest_of
from vocable.errors import InputError
from vocable.execution.engine import Engine, Job
from vocable.execution.ledger import Entry, Ledger
from vocable.execution.progress import Progress

Payload = tuple[bytes, dict[str, Any]]
"""A block's result, and a summary of it for whoever plans what comes next."""


class WorkBlock(Protocol):
    """What a stage works on."""

    @property
    def size(self) -> float:
        """How much work it is, as progress counts it."""

    @property
    def content(self) -> str:
        """Digest of what is worked on."""


Block = TypeVar("Block", bound=WorkBlock)


@dataclass(frozen=True)
class Finished(Generic[Block]):
    """How far a stage has come: its blocks in order, each with its entry in the ledger, if there is one."""

    ledger: Ledger
    blocks: list[tuple[Block, Entry | None]]

    @property
    def missing(self) -> int:
        """Blocks that nobody has done or given up yet."""
        return sum(entry is None for _, entry in self.blocks)

    def done(self) -> Iterator[tuple[Block, Entry]]:
        """Yield the blocks that are done."""
        return ((block, entry) for block, entry in self.blocks if entry is not None and entry.failure is None)

    def given_up(self) -> Iterator[tuple[Block, str]]:
        """Yield the blocks that were set aside, with the reason."""
        return ((block, entry.failure) for block, entry in self.blocks if entry is not None and entry.failure is not None)

    def results(self) -> Iterator[tuple[Block, Entry, bytes]]:
        """Yield the blocks that are done with their results."""
        return ((block, entry, self.ledger.read(entry)) for block, entry in self.done())


@dataclass(frozen=True)
class Stage:
    """A kind of work, what its results depend on beside the blocks, and the folder of its ledger."""

    name: str
    depends_on: Any
    """A JSON value."""
    folder: Path

    def run(
        self,
        job: Job[Block, Payload],
        blocks: Sequence[Block],
        engine: Engine,
        progress: Progress,
        mine: slice = slice(None),
        made: Mapping[str, Payload] | None = None,
    ) -> Finished[Block]:
        """Do the blocks that the ledger doesn't have yet.

        Args:
            job: turns a block into the bytes and the summary to keep.
            blocks: all blocks of the stage, in order.
            engine: runs the job.
            progress: told the size of each block when it is finished, or found finished.
            mine: which of the blocks this run does, where others do the rest.
            made: results that came up elsewhere, by the content of the block; they are kept as if the job had made them.
        """
        ledger = Ledger(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = [digest_of([self.depends_on, block.content]) for block in blocks]
        known = ledger.entries(self.name)

        def remaining() -> Iterator[_Keyed]:
            for block, key in zip(blocks[mine], keys[mine], strict=True):
                if key in known and known[key].failure is None and not known[key].spoiled:
                    progress.pass_over(block.size)
                elif made is not None and (result := made.get(block.content)) is not None:
                    ledger.append(self.name, key, *result)
                    progress.pass_over(block.size)
                else:
                    yield _Keyed(block, key)

        for outcome in engine.run_shards(_Recorded(self.name, self.folder, job), remaining()):
            if outcome.failure is not None:
                ledger.give_up(self.name, outcome.shard.key, outcome.failure)
            progress.advance(outcome.shard.block.size)
        known = ledger.entries(self.name)
        return Finished(ledger, [(block, known.get(key)) for block, key in zip(blocks, keys, strict=True)])


@dataclass(frozen=True)
class _Keyed:
    """A block with the key of its result."""

    block: Any
    key: str
    """Empty where the result is of a part of the block, tried alone."""
    spoiled: int = 0
    """Items of the block that it is done without."""

    @property
    def names(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self.block.names
        return found

    def only(self, names: frozenset[str]) -> _Keyed:
        return _Keyed(self.block.only(names), "")

    def without(self, names: frozenset[str]) -> _Keyed:
        return _Keyed(self.block.without(names), self.key, len(names))


@dataclass(frozen=True)
class _Recorded:
    """A job whose results go to the ledger where they are made, instead of travelling."""

    stage: str
    folder: Path
    job: Job[Any, Payload]
    returns_nothing = True

    def open(self, device: str) -> Callable[[_Keyed], None]:
        if not self.folder.is_dir():  # whoever began the stage has made it
            raise InputError(
                f"{self.folder} isn't there on {socket.gethostname()}: results have to lie where all machines see them, and "
                "temporary files, too (set TMPDIR)"
            )
        function = self.job.open(device)
        ledger = Ledger(self.folder)

        def run(keyed: _Keyed) -> None:
            result, summary = function(keyed.block)
            if keyed.key:
                ledger.append(self.stage, keyed.key, result, summary, keyed.spoiled)

        return run
