"""Micro-batches made ahead of the steps that need them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Self

from vocable.training.objective import Data, Made


class Loader:
    """Makes micro-batches in threads, a few ahead of whoever takes them; they come in the order of their positions.

    Args:
        data: what makes them.
        positions: of those that are wanted.
        threads: how many are made at once.
        ahead: how many are made before they are asked for, at least: as many as are taken in a row.
        pinned: whether a GPU is to take them.
    """

    def __init__(self, data: Data, positions: Iterable[int], threads: int = 2, ahead: int = 1, pinned: bool = False) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._data, self._positions = data, iter(positions)
        self._coming: deque[Future[Made]] = deque()
        self._ahead, self._pinned = max(2 * threads, ahead), pinned
        self.waited = 0.0
        """Seconds that somebody waited for a micro-batch."""

    def __enter__(self) -> Self:
        self._fill()
        return self

    def __exit__(self, *details: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        """Return the next micro-batch.

        Raises:
            StopIteration: all positions are made.
        """
        self._fill()
        if not self._coming:
            raise StopIteration
        begun = time.monotonic()
        made = self._coming.popleft().result()
        self.waited += time.monotonic() - begun
        return made

    def _fill(self) -> None:
        while len(self._coming) < self._ahead:
            position = next(self._positions, None)
            if position is None:
                return
            self._coming.append(self._threads.submit(self._make, position))

    def _make(self, position: int) -> Made:
        made = self._data.make(position)
        return replace(made, batch=made.batch.pinned()) if self._pinned else made
