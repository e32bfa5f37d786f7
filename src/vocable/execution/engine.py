"""`run_shards`: the one call through which work is spread, in this process or over a pool of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from vocable.errors import InputError
from vocable.execution.memory import keep_freed_memory
from vocable.execution.pool import Killed, WorkerPool

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
    engine: str = "local"

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
        if self.engine != "local":
            raise InputError(f"--engine {self.engine}: this version runs work on this machine only: --engine local")


@dataclass(frozen=True)
class Outcome(Generic[Shard, Result]):
    """A shard with its result, or with the reason it was set aside."""

    shard: Shard
    result: Result | None
    failure: str | None = None


class Engine:
    """Does jobs on shards where a `Work` says. Use as a context manager, around all stages of a job: workers stay for the next.

    A shard that kills its worker is tried once more, and set aside if it kills that one too. Any other failure ends the run.
    A bounded number of shards is under way at a time, so that results wait in bounded memory.
    """

    def __init__(self, work: Work) -> None:
        keep_freed_memory()
        self.work = work
        self._pool = WorkerPool(work.workers, work.devices) if work.workers > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._pool is not None:
            self._pool.__exit__(*details)

    def run_shards(self, job: Job[Shard, Result], shards: Iterable[Shard]) -> Iterator[Outcome[Shard, Result]]:
        """Do `job` on every shard and yield the outcomes in the order of the shards.

        Raises:
            VocableError: what the job raised for a reason the user can mend.
            WorkerError: a worker failed otherwise; its traceback is in the message.
        """
        if self._pool is None:
            function = job.open(self.work.devices[0])
            for shard in shards:
                yield Outcome(shard, function(shard))
            return
        for shard, result in self._pool.map(job, shards):
            yield Outcome(shard, None, result.reason) if isinstance(result, Killed) else Outcome(shard, result)


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
