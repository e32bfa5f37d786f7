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
from collections.abc import Iterator
from typing import Any, Self

from vocable.errors import WorkerError
from vocable.execution.crew import Answer, Died, Done, Failed, Mendable
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

_OPENINGS = 2  # processes that may end before they have opened the job
_PATIENCE = 5.0  # seconds for a worker to notice that its input has ended

_Queue = queue.SimpleQueue[Any]
_Process = subprocess.Popen[bytes]


class WorkerPool:
    """A `Crew` of worker processes, started when they are first needed. Use as a context manager: leaving it ends them."""

    title = "worker process"
    uneven = False

    def __init__(self, workers: int, devices: tuple[str, ...]) -> None:
        self._devices = [devices[at % len(devices)] for at in range(workers)]
        self._processes: list[_Process | None] = [None] * workers
        self._opened: list[_Run | None] = [None] * workers
        self._lock = threading.Lock()
        self._closing = False
        self._run: _Run | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing = True
            for process in self._processes:
                if process is not None:
                    _end(process)

    def begin(self, job: Any) -> None:
        """Take up a job."""
        self._run = _Run(job)

    def slots(self) -> int:
        """Return how many workers there may be."""
        return len(self._processes)

    def give(self, ticket: int, shard: Any) -> None:
        """Give a shard to whichever worker is free first; there are no more workers than shards."""
        run = self._run
        assert run is not None
        if len(run.threads) < len(self._processes):
            run.threads.append(threading.Thread(target=self._feed, args=(len(run.threads), run), daemon=True))
            run.threads[-1].start()
        run.waiting += 1
        run.tasks.put((ticket, shard))

    def hear(self, timeout: float | None) -> tuple[int, Answer] | None:
        """Return the next answer.

        Raises:
            WorkerError: workers end before they begin.
        """
        assert self._run is not None
        try:
            ticket, answer = self._run.done.get(timeout=timeout)
        except queue.Empty:
            return None
        self._run.waiting -= 1
        if isinstance(answer, BaseException):
            raise answer
        return ticket, answer

    def end(self) -> None:
        """Leave the job. Workers that are still at it are ended, so that the next job finds none that speaks of this one."""
        run, self._run = self._run, None
        if run is None:
            return
        run.over = True
        if run.waiting:
            with self._lock:
                for at in list(run.busy):
                    process = self._processes[at]
                    if process is not None:
                        process.kill()
        for _ in run.threads:
            run.tasks.put(None)
        for thread in run.threads:
            thread.join()

    def _feed(self, at: int, run: _Run) -> None:
        """Give worker `at` one shard after another until there are none."""
        while (task := run.tasks.get()) is not None and not run.over:
            ticket, shard = task
            run.busy.add(at)
            try:
                run.done.put((ticket, self._try(at, run, shard)))
            except BaseException as error:
                run.done.put((ticket, error))
                return
            finally:
                run.busy.discard(at)

    def _try(self, at: int, run: _Run, shard: Any) -> Answer:
        """Return a worker's answer to a shard."""
        ending = ""
        for _ in range(_OPENINGS):
            process = self._alive(at)
            if self._opened[at] is not run:
                opened = _ask(process, run.opening(self._devices[at]))
                if isinstance(opened, (Mendable, Failed)):
                    return opened
                if opened is not None:
                    self._opened[at] = run
            if self._opened[at] is run:
                return _ask(process, pack(shard)) or Died(_ending(process.wait()))
            ending = _ending(process.wait())
            if run.over:
                return Died("nobody waits for it")
        raise WorkerError(f"a worker process ended before it began ({ending}); its own message stands above")

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
    """One job: what is to be done, what is done, and who is at it."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.tasks: _Queue = _Queue()
        self.done: _Queue = _Queue()
        self.threads: list[threading.Thread] = []
        self.busy: set[int] = set()
        self.waiting = 0
        """Shards that were given out and not answered yet."""
        self.over = False

    def opening(self, device: str) -> bytes:
        """Return the message that opens the job in a worker."""
        return pack(Opening(device, self._job))


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


def _ask(process: _Process, content: bytes) -> Done | Mendable | Failed | None:
    """Send a message and return the answer, or None if the worker died."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        write_message(process.stdin, content)
    except BrokenPipeError:
        return None
    found = read_message(process.stdout)
    if found is None:
        return None
    said = unpack(found)
    assert isinstance(said, (Done, Mendable, Failed))
    return said


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
