"""One BLAS thread where the last bits matter: with several, a matrix product is cut differently and rounds differently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let NumPy's matrix products use one thread while the block runs, whatever the process is set to."""
    with _blas().limit(limits=1):
        yield


@cache
def _blas() -> ThreadpoolController:
    import numpy as np  # noqa: F401 (the libraries are found among those that are loaded)

    return ThreadpoolController().select(user_api="blas")
