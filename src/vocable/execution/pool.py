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
        self._opened: list[_Run | None] = [None] * workers
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
        """Yield each shard with its result, or `Killed`, in the order of the shards.

        One map at a time. When it is left before its end, workers that are busy with it are ended, so that the next map finds
        none that still has something to say about this one.
        """
        run = _Run(job)
        threads: list[threading.Thread] = []

        def staffed(items: Iterable[Any]) -> Iterator[Any]:
            for item in items:
                if len(threads) < len(self._processes):  # no more workers than shards
                    threads.append(threading.Thread(target=self._feed, args=(len(threads), run), daemon=True))
                    threads[-1].start()
                yield item

        try:
            yield from _in_order(staffed(shards), run, _AHEAD * len(self._processes))
            run.over = True
        finally:
            if not run.over:
                run.over = True
                with self._lock:
                    for at in list(run.busy):
                        process = self._processes[at]
                        if process is not None:
                            process.kill()
            for _ in threads:
                run.tasks.put(None)
            for thread in threads:
                thread.join()

    def _feed(self, at: int, run: _Run) -> None:
        """Give worker `at` one shard after another until there are none."""
        while (task := run.tasks.get()) is not None and not run.over:
            number, shard = task
            run.busy.add(at)
            try:
                run.done.put((number, self._try(at, run, shard)))
            except BaseException as error:
                run.done.put((number, error))
                return
            finally:
                run.busy.discard(at)

    def _try(self, at: int, run: _Run, shard: Any) -> Any:
        """Return a worker's answer to a shard, or `Killed` if that ended it each time."""
        began, ending = False, ""
        for _ in range(_TRIES):
            process = self._alive(at)
            if self._opened[at] is not run and _ask(process, run.opening(self._devices[at])) is not None:
                self._opened[at] = run
            if self._opened[at] is run:
                began = True
                if (answer := _ask(process, pack(shard))) is not None:
                    return answer[0]
            ending = _ending(process.wait())
            if run.over:
                return Killed("nobody waits for it")
        if not began:
            raise WorkerError(f"a worker process ended before it began ({ending}); its own message stands above")
        return Killed(f"it ended its worker process {_TRIES} times ({ending})")

    def _alive(self, at: int) -> _Process:
        """Return worker `at`, started anew if it has ended."""
        process = self._processes[at]
        if process is not None and process.poll() is not None:
            _end(process)
            process = None
        return process or self._start(at)

    def _start(self, at: int) -> _Process:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with self._lock:
            if self._closing:
                raise WorkerError("the pool is closing")
            with _interrupts_blocked():
                # -P keeps files of the working directory from shadowing modules.
                self._processes[at] = process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "vocable.execution.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **THREAD_LIMITS, "PYTHONPATH": path},
                )
            self._opened[at] = None
        return process


class _Run:
    """One call of `map`: what is to be done, what is done, and who is at it."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.tasks: _Queue = _Queue()
        self.done: _Queue = _Queue()
        self.busy: set[int] = set()
        self.over = False

    def opening(self, device: str) -> bytes:
        """Return the message that opens the job in a worker."""
        return pack(Opening(device, self._job))


def _in_order(shards: Iterable[Any], run: _Run, window: int) -> Iterator[tuple[Any, Any]]:
    """Hand out shards, `window` of them ahead at most, and yield them with their results in order."""
    source = enumerate(shards)
    given: dict[int, Any] = {}
    results: dict[int, Any] = {}
    at = 0
    while True:
        while len(given) < window and (item := next(source, None)) is not None:
            given[item[0]] = item[1]
            run.tasks.put(item)
        if not given:
            return
        while at not in results:
            number, result = run.done.get()
            if isinstance(result, BaseException):
                raise result
            results[number] = result
        yield given.pop(at), results.pop(at)
        at += 1


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start a process that Ctrl-C doesn't reach before it can ignore it; the mask is this thread's and the child's alone."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
