"""Long work shows itself: a bar on a terminal, a line every thirty seconds elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

LINE_EVERY = 30.0  # seconds


class Progress:
    """Counts what was worked through, seconds of audio or things, and prints a line now and then."""

    def __init__(self, title: str, total: float, unit: str, stream: IO[str]) -> None:
        self._title, self._total, self._unit, self._stream = title, total, unit, stream
        self._done = 0.0
        self._remark = ""
        self._start = self._last = time.monotonic()

    def advance(self, amount: float) -> None:
        """Count work that was done now."""
        self._done += amount
        now = time.monotonic()
        if now - self._last >= LINE_EVERY:
            self._last = now
            line = status_line(self._title, self._done, self._total, now - self._start, self._unit)
            print(line + self._remark, file=self._stream, flush=True)

    def pass_over(self, amount: float) -> None:
        """Count work that an earlier run did, which must not make this one look faster."""
        self._total -= amount

    def remark(self, text: str) -> None:
        """Say more of the work beside how far it has come, from the next line on."""
        self._remark = f"; {text}"

    def note(self, line: str) -> None:
        """Show how far work has come that has no known end."""
        now = time.monotonic()
        if now - self._last >= LINE_EVERY:
            self._last = now
            print(f"{self._title}: {line}", file=self._stream, flush=True)


class _Bar(Progress):
    """The same on a terminal, as a bar."""

    def __init__(self, title: str, total: float, unit: str, stream: IO[str]) -> None:
        super().__init__(title, total, unit, stream)
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Shown

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}")
        self.shown = Shown(*columns, console=Console(file=stream), transient=True)
        self._task = self.shown.add_task(title, total=total or 1.0, status="")

    def advance(self, amount: float) -> None:
        self._done += amount
        elapsed = time.monotonic() - self._start
        rate, left = _rate(self._done, elapsed, self._unit), _left(self._done, self._total, elapsed)
        status = f"{_part(self._done, self._total):.0%}, {rate}, {left}{self._remark}"
        self.shown.update(self._task, advance=amount, status=status)

    def pass_over(self, amount: float) -> None:
        super().pass_over(amount)
        self.shown.update(self._task, total=max(self._total, 1e-9))

    def note(self, line: str) -> None:
        self.shown.update(self._task, total=None, status=line)


@contextmanager
def progress(title: str, total: float, unit: str = "audio", stream: IO[str] | None = None) -> Iterator[Progress]:
    """Show the progress of work on `total` seconds of audio, or things of another unit, while the block runs."""
    stream = stream or sys.stderr or io.StringIO()  # a process may have no standard error
    if not stream.isatty():
        yield Progress(title, total, unit, stream)
        return
    bar = _Bar(title, total, unit, stream)
    with bar.shown:
        yield bar


def status_line(title: str, done: float, total: float, elapsed: float, unit: str = "audio") -> str:
    """Return a line such as "units: 45%, 12.3 of 27.1 h of audio, 850 audio-hours per hour, 1 min left"."""
    amount = f"{done / 3600:.1f} of {total / 3600:.1f} h of audio" if unit == "audio" else f"{done:,.0f} of {total:,.0f} {unit}"
    return f"{title}: {_part(done, total):.0%}, {amount}, {_rate(done, elapsed, unit)}, {_left(done, total, elapsed)}"


def _part(done: float, total: float) -> float:
    return done / total if total > 0 else 1.0


def _left(done: float, total: float, elapsed: float) -> str:
    return duration((total - done) / done * elapsed) + " left" if done > 0 else "time unknown"


def _rate(done: float, elapsed: float, unit: str) -> str:
    rate = done / max(elapsed, 1e-9)
    if unit == "audio":
        return f"{rate:,.0f} audio-hours per hour"
    return f"{rate:,.0f} {unit} a second" if rate >= 10 else f"{rate:.2g} {unit} a second"


def duration(seconds: float) -> str:
    """Return a rounded duration: "40 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
