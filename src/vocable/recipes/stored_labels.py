"""Labelling frames that were dumped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import shard_bounds
from vocable.audio.manifest import Manifest
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.features.store import StoredFrames
from vocable.recipes.dumped import Origin, require_one_manifest
from vocable.units.labelling import units_header
from vocable.units.units import Sequence, UnitsHeader, unit_type

_FRAMES_IN_BLOCK = 200_000


@dataclass(frozen=True)
class StoredLabels:
    """The labels of the shards of dumped frames, as far as they are made."""

    finished: Finished[_Rows]
    codebook: Codebook

    @property
    def missing(self) -> int:
        """Blocks that other parts of the work have still to do."""
        return self.finished.missing

    def header(self, rows: Manifest | None) -> UnitsHeader:
        """Return what label files say of them, if these are their rows."""
        return units_header(self.codebook, None if rows is None else rows.digest)

    def sequences(self) -> Iterator[Sequence]:
        """Yield the units of each utterance, in order."""
        dtype = np.dtype(unit_type(len(self.codebook))).newbyteorder("<")
        for block, _, content in self.finished.results():
            ends = np.cumsum(block.lengths, dtype=np.int64)
            yield from np.split(np.frombuffer(content, dtype=dtype), ends[:-1])


def label_stores(
    stores: list[StoredFrames], origins: list[Origin], codebook: Codebook, engine: Engine, folder: Path
) -> StoredLabels:
    """Label this run's part of the utterances of some stores.

    Args:
        stores: shards of dumped frames.
        origins: where each comes from.
        codebook: to label with.
        engine: runs the work.
        folder: where finished blocks are kept.

    Raises:
        MismatchError: the frames are not those the codebook is for, or are normalised by other statistics of speakers.
    """
    require_one_manifest(stores, origins)
    for store, origin in zip(stores, origins, strict=True):
        if origin.spec is not None and codebook.spec is not None:
            codebook.spec.require_equal(origin.spec, "the codebook", str(store.path))
        if store.dim != codebook.centroids.shape[1]:
            raise MismatchError(
                f"{store.path} has {store.dim} values a frame, the codebook's centroids {codebook.centroids.shape[1]}: "
                "use the codebook made for these frames"
            )
    _require_speakers(stores, origins, codebook)
    blocks = [block for store in stores for block in _cut(store)]
    mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
    job = _LabelRows(codebook, sum(int(block.size) for block in blocks[mine]) // max(1, engine.work.here))
    if len(blocks[mine]) < 2:
        engine = Engine(replace(engine.work, workers=1))  # before a worker had started, this process is done with a block
    with progress("label frames", sum(block.size for block in blocks[mine]), "frames") as shown:
        finished = Stage("stored units", codebook.digest, folder).run(job, blocks, engine, shown, mine)
    for block, reason in finished.given_up():
        raise InputError(f"utterances {block.first + 1} to {block.last} of {block.npy} could not be labelled: {reason}")
    return StoredLabels(finished, codebook)


def _require_speakers(stores: list[StoredFrames], origins: list[Origin], codebook: Codebook) -> None:
    """Refuse frames that are normalised by other statistics of speakers than the codebook's.

    Raises:
        MismatchError: says what to do.
    """
    if not codebook.normalization.by_speaker:
        return
    mine = codebook.normalization.speakers_digest
    if mine is None:
        warnings.warn(
            "the codebook holds no statistics of speakers, so that nothing tells whether frames are normalised by those it was "
            "fitted with: fit it again",
            stacklevel=3,
        )
        return
    for store, origin in zip(stores, origins, strict=True):
        if origin.spec is not None and origin.speakers != mine:
            what = "doesn't say by which statistics of speakers its frames are normalised"
            if origin.speakers is not None:
                what = "has frames normalised by other statistics of speakers than the codebook's"
            raise MismatchError(
                f"{store.path} {what}: label the audio, to which the codebook applies its own, or fit a codebook to these frames"
            )


@dataclass(frozen=True)
class _Rows:
    """Utterances first … last - 1 of a store; progress counts frames."""

    npy: Path
    store: str
    """Digest of the store."""
    first: int
    last: int
    lengths: tuple[int, ...]

    @property
    def size(self) -> float:
        return float(sum(self.lengths))

    @property
    def content(self) -> str:
        return digest_of([self.store, self.first, self.last])


@dataclass(frozen=True)
class _LabelRows:
    """A job: label a run of stored utterances."""

    codebook: Codebook
    frames: int
    """About how many a worker has to label."""

    def open(self, device: str) -> Callable[[_Rows], Payload]:
        label = labeller_for(device, self.frames)(self.codebook.centroids)
        dtype = np.dtype(unit_type(len(self.codebook))).newbyteorder("<")
        opened = cache(StoredFrames)

        def run(rows: _Rows) -> Payload:
            store = opened(rows.npy)
            frames = store.array[store.span(rows.first)[0] : store.span(rows.last - 1)[1]]
            if not np.isfinite(frames.sum(dtype=np.float64)):
                where = f"between utterances {rows.first + 1} and {rows.last}"
                raise MismatchError(f"{rows.npy} holds NaN or infinite frames {where}: dump it again")
            return label(frames).astype(dtype).tobytes(), {}

        return run


def _cut(store: StoredFrames) -> Iterator[_Rows]:
    content, path = store.content, store.path.absolute()
    first, frames = 0, 0
    lengths = store.lengths.tolist()
    for at, length in enumerate(lengths):
        frames += length
        if frames >= _FRAMES_IN_BLOCK or at == len(lengths) - 1:
            yield _Rows(path, content, first, at + 1, tuple(lengths[first : at + 1]))
            first, frames = at + 1, 0
