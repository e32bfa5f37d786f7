"""Jobs that worker processes can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.errors import InputError


@dataclass(frozen=True)
class Block:
    index: int
    size: float = 1.0

    @property
    def content(self) -> str:
        return str(self.index)


@dataclass(frozen=True)
class Square:
    offset: int = 0
    seconds: float = 0.0

    def open(self, device: str) -> Callable[[int], tuple[int, str, int]]:
        def run(number: int) -> tuple[int, str, int]:
            time.sleep(self.seconds)
            return number * number + self.offset, device, os.getpid()

        return run


@dataclass(frozen=True)
class Fails:
    with_what: str

    def open(self, device: str) -> Callable[[int], int]:
        if self.with_what == "open":
            raise InputError("can't be opened")
        return self.run

    def run(self, number: int) -> int:
        if number == 3:
            raise InputError("three is bad") if self.with_what == "mendable" else ZeroDivisionError("a bug")
        return number


class OddError(InputError):
    """An error that doesn't come back from a pickle as it went."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}, since {why}")


@dataclass(frozen=True)
class Unsendable:
    """Answers with what can't be pickled, or can't be unpickled."""

    def open(self, device: str) -> Callable[[int], Any]:
        return self.run

    def run(self, number: int) -> Any:
        if number == 1:
            raise OddError("one is odd", "it is")
        return number if number != 2 else (lambda: None)


@dataclass(frozen=True)
class Kills:
    """Kills its worker on some shards; with a folder, only the first time."""

    shards: tuple[int, ...]
    folder: str | None = None
    how: int = signal.SIGKILL

    def open(self, device: str) -> Callable[[int], int]:
        return self.run

    def run(self, number: int) -> int:
        if number in self.shards:
            mark = Path(self.folder or "/nowhere") / str(number)
            if not mark.exists():
                if self.folder:
                    mark.touch()
                os.kill(os.getpid(), self.how)
        return number


@dataclass(frozen=True)
class Basket:
    """A shard of items, some of which may be passed over."""

    number: int
    items: tuple[int, ...]
    spoiled: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.items))

    @property
    def left(self) -> tuple[int, ...]:
        return tuple(item for item in self.items if str(item) not in self.spoiled)

    def only(self, names: frozenset[str]) -> Basket:
        return Basket(self.number, self.items, self.spoiled | (set(self.names) - names))

    def without(self, names: frozenset[str]) -> Basket:
        return Basket(self.number, self.items, self.spoiled | names)


@dataclass(frozen=True)
class Poisoned:
    """Returns what a basket has left, unless that ends the process."""

    poison: tuple[int, ...]
    how: int = signal.SIGSEGV

    def open(self, device: str) -> Callable[[Basket], tuple[int, ...]]:
        def run(basket: Basket) -> tuple[int, ...]:
            for item in basket.left:
                if item in self.poison:
                    os.kill(os.getpid(), self.how)
            return basket.left

        return run


@dataclass(frozen=True)
class FailsOften:
    """Raises on each shard, so many times."""

    folder: str
    times: int

    def open(self, device: str) -> Callable[[int], int]:
        def run(number: int) -> int:
            for at in range(self.times):
                mark = Path(self.folder) / f"{number}-{at}"
                if not mark.exists():
                    mark.touch()
                    raise ZeroDivisionError
            return number

        return run


@dataclass(frozen=True)
class Dies:
    def open(self, device: str) -> Callable[[int], int]:
        os._exit(7)


@dataclass(frozen=True)
class DiesOpening:
    """Kills its worker while it opens the job, the first time."""

    folder: str

    def open(self, device: str) -> Callable[[int], int]:
        mark = Path(self.folder) / "opened"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda number: number


@dataclass(frozen=True)
class Refused:
    """Meets what the operating system refuses."""

    def open(self, device: str) -> Callable[[int], int]:
        def run(number: int) -> int:
            if number == 1:
                raise MemoryError
            Path("/nowhere/at all").read_bytes()
            return number

        return run


@dataclass(frozen=True)
class Slow:
    """Takes the longer the smaller the shard, and prints where answers go."""

    def open(self, device: str) -> Callable[[int], int]:
        def run(number: int) -> int:
            print("noise", flush=True)
            time.sleep(0.02 * (number % 5 == 0))
            return number

        return run


@dataclass(frozen=True)
class Writes:
    folder: str
    seconds: float = 0.0

    def open(self, device: str) -> Callable[[Block], tuple[bytes, dict[str, Any]]]:
        def run(block: Block) -> tuple[bytes, dict[str, Any]]:
            (Path(self.folder) / f"{block.index}-{os.getpid()}-{time.monotonic_ns()}").touch()
            time.sleep(self.seconds)
            return b"x" * block.index, {"index": block.index}

        return run


@dataclass(frozen=True)
class KillsBlock:
    index: int

    def open(self, device: str) -> Callable[[Block], tuple[bytes, dict[str, Any]]]:
        def run(block: Block) -> tuple[bytes, dict[str, Any]]:
            if block.index == self.index:
                os.kill(os.getpid(), signal.SIGKILL)
            return b"", {}

        return run


def main() -> None:
    """Run a pool that a test can kill: `python jobs.py FOLDER WORKERS`."""
    from vocable.execution.engine import Engine, Work
    from vocable.execution.progress import progress
    from vocable.execution.stages import Stage

    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    sys.modules["jobs"] = sys.modules["__main__"]
    for kind in (Block, Writes):
        kind.__module__ = "jobs"
    with Engine(Work(workers=workers)) as engine, progress("test", 40) as shown:
        job = Writes(str(folder / "marks"), 0.05)
        Stage("s", "k", folder / "work").run(job, [Block(at) for at in range(40)], engine, shown)


if __name__ == "__main__":
    main()
