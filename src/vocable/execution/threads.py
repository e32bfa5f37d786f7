"""One BLAS thread where the last bits matter: with several, a matrix product is cut differently and rounds differently."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_limits: Any = None


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let NumPy's matrix products use one thread while the block runs, whatever the process is set to.

    The setting is the whole process's: the first thread to come in changes it, and the last to leave changes it back.
    """
    global _inside, _limits  # noqa: PLW0603
    with _lock:
        if not _inside:
            _take_control()
            _limits = _blas().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _take_control()
                _limits.restore_original_limits()
                _take_control()


_torch_inside = 0
_torch_threads = 1


@contextmanager
def torch_single_threaded() -> Iterator[None]:
    """Let torch's operations on the CPU use one thread while the block runs; the setting is the whole process's, as above."""
    global _torch_inside, _torch_threads  # noqa: PLW0603
    import torch

    with _lock:
        if not _torch_inside:
            _torch_threads = torch.get_num_threads()
            torch.set_num_threads(1)
        _torch_inside += 1
    try:
        yield
    finally:
        with _lock:
            _torch_inside -= 1
            if not _torch_inside:
                torch.set_num_threads(_torch_threads)


def _take_control() -> None:
    """Let this thread change the setting: threadpoolctl passes over what other threads than the first one to do so ask for."""
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@cache
def _blas() -> ThreadpoolController:
    import numpy as np  # noqa: F401 (the libraries are found among those that are loaded)

    return ThreadpoolController().select(user_api="blas")
