"""`Crew`: whoever does shards of work, in processes of this machine or of a cluster, and what is said of each shard."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vocable.errors import VocableError, sentence_of
from vocable.execution.messages import pack, unpack


@dataclass(frozen=True)
class Done:
    """A shard's result."""

    result: Any


@dataclass(frozen=True)
class Mendable:
    """The job raised for a reason that the user can mend: the whole run ends with it."""

    error: VocableError


@dataclass(frozen=True)
class Failed:
    """The job raised otherwise."""

    traceback: str

    @property
    def line(self) -> str:
        """What was raised, in one line."""
        return self.traceback.strip().rpartition("\n")[2]


@dataclass(frozen=True)
class Died:
    """The process that was at a shard ended."""

    ending: str


@dataclass(frozen=True)
class Gone:
    """The machine that was at a shard is gone, or what it had made is; the shard is no cause of that."""

    ending: str


Answer = Done | Mendable | Failed | Died | Gone


class Crew(Protocol):
    """Does shards of one job at a time, in any order."""

    title: str
    """What one of them is called where its end is told, such as `worker process`."""
    uneven: bool
    """Whether some may be much slower than others, so that what is late is worth starting twice."""

    def begin(self, job: Any) -> None:
        """Take up a job; what is given from now on is its shards."""

    def slots(self) -> int:
        """Return how many shards are done at a time at the most."""

    def give(self, ticket: int, shard: Any) -> None:
        """Give out a shard."""

    def hear(self, timeout: float | None) -> tuple[int, Answer] | None:
        """Return the ticket of a shard that was given out, with what is said of it; None if nothing is for so many seconds.

        Raises:
            VocableError: nothing can be done at all.
        """

    def end(self) -> None:
        """Leave the job, and what is still under way."""


def answer(function: Callable[[Any], Any], shard: Any) -> Done | Mendable | Failed:
    """Return a function's result on a shard, or what it raised."""
    try:
        return Done(function(shard))
    except BaseException as error:  # noqa: BLE001 (whatever it is, the shard isn't done)
        return raised(error)


def packed(said: Done | Mendable | Failed) -> bytes:
    """Return what is said of a shard as the content of a message that comes back as it went."""
    try:
        content = pack(said)
        if isinstance(said, Mendable):
            unpack(content)  # exceptions with a constructor of their own may not come back
    except Exception as error:  # noqa: BLE001 (whatever a result or an exception does when it is pickled)
        return pack(Mendable(VocableError(str(said.error))) if isinstance(said, Mendable) else raised(error))
    return content


def raised(error: BaseException) -> Mendable | Failed:
    """Return what is said of a shard whose job raised."""
    if isinstance(error, VocableError):
        return Mendable(error)
    if isinstance(error, (OSError, MemoryError)):
        return Mendable(VocableError(sentence_of(error)))
    return Failed("".join(traceback.format_exception(error)))
