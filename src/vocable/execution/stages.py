"""A stage: blocks of work whose results are kept in a ledger, so that none is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vocable.execution.engine import Engine, Job
from vocable.execution.ledger import Entry, Ledger
from vocable.execution.progress import Progress

Payload = tuple[bytes, dict[str, Any]]
"""A block's result, and a summary of it for whoever plans what comes next."""


class Indexed(Protocol):
    """Anything with a number, and a size that progress can count."""

    @property
    def index(self) -> int: ...
    @property
    def size(self) -> float: ...


Shard = TypeVar("Shard", bound=Indexed)


@dataclass(frozen=True)
class Finished(Generic[Shard]):
    """What is done of a stage."""

    ledger: Ledger
    entries: dict[int, Entry]
    """Finished blocks by index, also those that other processes did."""
    died: dict[int, tuple[Shard, str]] = field(default_factory=dict)
    """Blocks that were set aside, with the reason."""

    def results(self) -> Iterator[tuple[Entry, bytes]]:
        """Yield the finished blocks in order, with their results."""
        return ((self.entries[index], self.ledger.read(self.entries[index])) for index in sorted(self.entries))


@dataclass(frozen=True)
class Stage:
    """The name of a kind of work, the digest of what it is made from, and the folder of its ledger."""

    name: str
    key: str
    folder: Path

    def run(self, job: Job[Shard, Payload], blocks: Iterable[Shard], engine: Engine, progress: Progress) -> Finished[Shard]:
        """Do the blocks that the ledger doesn't have yet.

        Args:
            job: turns a block into the bytes and the summary to keep.
            blocks: all blocks this run should do, done or not.
            engine: runs it.
            progress: told the size of each block when it is finished, or found finished.
        """
        ledger = Ledger(self.folder)
        done = ledger.done(self.name, self.key)

        def remaining() -> Iterator[Shard]:
            for block in blocks:
                if block.index in done:
                    progress.pass_over(block.size)
                else:
                    yield block

        died: dict[int, tuple[Shard, str]] = {}
        for outcome in engine.run_shards(_Recorded(self, job), remaining()):
            if outcome.failure is not None:
                died[outcome.shard.index] = outcome.shard, outcome.failure
            progress.advance(outcome.shard.size)
        return Finished(ledger, ledger.done(self.name, self.key), died)


@dataclass(frozen=True)
class _Recorded:
    """A job whose results go to the ledger where they are made, instead of travelling."""

    stage: Stage
    job: Job[Any, Payload]

    def open(self, device: str) -> Callable[[Any], None]:
        function = self.job.open(device)
        ledger = Ledger(self.stage.folder)

        def run(block: Any) -> None:
            result, summary = function(block)
            ledger.append(self.stage.name, self.stage.key, block.index, result, summary)

        return run
