"""Labelling frames that were dumped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocable.artefacts.headers import digest_of
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.errors import MismatchError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.features.store import StoredFrames
from vocable.recipes.feature_dump import origin_of
from vocable.units.label_files import text_writer
from vocable.units.labelling import units_header
from vocable.units.units import unit_type

_FRAMES_IN_BLOCK = 200_000


@dataclass(frozen=True)
class _Rows:
    """Utterances first … last - 1 of a store; progress counts frames."""

    index: int
    first: int
    last: int
    size: float


@dataclass(frozen=True)
class _LabelRows:
    """A job: label a run of stored utterances."""

    npy: Path
    codebook: Codebook

    def open(self, device: str) -> Callable[[_Rows], Payload]:
        label = labeller_for(device)(self.codebook.centroids)
        store = StoredFrames(self.npy)
        ends = np.cumsum(store.lengths)
        dtype = np.dtype(unit_type(len(self.codebook))).newbyteorder("<")

        def run(rows: _Rows) -> Payload:
            start = int(ends[rows.first] - store.lengths[rows.first])
            frames = store.array[start : int(ends[rows.last - 1])]
            if not np.isfinite(frames).all():
                raise MismatchError(
                    f"{self.npy} holds NaN or infinite frames between utterances {rows.first + 1} and {rows.last}: dump it again"
                )
            return label(frames).astype(dtype).tobytes(), {"first": rows.first, "last": rows.last}

        return run


def label_store(npy: Path, codebook: Codebook, engine: Engine, km: Path, folder: Path) -> int:
    """Label the utterances of a store and write a label file, one utterance a line; return the number of utterances.

    Raises:
        MismatchError: the frames are not those the codebook is for.
    """
    store = StoredFrames(npy)
    origin = origin_of(npy)
    if origin.spec is not None and codebook.spec is not None:
        codebook.spec.require_equal(origin.spec, "the codebook", str(npy))
    if store.dim != codebook.centroids.shape[1]:
        raise MismatchError(
            f"{npy} has {store.dim} values a frame, the codebook's centroids {codebook.centroids.shape[1]}: "
            "use the codebook made for these frames"
        )
    status = npy.stat()
    stage = Stage("stored units", digest_of([npy.name, status.st_size, status.st_mtime_ns, codebook.digest]), folder)
    with progress(km.stem, float(len(store.array)), "frames") as shown:
        finished = stage.run(_LabelRows(npy.absolute(), codebook), _cut(store), engine, shown)
    if finished.died:
        raise MismatchError(f"{npy} could not be labelled: {next(iter(finished.died.values()))[1]}")
    dtype = np.dtype(unit_type(len(codebook))).newbyteorder("<")
    with text_writer(km, units_header(codebook, origin.manifest)) as write:
        for entry, content in finished.results():
            lengths = store.lengths[entry.summary["first"] : entry.summary["last"]]
            for units in np.split(np.frombuffer(content, dtype=dtype), np.cumsum(lengths)[:-1]):
                write(units)
    return len(store)


def _cut(store: StoredFrames) -> list[_Rows]:
    blocks: list[_Rows] = []
    first, frames = 0, 0
    for at, length in enumerate(store.lengths.tolist()):
        frames += length
        if frames >= _FRAMES_IN_BLOCK or at == len(store) - 1:
            blocks.append(_Rows(len(blocks), first, at + 1, float(frames)))
            first, frames = at + 1, 0
    return blocks
