"""`World`: the processes that train together, as torchrun started them; or this one alone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from vocable.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def summed(self, values: Sequence[float]) -> list[float]:
        """Return numbers added up over all processes, in float64."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64)  # on the CPU: nothing waits for a GPU
        distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def added(self, tensor: Tensor) -> Tensor:
        """Return a tensor added up over all processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def of_first(self, value: T) -> T:
        """Return the value of the first process."""
        return self.gathered(value)[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, if it did, and leave them together at the end.

    Args:
        device: `cpu`, `cuda` (each process its own), `cuda:1` or `mps`.

    Raises:
        InputError: there is no such device, or fewer GPUs than processes.
    """
    size, rank, local = (int(os.environ.get(name, default)) for name, default in _FROM_TORCHRUN)
    place = place_of(device, local, size)
    if size == 1:
        yield World(device=place)
        return
    _die_with_parent()
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(minutes=30), device_id=place if place.type == "cuda" else None)
    try:
        yield World(rank, size, place)
        # Without it the first to end takes the others' connections along, and torchrun counts that as a failure.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _die_with_parent() -> None:
    """Let the kernel kill this process when torchrun is killed, which can't end its processes then: they are no group of its."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


_SET_DEATH_SIGNAL = 1
_FROM_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


def place_of(name: str, local: int = 0, size: int = 1) -> torch.device:
    """Return the device of a process.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or `mps`.
        local: number of the process on its machine.
        size: how many there are.

    Raises:
        InputError: there is no such device, or fewer GPUs than processes.
    """
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name}: no such kind of device; use cpu, cuda, cuda:1 or mps") from error
    if place.type == "cuda":
        there = torch.cuda.device_count()
        index = local if place.index is None else place.index
        if index >= there:
            raise InputError(
                f"device {name}: {there} GPUs are here, and process {local} wants number {index}; take device cpu, or fewer "
                "processes"
            )
        if size > 1 and place.index is not None:
            raise InputError(f"device {name}: {size} processes can't share it; give device cuda")
        place = torch.device("cuda", index)
        torch.cuda.set_device(place)
    elif place.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: there is none here; device cpu always works")
    return place
