"""Frames to disk, in fairseq's format, for whoever asks for them.

Each utterance's number of frames follows from its length, so its place in the file is known beforehand: workers write their
blocks straight into a part file, and a block that is written twice has the same bytes. The file gets its name when it is whole.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocable.artefacts.headers import Header, write_header
from vocable.artefacts.writing import replacing, space_checked, writer_name
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import write_manifest
from vocable.errors import VocableError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.features.store import has_room, length_file, make_room, npy_header, write_lengths, write_rows
from vocable.recipes.dumped import FORMAT, read_origin
from vocable.recipes.labels import manifest_name
from vocable.recipes.workplace import Claim

_ALIGNED = "features must line up with the manifest's rows, so mend the file or remove its row"


@dataclass(frozen=True)
class Dumped:
    """Where frames were dumped, and what had to be left out."""

    npy: Path
    utterances: int
    frames: int
    skipped: list[Skipped]
    was_done: bool = False
    """They stood there already."""


def dump_frames(
    manifest: Manifest,
    pipeline: FramePipeline,
    engine: Engine,
    npy: Path,
    folder: Path,
    strict: bool = False,
    overwrite: bool = False,
    whole: str | None = None,
) -> Dumped:
    """Write the frames of a manifest to `npy`, with `.len`, the manifest of the rows that have frames, and a header beside it.

    Args:
        manifest: all its rows are wanted.
        pipeline: makes the frames.
        engine: runs the work.
        npy: where the frames go.
        folder: where the work is kept until it is whole.
        strict: leave nothing out.
        overwrite: replace frames of something else.
        whole: digest of the manifest of which this is a shard, by default of this one.

    Raises:
        DiskFullError: the next run goes on with what is missing.
        InputError: with `strict`, a row that has no frames; or frames of something else stand there.
    """
    blocks = list(blocks_of(manifest))
    made_from = {"frames": pipeline.key, "device": engine.work.kind, "audio": manifest.state, "whole": whole}
    claim = Claim.of(folder, npy.stem, made_from, _files(npy, manifest), [npy.with_suffix(".tsv"), npy.with_suffix(".csv")])
    while True:
        if claim.is_settled() and (standing := _standing(npy)) is not None:
            if strict:
                require_none(standing.skipped, remedy=_ALIGNED)
            return standing
        claim.check(overwrite)
        try:
            return _dump(manifest, blocks, pipeline, engine, npy, claim, strict, overwrite, whole)
        except _PartGoneError:
            continue  # another process has finished the same dump, or cleared it away


def _files(npy: Path, manifest: Manifest) -> list[Path]:
    return [npy, length_file(npy), npy.with_name(manifest_name(npy.stem, manifest)), npy.with_suffix(".json")]


def _standing(npy: Path) -> Dumped | None:
    """Return what stands there, if it is whole."""
    header = read_origin(npy)
    if header is None or not has_room(npy, header["frames"], header["features"]["dim"]):
        return None
    return Dumped(npy, header["utterances"], header["frames"], [Skipped(*item) for item in header["skipped"]], was_done=True)


def _dump(
    manifest: Manifest,
    blocks: list[Block],
    pipeline: FramePipeline,
    engine: Engine,
    npy: Path,
    claim: Claim,
    strict: bool,
    overwrite: bool,
    whole: str | None,
) -> Dumped:
    spec = pipeline.spec
    counts = np.array([spec.frame_count(samples) for samples in manifest.samples.tolist()], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    part = _part(claim, npy.stem, int(starts[-1]), spec.dim)
    placed = [_Placed(block, int(starts[block.first])) for block in blocks]
    with progress(npy.stem, manifest.seconds) as shown:
        # The part's own name is in the key: what was written to a part that is gone is not done.
        stage = Stage("frames", [claim.key, part.name], claim.folder)
        finished = stage.run(_WriteFrames(pipeline, part), placed, engine, shown)
    skipped = skipped_rows(finished, lambda item: item.block)
    if strict:
        require_none(list(skipped.values()), remedy=_ALIGNED)
    kept = [row for row in range(len(manifest)) if row not in skipped]
    chosen = manifest.select(kept) if skipped else manifest
    header = npy.with_suffix(".json")
    with claim.taken(overwrite, lasting=not any(finished.given_up())):  # what killed its worker is tried again next time
        # The header goes last and away first: frames never stand under one that isn't theirs. Until it is there the part stays.
        header.unlink(missing_ok=True)
        try:
            if skipped:
                _copy_rows(part, npy, [(int(starts[row]), int(counts[row])) for row in kept], spec.dim)
            else:
                _link(part, npy)
        except FileNotFoundError as error:
            raise _PartGoneError(f"{part} is gone") from error
        write_lengths(length_file(npy), counts[kept])
        write_manifest(npy.with_name(manifest_name(npy.stem, chosen)), chosen)
        write_header(
            header,
            {
                "format": FORMAT,
                "features": spec.to_json(),
                "normalization": _normalization_json(pipeline.normalization),
                "manifest": chosen.digest,
                "whole": whole or manifest.digest,
                "utterances": len(kept),
                "frames": int(counts[kept].sum()),
                "skipped": [[item.path, item.reason, item.detail] for item in sorted(skipped.values())],
            },
        )
    part.unlink(missing_ok=True)
    return Dumped(npy, len(kept), int(counts[kept].sum()), sorted(skipped.values()))


class _PartGoneError(VocableError):
    """The file under way was moved into place, or removed, by another process."""


def _part(claim: Claim, stem: str, rows: int, dim: int) -> Path:
    """Return the part file of an earlier run, or a new one with room for all frames. No part is ever filled up again."""
    name = f"{stem}-{claim.key[:16]}"
    for found in sorted(claim.folder.glob(f"{glob.escape(name)}-*.npy")):
        if has_room(found, rows, dim):
            return found
    part = claim.folder / f"{name}-{writer_name()}.npy"
    make_room(part, rows, dim)
    return part


def _link(part: Path, npy: Path) -> None:
    """Put the part in its place, and keep it until the header stands there too."""
    beside = npy.with_name(f".{npy.name[:50]}.{writer_name()}.part")
    npy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(part, beside)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without links
        part.replace(npy)
        return
    beside.replace(npy)
    beside.unlink(missing_ok=True)  # still there if both names were links to one file already


def _normalization_json(normalization: Normalization) -> Header:
    corpus = normalization.corpus
    return {"scope": normalization.scope, "corpus": None if corpus is None else [values.tolist() for values in corpus]}


@dataclass(frozen=True)
class _Placed:
    """A block with its first row in the file."""

    block: Block
    start: int

    @property
    def size(self) -> float:
        return self.block.size

    @property
    def content(self) -> str:
        return self.block.content


@dataclass(frozen=True)
class _WriteFrames:
    """A job: compute a block's frames and write them where they belong."""

    pipeline: FramePipeline
    part: Path

    def open(self, device: str) -> Callable[[_Placed], Payload]:
        frames_of = self.pipeline.open(device)
        spec = self.pipeline.spec

        def run(placed: _Placed) -> Payload:
            made = frames_of(placed.block)
            frames = dict(zip(made.rows, made.frames, strict=True))
            at = placed.start
            try:
                with space_checked(self.part), self.part.open("r+b") as file:
                    for row, item in enumerate(placed.block.utterances):
                        if row in frames:
                            write_rows(file, at, frames[row])
                        at += spec.frame_count(item.samples)
            except FileNotFoundError as error:
                raise _PartGoneError(f"{self.part} is gone") from error
            return b"", {"skipped": made.summary()}

        return run


def _copy_rows(source: Path, target: Path, ranges: list[tuple[int, int]], dim: int) -> None:
    """Write the given rows of one store to another."""
    rows = np.load(source, mmap_mode="r", allow_pickle=False) if ranges else np.empty((0, dim), dtype=np.float32)
    with replacing(target) as file:
        file.write(npy_header(sum(count for _, count in ranges), dim))
        for first, count in _joined(ranges):
            file.write(np.ascontiguousarray(rows[first : first + count]).data)


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges that follow each other, in pieces that stay small in memory."""
    largest = 1 << 16
    first, count = 0, 0
    for start, more in ranges:
        if start != first + count or count + more > largest:
            if count:
                yield first, count
            first, count = start, 0
        count += more
    if count:
        yield first, count
