"""The folder of a training: whether it is done, and when what stands in it may go."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocable.artefacts.headers import read_header, write_header
from vocable.errors import InputError

_FORM = "vocable.done/1"
_PATIENCE = 10.0
"""Seconds in which a process that was killed may still hold a folder."""


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder as long as this process lives; the first of those that train together calls it.

    Raises:
        InputError: another one trains there.
    """
    with (folder / ".lock").open("a") as lock:
        waited = time.monotonic()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - waited > _PATIENCE:
                    raise InputError(f"another process trains in {folder}: wait for it, or end it first") from None
                time.sleep(0.1)
            except OSError:
                break  # a disk without locks
        yield


class RunFolder:
    """Knows what a training leaves beside its checkpoints.

    Args:
        path: of the folder.
        identity: digest of what the training depends on.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity
        self._done = path / "done.json"

    def is_done(self) -> bool:
        """Tell whether this very training came to its end before, and its model stands."""
        if not self._done.is_file() or not (self._path / "model").is_dir():
            return False
        return read_header(self._done, _FORM).get("identity") == self._identity

    def note_done(self, step: int) -> None:
        """Note that the training came to its end."""
        write_header(self._done, {"format": _FORM, "identity": self._identity, "step": step})

    def begin_anew(self, overwrite: bool) -> None:
        """Remove what another training left, or this one before its first checkpoint.

        Raises:
            InputError: it would be a model, and `overwrite` isn't given.
        """
        models = [self._path / name for name in ("model", "best") if (self._path / name).is_dir()]
        if models and not overwrite:
            raise InputError(
                f"{models[0]} is of a training that can't go on, since it has other settings or data, or its checkpoints are "
                "gone: give another folder, or --overwrite to begin anew"
            )
        for file in (self._path / "metrics.jsonl", self._done):
            file.unlink(missing_ok=True)
        for model in models:
            shutil.rmtree(model, ignore_errors=True)
