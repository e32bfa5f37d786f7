"""`WorkerPool`: processes that survive each other's death and don't survive ours.

Each worker is a fresh interpreter that talks through its standard input and output. A thread here feeds it one shard at a
time, so that when it dies we know which shard it was on. When this process dies, however it dies, the operating system
closes the pipes, and each worker ends at the end of its input.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from vocable.errors import VocableError, WorkerError
from vocable.execution.messages import Opening, pack, read_message, unpack, write_message

# One BLAS thread a worker: as many workers as cores beat threads on shared machines, and waiting threads don't spin.
THREAD_LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}

_TRIES = 2
_AHEAD = 4  # shards under way for each worker, counting results that wait for their turn
_PATIENCE = 5.0  # seconds for a worker to notice that its input has ended

_Queue = queue.SimpleQueue[Any]
_Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Killed:
    """Stands for the result of a shard that was given up."""

    reason: str


class WorkerPool:
    """Worker processes, started when they are first needed. Use as a context manager: leaving it ends them."""

    def __init__(self, workers: int, devices: tuple[str, ...]) -> None:
        self._devices = [devices[at % len(devices)] for at in range(workers)]
        self._processes: list[_Process | None] = [None] * workers
        self._opened: list[object] = [None] * workers
        self._lock = threading.Lock()
        self._closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing = True
            for process in self._processes:
                if process is not None:
                    _end(process)

    def map(self, job: Any, shards: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each shard with its result, or `Killed`, in the order of the shards. One map at a time."""
        tasks, done = _Queue(), _Queue()
        opening = _Opening(job)
        threads = [
            threading.Thread(target=self._feed, args=(at, opening, tasks, done), daemon=True)
            for at in range(len(self._processes))
        ]
        for thread in threads:
            thread.start()
        try:
            yield from _in_order(shards, tasks, done, _AHEAD * len(threads))
        finally:
            for _ in threads:
                tasks.put(None)

    def _feed(self, at: int, opening: _Opening, tasks: _Queue, done: _Queue) -> None:
        """Give worker `at` one shard after another until there are none."""
        while (task := tasks.get()) is not None:
            number, shard = task
            try:
                done.put((number, self._try(at, opening, shard)))
            except BaseException as error:
                done.put((number, error))
                return

    def _try(self, at: int, opening: _Opening, shard: Any) -> Any:
        ending = ""
        for _ in range(_TRIES):
            process = self._ready(at, opening)
            answer = _ask(process, pack(shard))
            if answer is not None:
                return answer[0]
            ending = _ending(process.wait())
        return Killed(f"it ended its worker process {_TRIES} times ({ending})")

    def _ready(self, at: int, opening: _Opening) -> _Process:
        """Return worker `at`, alive and with the job open."""
        process = self._processes[at]
        if process is not None and process.poll() is not None:
            _end(process)
            process = None
        if process is None:
            process = self._start(at)
        if self._opened[at] is not opening:
            if _ask(process, opening.message(self._devices[at])) is None:
                raise WorkerError(
                    f"a worker process ended before it began ({_ending(process.wait())}); its own message stands above"
                )
            self._opened[at] = opening
        return process

    def _start(self, at: int) -> _Process:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with self._lock:
            if self._closing:
                raise WorkerError("the pool is closing")
            # -P keeps files of the working directory from shadowing modules.
            self._processes[at] = process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vocable.execution.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **THREAD_LIMITS, "PYTHONPATH": path},
            )
            self._opened[at] = None
        return process


class _Opening:
    """One call of `map`; its identity tells a worker's job from another."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def message(self, device: str) -> bytes:
        return pack(Opening(device, self._job))


def _in_order(shards: Iterable[Any], tasks: _Queue, done: _Queue, window: int) -> Iterator[tuple[Any, Any]]:
    """Hand out shards, `window` of them ahead at most, and yield them with their results in order."""
    source = enumerate(shards)
    given: dict[int, Any] = {}
    results: dict[int, Any] = {}
    at = 0
    while True:
        while len(given) < window and (item := next(source, None)) is not None:
            given[item[0]] = item[1]
            tasks.put(item)
        if not given:
            return
        while at not in results:
            number, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[number] = result
        yield given.pop(at), results.pop(at)
        at += 1


def _ask(process: _Process, content: bytes) -> tuple[Any] | None:
    """Send a message and return the answer in a tuple, or None if the worker died; raise what it raised."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        write_message(process.stdin, content)
    except BrokenPipeError:
        return None
    answer = read_message(process.stdout)
    if answer is None:
        return None
    kind, value = unpack(answer)
    if kind == "mendable":
        assert isinstance(value, VocableError)
        raise value
    if kind == "failed":
        raise WorkerError(f"a worker failed:\n{value}")
    return (value,)


def _end(process: _Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return name + (", often for want of memory" if name == "SIGKILL" else "")
