"""What a process of a Ray cluster runs: one shard of a job, which is opened once in each process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from vocable.artefacts.run_log import version_of
from vocable.errors import InputError
from vocable.execution.crew import answer, packed
from vocable.execution.memory import keep_freed_memory
from vocable.execution.messages import unpack

_opened: tuple[str, Callable[[Any], Any]] | None = None


def work(key: str, version: str, job_of: Callable[[], bytes], device: str, content: bytes) -> bytes:
    """Return what is said of a shard, packed.

    Args:
        key: of the job; what was opened under it is taken.
        version: of the package that made the job.
        job_of: returns the job, packed.
        device: to open it on.
        content: the shard, packed.
    """
    return packed(answer(lambda shard: _function(key, version, job_of, device)(unpack(shard)), content))


def _function(key: str, version: str, job_of: Callable[[], bytes], device: str) -> Callable[[Any], Any]:
    global _opened  # noqa: PLW0603 (Ray keeps processes, and calls functions)
    if _opened is None or _opened[0] != key:
        _opened = None  # what the last job loaded goes first
        if (here := version_of("vocable")) != version:
            raise InputError(
                f"{socket.gethostname()} has vocable {here}, and this run is of {version}: install one version everywhere"
            )
        keep_freed_memory()
        _opened = (key, unpack(job_of()).open(device))
    return _opened[1]
