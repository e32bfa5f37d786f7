"""Where a fit stands after each pass, kept in a small file, so that a killed fit loses one pass at most.

Whoever keeps the result removes the file then: until that is written, the passes are all there is of it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vocable.artefacts.tensors import read_tensors, write_tensors
from vocable.clustering.trajectory import Progress
from vocable.errors import InputError

_FORMAT = "vocable.fit-state/3"
_EVERY = 2.0  # seconds; shorter passes are cheaper to repeat than to keep


class FitState:
    """The file.

    Args:
        path: of the file.
        key: digest of what is fitted to what; the progress of another fit is passed over, and replaced.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._last = time.monotonic()
        self._waiting: Progress | None = None

    def read(self) -> Progress | None:
        """Return what an earlier run of the same fit left, if anything."""
        if not self._path.exists():
            return None
        try:
            tensors, header = read_tensors(self._path, _FORMAT)
            if header.get("key") != self._key:
                return None
            return Progress(
                level=header["level"],
                centroids=tensors["centroids"],
                means=tensors["means"],
                steady=tensors["steady"].astype(np.bool_),
                history=header["history"],
                extrapolated=header["extrapolated"],
                ending=header["ending"],
            )
        except (InputError, KeyError):
            return None  # it only saves time

    def write(self, progress: Progress) -> None:
        """Keep the progress, unless it was kept a moment ago: then `flush` does."""
        self._waiting = progress
        if time.monotonic() - self._last >= _EVERY:
            self.flush()

    def flush(self) -> None:
        """Keep the progress that `write` was given last, if it isn't kept yet."""
        progress, self._waiting = self._waiting, None
        if progress is None:
            return
        self._last = time.monotonic()
        write_tensors(
            self._path,
            {"centroids": progress.centroids, "means": progress.means, "steady": progress.steady.astype(np.uint8)},
            {
                "format": _FORMAT,
                "key": self._key,
                "level": progress.level,
                "history": progress.history,
                "extrapolated": progress.extrapolated,
                "ending": progress.ending,
            },
        )
