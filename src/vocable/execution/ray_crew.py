"""A `Crew` of Ray's worker processes, on this machine or on a cluster.

Shards are stateless tasks, which Ray tries once: whoever supervises knows better what to try again. A job is put into the object
store once; a process that has opened it keeps it for the next shard.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Self

from vocable.artefacts.run_log import version_of
from vocable.errors import InputError, WorkerError
from vocable.execution import ray_tasks
from vocable.execution.crew import Answer, Died, Gone
from vocable.execution.messages import pack, unpack
from vocable.execution.pool import THREAD_LIMITS

_STORE = 128 << 20
"""Bytes of Ray's object store where we start it: jobs and summaries pass through it, frames don't."""
_COUNT_AGAIN = 5.0  # seconds after which the cluster's processors are counted again: nodes come and go
_A_GPU = 2  # shards at a time, so that one decodes while the other computes
_KNOCK = 10.0  # seconds to wait for a cluster's answer
_SILENCE = 30.0  # seconds after which a cluster that runs nothing is spoken of


class RayCrew:
    """Ray's worker processes. Use as a context manager: leaving it disconnects.

    Args:
        workers: shards at a time, at the most; as many as the cluster can take if they are fewer.
        device: `cpu`, or `cuda`, of which each task then has half a GPU.
        address: of a cluster: `auto` or `host:port`; without, one is started on this machine for as long as this lasts.

    Raises:
        InputError: Ray isn't installed, the cluster can't be reached, or it has no such device.
    """

    title = "worker process"
    uneven = True

    def __init__(self, workers: int, device: str, address: str | None) -> None:
        self._ray = _ray(address)
        self._workers = workers
        self._device = device.partition(":")[0]
        _connect(self._ray, workers, address)
        self._needs = {"num_cpus": 1.0} if self._device == "cpu" else {"num_cpus": 1.0 / _A_GPU, "num_gpus": 1.0 / _A_GPU}
        self._counted, self._slots = -1e9, 1
        try:
            self._check_devices(address)
        except InputError:
            self._ray.shutdown()
            raise
        self._task = self._ray.remote(ray_tasks.work).options(max_retries=0, **self._needs)
        self._tickets: dict[Any, int] = {}
        self._job: tuple[str, Any] | None = None
        self._heard = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._ray.shutdown()

    def begin(self, job: Any) -> None:
        """Take up a job."""
        self._job = (uuid.uuid4().hex, self._ray.put(pack(job)))

    def slots(self) -> int:
        """Return how many shards the cluster does at a time, as it is now."""
        if time.monotonic() - self._counted > _COUNT_AGAIN:
            there = self._ray.cluster_resources()
            fit = [int(there.get({"num_cpus": "CPU", "num_gpus": "GPU"}[name], 0) / part) for name, part in self._needs.items()]
            self._slots, self._counted = max(1, min(self._workers, *fit)), time.monotonic()
        return self._slots

    def give(self, ticket: int, shard: Any) -> None:
        """Give out a shard as a task."""
        assert self._job is not None
        key, job = self._job
        if not self._tickets:
            self._heard = time.monotonic()
        task = self._task.remote(key, version_of("vocable"), _Fetched(job), self._device, pack(shard))
        self._tickets[task] = ticket

    def hear(self, timeout: float | None) -> tuple[int, Answer] | None:
        """Return what is said of the task that is ready first."""
        if not self._tickets:
            time.sleep(timeout or 0.0)
            return None
        ready, _ = self._ray.wait(list(self._tickets), num_returns=1, timeout=_SILENCE if timeout is None else timeout)
        if not ready:
            self._complain()
            return None
        self._heard = time.monotonic()
        return self._tickets.pop(ready[0]), self._said(ready[0])

    def end(self) -> None:
        """Leave the job: what is still under way is cancelled."""
        for task in self._tickets:
            self._ray.cancel(task, force=True)
        self._tickets.clear()
        self._job = None

    def _said(self, task: Any) -> Answer:
        faults = self._ray.exceptions
        try:
            said: Answer = unpack(self._ray.get(task))
        except (faults.NodeDiedError, faults.ObjectLostError, faults.LocalRayletDiedError, faults.RayTaskError) as error:
            if isinstance(error, faults.RayTaskError):
                raise WorkerError(f"Ray couldn't run a task:\n{error}") from error
            return Gone(_first_line(error))
        except faults.OutOfMemoryError:
            return Died("Ray ended it for want of memory")
        except faults.WorkerCrashedError as error:
            return Died(_first_line(error))
        except faults.RayError as error:
            return Gone(_first_line(error))
        return said

    def _check_devices(self, address: str | None) -> None:
        there = self._ray.cluster_resources()
        if self._device != "cpu" and there.get("GPU", 0) < 1:
            where = "this machine" if address is None else f"the cluster at {address}"
            raise InputError(f"--device {self._device}: {where} has no GPU that Ray knows of; --device cpu always works")

    def _complain(self) -> None:
        """Say that nothing has ended for long, and what is free."""
        now = time.monotonic()
        if now - self._heard < _SILENCE:
            return
        self._heard = now
        there = self._ray.cluster_resources()
        shown = ", ".join(f"{there.get(name, 0):g} {name}" for name in ("CPU", "GPU") if there.get(name, 0))
        print(f"waiting for {len(self._tickets)} tasks; the cluster has {shown or 'no processor'} at the moment", file=sys.stderr)


class _Fetched:
    """A reference to a job that a task follows only where it has to: Ray would fetch it for each."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __call__(self) -> bytes:
        import ray

        content: bytes = ray.get(self._reference)
        return content


def _ray(address: str | None) -> Any:
    """Return Ray, told who may talk to it; it listens to that only while it is imported.

    Raises:
        InputError: it isn't installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
    if "ray" not in sys.modules and address is None:
        # Whoever else is on this machine has no part in a cluster that we start.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    elif "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
        there = (Path.home() / ".ray" / "auth_token").exists()
        os.environ["RAY_AUTH_MODE"] = "token" if named or there else "disabled"
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install 'vocable[ray]'") from error
    return ray


def _connect(ray: Any, workers: int, address: str | None) -> None:
    """Connect to a cluster, or start one on this machine that ends with this process.

    Raises:
        InputError: there is none at the address.
    """
    common: dict[str, Any] = {
        "log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": dict(THREAD_LIMITS)},
    }  # fmt: skip
    if ray.is_initialized():  # whoever did that will end it
        raise InputError("Ray is connected already in this process: leave that to --engine ray")
    if address is None:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE, **common)
        return
    try:
        _knock(address)
        ray.init(address=address, **common)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--address {address}: {_first_line(error)}; start a cluster with `ray start --head`, or leave "
                         "--address out to have one started here") from error  # fmt: skip


def _knock(address: str) -> None:
    """Refuse an address where nobody listens at once; Ray would go on trying for minutes.

    Raises:
        OSError, ValueError: nobody listens, or it is no address.
    """
    host, colon, port = address.rpartition(":")
    if colon and not address.startswith("ray://"):
        socket.create_connection((host, int(port)), _KNOCK).close()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
