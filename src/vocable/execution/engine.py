"""`run_shards`: the one call through which work is spread: in this process, over a pool of others, or over a Ray cluster."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from vocable.errors import InputError, VocableError
from vocable.execution.crew import Answer, Crew, Done, raised
from vocable.execution.memory import keep_freed_memory
from vocable.execution.pool import WorkerPool
from vocable.execution.processor import available_cores
from vocable.execution.supervision import SetAside, Supervision

MOST_WORKERS = 100_000
"""As many as anybody has: all that a cluster can take."""

Shard = TypeVar("Shard")
Shard_contra = TypeVar("Shard_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Job(Protocol[Shard_contra, Result_co]):
    """What is done to each shard. It is sent to every worker once, so it must pickle; what it opens stays there."""

    def open(self, device: str) -> Callable[[Shard_contra], Result_co]:
        """Load what is needed on `device` and return the function that turns a shard into its result."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where work runs: how many worker processes, on which devices, and which part of the whole this run does."""

    workers: int = 1
    """Worker processes; with 1, this process does the work itself."""
    devices: tuple[str, ...] = ("cpu",)
    """Worker i uses device i modulo their number."""
    nshard: int = 1
    """Parts the whole is cut into, for job arrays."""
    rank: int = 0
    """Which part this run does, from 0."""
    engine: Literal["local", "ray"] = "local"
    """This machine's processes, or those of a Ray cluster, of which `workers` then work at a time at the most."""
    address: str | None = None
    """Of a Ray cluster: `auto`, or `host:port`; without, one is started on this machine."""

    @property
    def here(self) -> int:
        """Workers, or threads, that this machine has for the work: of a cluster's it is only told how many it may take."""
        return self.workers if self.engine == "local" else min(self.workers, available_cores())

    @property
    def device_here(self) -> str:
        """Device of what this process does by itself; where a cluster has GPUs and this machine none, its processor."""
        if self.engine == "local":
            return self.devices[0]
        try:
            return check_device(self.devices[0])
        except InputError:
            return "cpu"

    @property
    def kind(self) -> str:
        """Kind of the devices, such as `cpu` or `cuda`: the last bits of frames depend on it."""
        return "+".join(sorted({device.partition(":")[0] if device != "cpu:0" else device for device in self.devices}))

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"--workers {self.workers}: at least 1 is needed")
        if self.nshard < 1:
            raise InputError(f"--nshard {self.nshard}: at least 1 is needed")
        if not 0 <= self.rank < self.nshard:
            raise InputError(f"--rank {self.rank} with --nshard {self.nshard}: ranks run from 0 to {self.nshard - 1}")
        if self.engine not in ("local", "ray"):
            raise InputError(f"--engine {self.engine}: it is local or ray")
        if self.address is not None and self.engine != "ray":
            raise InputError(f"--address {self.address} goes with --engine ray")


@dataclass(frozen=True)
class Outcome(Generic[Shard, Result]):
    """A shard with its result, or with the reason it was set aside."""

    shard: Shard
    result: Result | None
    failure: str | None = None


class Engine:
    """Does jobs on shards where a `Work` says. Use as a context manager, around all stages of a job: workers stay for the next.

    Who does the work is watched by `Supervision`: of what becomes of workers and machines, nothing is lost. A bounded number of
    shards is under way at a time, so that results wait in bounded memory.

    Raises:
        InputError: the cluster can't be reached, or lacks the devices.
    """

    def __init__(self, work: Work) -> None:
        keep_freed_memory()
        self.work = work
        self._crew = _crew(work)
        self._supervision = Supervision(self._crew)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if isinstance(self._crew, contextlib.AbstractContextManager):
            self._crew.__exit__(None, None, None)

    def run_shards(self, job: Job[Shard, Result], shards: Iterable[Shard]) -> Iterator[Outcome[Shard, Result]]:
        """Do `job` on every shard and yield the outcomes in the order of the shards.

        Raises:
            VocableError: what the job raised for a reason the user can mend.
            WorkerError: a worker failed otherwise; its traceback is in the message.
        """
        for shard, result in self._supervision.map(job, shards):
            yield Outcome(shard, None, result.reason) if isinstance(result, SetAside) else Outcome(shard, result)


def _crew(work: Work) -> Crew:
    if work.engine == "ray":
        from vocable.execution.ray_crew import RayCrew

        return RayCrew(work.workers, work.devices[0], work.address)
    return WorkerPool(work.workers, work.devices) if work.workers > 1 else _Alone(work.devices[0])


class _Alone:
    """A crew of this process."""

    title = "process"
    uneven = False

    def __init__(self, device: str) -> None:
        self._device = device
        self._function: Callable[[Any], Any] | None = None
        self._given: deque[tuple[int, Any]] = deque()

    def begin(self, job: Any) -> None:
        self._function = job.open(self._device)

    def slots(self) -> int:
        return 1

    def give(self, ticket: int, shard: Any) -> None:
        self._given.append((ticket, shard))

    def hear(self, timeout: float | None) -> tuple[int, Answer]:
        del timeout
        assert self._function is not None
        ticket, shard = self._given.popleft()
        try:
            return ticket, Done(self._function(shard))
        except (VocableError, OSError, MemoryError):
            raise  # as it is: nothing has to be sent
        except Exception as error:  # noqa: BLE001
            return ticket, raised(error)

    def end(self) -> None:
        self._function = None
        self._given.clear()


def run_shards(job: Job[Shard, Result], shards: Iterable[Shard], work: Work) -> Iterator[Outcome[Shard, Result]]:
    """Do one job on every shard, as `Engine.run_shards` does, with workers of its own."""
    with Engine(work) as engine:
        yield from engine.run_shards(job, shards)


def check_device(device: str) -> str:
    """Return the device if work can run on it.

    Raises:
        InputError: it isn't there, or nobody knows it.
    """
    if device == "cpu":
        return device
    import torch

    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"--device {device}: no such kind of device; use cpu, cuda, cuda:0, cuda:1, … or mps") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(parsed.type, 0)
    if (parsed.index or 0) >= there:
        raise InputError(f"--device {device}: there is no such device here; --device cpu always works")
    return device
