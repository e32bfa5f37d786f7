"""Shards in order, whatever becomes of those who do them.

Machines that go are no shard's fault: what they were at is given out again, without end. A shard that its job fails on is tried a
few times and then set aside. Of one whose process ended again and again its items are tried by halves, alone; those that end
every process that takes them up are named, and the shard is done without them. What is much later than the rest is given out
twice, where machines differ, and the first answer is taken.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from vocable.errors import WorkerError
from vocable.execution.crew import Answer, Crew, Died, Done, Failed, Gone, Mendable

TRIES = 3
"""How often a shard may fail before it is set aside."""
DEATHS = 2
"""How many processes a shard may end before its items are tried alone."""
ALONE = 3
"""How many processes an item may end, alone, before it is named."""
WHOLE = 4
"""How many processes a shard that can't be divided may end before it is set aside."""
SEARCHES = 5
"""How often items are tried alone without one that ends its process, before the shard is set aside."""
_FAILED_ALL = 3  # shards that fail before any other is done, which end the run
_AHEAD = 4  # shards under way for each slot, counting results that wait for their turn
_AHEAD_OF_NOTHING = 64  # where results are nothing, which wait for free while a slow machine is at an earlier one
_LATE = 3.0  # times the usual
_LEAST_LATE = 1.0  # seconds
_LONG = 1.0  # seconds that a shard takes
_KNOWN = 5  # shards that tell what is usual
_GLANCE = 0.5  # seconds between looks for what is late


@dataclass(frozen=True)
class SetAside:
    """Stands for the result of a shard that was given up."""

    reason: str


@runtime_checkable
class Divisible(Protocol):
    """A shard of items, some of which can be left out."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the items are called, each once."""

    def only(self, names: frozenset[str]) -> Self:
        """Return a shard of some of the items, whose result nobody keeps."""

    def without(self, names: frozenset[str]) -> Self:
        """Return this shard, some of whose items can't be used since they end whatever process takes them up."""


@dataclass
class _Whole:
    """A shard on its way."""

    number: int
    shard: Any
    given: Any
    """What is given out for it: the shard, or the shard without some of its items."""
    running: dict[int, float] = field(default_factory=dict)
    """When each of its tickets was given out."""
    deaths: int = 0
    failures: int = 0
    searches: int = 0
    suspects: int = 0
    """Parts of it that are under way alone."""
    culprits: set[str] = field(default_factory=set)


@dataclass
class _Part:
    """Items of a shard, tried alone."""

    whole: _Whole
    names: tuple[str, ...]
    deaths: int = 0


class Supervision:
    """Gives a crew one job after another.

    Args:
        crew: does the work.
        clock: tells seconds.
    """

    def __init__(self, crew: Crew, clock: Callable[[], float] = time.monotonic) -> None:
        self._crew, self._clock = crew, clock
        self._spoiled: set[str] = set()
        """Items that ended every process that took them up, in any job."""

    def map(self, job: Any, shards: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each shard with its result, or `SetAside`, in the order of the shards. One map at a time.

        A job with a true `returns_nothing` keeps its results itself; more of its shards may then be done before their turn.

        Raises:
            VocableError: what the job raised for a reason the user can mend.
            WorkerError: the job fails on everything.
        """
        self._crew.begin(job)
        try:
            ahead = _AHEAD_OF_NOTHING if getattr(job, "returns_nothing", False) else _AHEAD
            yield from _Round(self._crew, self._spoiled, shards, self._clock, ahead)
        finally:
            self._crew.end()


class _Round:
    """One call of `map`."""

    def __init__(
        self, crew: Crew, spoiled: set[str], shards: Iterable[Any], clock: Callable[[], float], ahead: int = _AHEAD
    ) -> None:
        self._crew, self._spoiled, self._clock, self._ahead = crew, spoiled, clock, ahead
        self._source = enumerate(shards)
        self._tickets = itertools.count()
        self._under_way: dict[int, _Whole | _Part] = {}
        self._again: deque[_Whole | _Part] = deque()
        self._wholes: dict[int, _Whole] = {}
        self._results: dict[int, Any] = {}
        self._open: dict[int, _Whole] = {}
        """Shards without a result that are given out, those first that were given out first."""
        self._times: deque[float] = deque(maxlen=200)
        self._usual = 0.0
        self._succeeded = False
        self._failed: list[Failed] = []
        self._exhausted = False

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        at = 0
        while True:
            self._give_out()
            if not self._wholes:
                self._refuse_to_go_on()
                return
            while at not in self._results:
                heard = self._crew.hear(_GLANCE if self._crew.uneven else None)
                if heard is not None:
                    self._take(*heard)
                self._give_out()
            yield self._wholes.pop(at).shard, self._results.pop(at)
            at += 1

    def _give_out(self) -> None:
        """Give out what is to be tried again, then new shards while there is room for their results, then what is late."""
        slots = self._crew.slots()
        # Where shards are short, each slot has its next one at hand; where they are long, that would only wait behind a slow one.
        most = slots if self._usual > _LONG else 2 * slots
        while self._again and len(self._under_way) < most:
            self._give(self._again.popleft())
        while not self._exhausted and len(self._wholes) < self._ahead * slots and len(self._under_way) < most:
            if (item := next(self._source, None)) is None:
                self._exhausted = True
                break
            number, shard = item
            self._wholes[number] = whole = _Whole(number, shard, shard)
            if self._spoiled and isinstance(shard, Divisible) and (known := self._spoiled.intersection(shard.names)):
                whole.culprits |= known
                whole.given = shard.without(frozenset(known))
            self._give(whole)
        if self._crew.uneven and len(self._under_way) < slots:
            self._give_late(slots - len(self._under_way))

    def _give(self, task: _Whole | _Part) -> None:
        ticket = next(self._tickets)
        self._under_way[ticket] = task
        if isinstance(task, _Part):
            self._crew.give(ticket, task.whole.shard.only(frozenset(task.names)))
        else:
            task.running[ticket] = self._clock()
            self._open.pop(task.number, None)
            self._open[task.number] = task
            self._crew.give(ticket, task.given)

    def _give_late(self, most: int) -> None:
        """Give out once more what takes much longer than the rest did."""
        if len(self._times) < _KNOWN:
            return
        limit, now = max(_LEAST_LATE, _LATE * self._usual), self._clock()
        late: list[_Whole] = []
        for whole in self._open.values():
            if not whole.running:
                continue  # it is to be tried again, or its items are
            if now - max(whole.running.values()) <= limit or len(late) == most:
                break
            if len(whole.running) == 1:
                late.append(whole)
        for whole in late:
            self._give(whole)

    def _take(self, ticket: int, answer: Answer) -> None:
        """Do what an answer asks for."""
        task = self._under_way.pop(ticket)
        if isinstance(task, _Part):
            self._take_part(task, answer)
            return
        begun = task.running.pop(ticket)
        if task.number in self._results:
            return  # another was quicker
        if isinstance(answer, Mendable):
            raise answer.error
        if isinstance(answer, Done):
            self._times.append(self._clock() - begun)
            if len(self._times) <= _KNOWN or not task.number % _KNOWN:
                self._usual = statistics.median(self._times)
            self._succeeded = True
            self._finish(task, answer.result)
        elif task.running:
            pass  # another one is at it
        elif isinstance(answer, Gone):
            self._again.append(task)
        elif isinstance(answer, Failed):
            self._fail(task, answer)
        else:
            self._bury(task, answer)

    def _finish(self, whole: _Whole, result: Any) -> None:
        self._results[whole.number] = result
        self._open.pop(whole.number, None)

    def _fail(self, whole: _Whole, answer: Failed) -> None:
        whole.failures += 1
        if whole.failures < TRIES:
            self._again.append(whole)
            return
        self._failed.append(answer)
        if len(self._failed) >= _FAILED_ALL:
            self._refuse_to_go_on()
        print(f"warning: a block of work failed {TRIES} times and was set aside:\n{answer.traceback}", file=sys.stderr)
        self._finish(whole, SetAside(f"it failed {TRIES} times ({answer.line})"))

    def _refuse_to_go_on(self) -> None:
        """End the run if all shards so far failed: that is a mistake of ours, or of what is installed.

        Raises:
            WorkerError: shows the first of them.
        """
        if self._failed and not self._succeeded:
            raise WorkerError(f"a worker failed:\n{self._failed[0].traceback}")

    def _bury(self, whole: _Whole, answer: Died) -> None:
        whole.deaths += 1
        divisible = isinstance(whole.given, Divisible) and bool(whole.given.names)
        if whole.deaths < (DEATHS if divisible else WHOLE):
            self._again.append(whole)
        elif not divisible or whole.searches >= SEARCHES:
            self._finish(whole, SetAside(f"it ended its {self._crew.title} {whole.deaths} times ({answer.ending})"))
        else:
            whole.searches, whole.deaths = whole.searches + 1, 0
            self._suspect(whole, tuple(name for name in whole.given.names if name not in whole.culprits))

    def _suspect(self, whole: _Whole, names: tuple[str, ...]) -> None:
        """Try items by halves."""
        middle = (len(names) + 1) // 2
        for half in (names[:middle], names[middle:]):
            if half:
                whole.suspects += 1
                self._again.append(_Part(whole, half))

    def _take_part(self, part: _Part, answer: Answer) -> None:
        whole = part.whole
        whole.suspects -= 1
        if isinstance(answer, Gone):
            whole.suspects += 1
            self._again.append(part)
        elif isinstance(answer, Died):
            part.deaths += 1
            if len(part.names) > 1:
                self._suspect(whole, part.names)
            elif part.deaths < ALONE:
                whole.suspects += 1
                self._again.append(part)
            else:
                whole.culprits |= set(part.names)
        if not whole.suspects:
            if whole.culprits:
                self._spoiled |= whole.culprits
                whole.given = whole.shard.without(frozenset(whole.culprits))
            self._again.append(whole)
