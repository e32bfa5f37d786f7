"""Being asked to end: what was learnt is written first."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vocable.errors import VocableError


class InterruptedTraining(VocableError):
    """Somebody asked the process to end; all that was learnt is in a checkpoint."""


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Give an event that is set by SIGTERM, which schedulers send before they kill, or by Ctrl-C; a second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, _: object) -> None:
        asked.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            print("ending after this step, with a checkpoint; Ctrl-C again ends at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
