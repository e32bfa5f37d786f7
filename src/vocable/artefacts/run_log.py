"""`run.jsonl`: when, where and with which versions a run was made; kept apart, so that artefacts hold none of it."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vocable.artefacts.writing import space_checked


class RunLog:
    """Appends one JSON line per event to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def event(self, name: str, **details: Any) -> None:
        """Append an event with its time in seconds since 1970."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": name, "time": round(time.time(), 3), **details}, ensure_ascii=False, default=str)
        with space_checked(self.path), self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Append what a reader needs to repeat the run, and when and how it ended."""
        self.event(
            "start",
            command=sys.argv,
            host=platform.node(),
            machine=platform.machine(),
            python=sys.version.split()[0],
            versions={name: version_of(name) for name in ("vocable", "numpy", "soundfile", "soxr", "safetensors", "torch")},
        )
        begun = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.event("failed", seconds=round(time.monotonic() - begun, 3), error=f"{type(error).__name__}: {error}")
            raise
        self.event("end", seconds=round(time.monotonic() - begun, 3))


def version_of(package: str) -> str | None:
    """Return which version of a package is installed."""
    from importlib import metadata  # slow to import, and few commands keep a log

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
