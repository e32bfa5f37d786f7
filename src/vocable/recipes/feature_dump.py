"""Frames to disk, in fairseq's format, for whoever asks for them.

Each utterance's number of frames follows from its length, so its place in the file is known beforehand: workers write their
blocks straight into a part file, and a block that is written twice has the same bytes. The file gets its name when it is whole.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocable.artefacts.headers import write_header
from vocable.artefacts.writing import replacing, space_checked, writer_name
from vocable.audio.blocks import Block, BlockShard, blocks_of
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.errors import InputError, VocableError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.features.normalization import Moments
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.features.speaker_statistics import write_speakers
from vocable.features.store import has_room, length_file, make_room, npy_header, read_lengths, write_lengths, write_rows
from vocable.recipes.companion_manifest import manifest_files, possible_manifest_files, write_manifest_beside
from vocable.recipes.dumped import Origin, origin_of, speakers_file
from vocable.recipes.workplace import Claim


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
    judge: Callable[[list[Skipped]], None],
    whole: Manifest,
    overwrite: bool = False,
) -> Dumped:
    """Write the frames of a manifest to `npy`, with `.len`, the manifest of the rows that have frames, and a header beside it.

    Args:
        manifest: all its rows are wanted.
        pipeline: makes the frames.
        engine: runs the work.
        npy: where the frames go.
        folder: where the work is kept until it is whole.
        judge: told what has to be left out, before the frames get their name; may raise.
        whole: the manifest of which this is a shard, or this one.
        overwrite: replace frames of something else.

    Raises:
        DiskFullError: the next run goes on with what is missing.
        InputError: frames of something else stand there, or a file changed meanwhile; or what `judge` raises.
    """
    blocks = list(blocks_of(manifest))
    claim = claim_on_frames(manifest, pipeline, engine.work.kind, npy, folder, whole)
    while True:
        if claim.is_settled() and (standing := _standing(npy)) is not None:
            judge(standing.skipped)
            return standing
        claim.check(overwrite)
        try:
            return _dump(manifest, blocks, pipeline, engine, npy, claim, judge, whole, overwrite)
        except _PartGoneError:
            continue  # another process has finished the same dump, or cleared it away


def claim_on_frames(manifest: Manifest, pipeline: FramePipeline, kind: str, npy: Path, folder: Path, whole: Manifest) -> Claim:
    """Return the claim on the frames of a manifest; `kind` is that of the devices, the rest as `dump_frames` takes it."""
    made_from = {"frames": pipeline.key, "device": kind, "audio": manifest.state, "whole": whole.digest}
    files = [*_frame_files(npy), *manifest_files(npy.with_suffix(""), manifest)]
    if _speakers_of(manifest, pipeline):
        files.append(speakers_file(npy))
    companions = [*possible_manifest_files(npy.with_suffix("")), speakers_file(npy)]
    return Claim.of(folder, f"frames-{npy.stem}", made_from, files, companions=companions)


def stand(npy: Path, claim: Claim) -> bool:
    """Tell whether frames stand as they were dumped, made from what their claim says."""
    return all(map(claim.stands, _frame_files(npy)))


def _speakers_of(manifest: Manifest, pipeline: FramePipeline) -> dict[str, Moments]:
    """Return the statistics that frames are normalised by of those who speak in a shard: together, shards have all."""
    here = set(manifest.speakers or ())
    return {name: moments for name, moments in pipeline.normalization.speakers.items() if name in here}


def _frame_files(npy: Path) -> list[Path]:
    return [npy.with_suffix(".json"), npy, length_file(npy)]


def _standing(npy: Path) -> Dumped | None:
    """Return what stands there, if it is whole."""
    origin = origin_of(npy)
    if origin.spec is None or not has_room(npy, origin.frames or 0, origin.spec.dim):
        return None
    return Dumped(npy, len(read_lengths(length_file(npy))), origin.frames or 0, list(origin.skipped), was_done=True)


def _dump(
    manifest: Manifest,
    blocks: list[Block],
    pipeline: FramePipeline,
    engine: Engine,
    npy: Path,
    claim: Claim,
    judge: Callable[[list[Skipped]], None],
    whole: Manifest,
    overwrite: bool,
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
    judge(list(skipped.values()))
    kept = [row for row in range(len(manifest)) if row not in skipped]
    chosen = manifest.select(kept) if skipped else manifest
    # What killed its worker is tried again next time.
    with claim.taken(overwrite, lasting=not any(finished.given_up())) as staged:
        place = staged / npy.name
        try:
            if skipped:
                _copy_rows(part, place, [(int(starts[row]), int(counts[row])) for row in kept], spec.dim)
            else:
                _link(part, place)
        except FileNotFoundError as error:
            raise _PartGoneError(f"{part} is gone") from error
        write_lengths(length_file(place), counts[kept])
        write_manifest_beside(place.with_suffix(""), chosen)
        if speakers := _speakers_of(manifest, pipeline):
            write_speakers(speakers_file(place), speakers)
        origin = Origin(
            spec,
            pipeline.normalization,
            chosen.digest,
            whole.digest,
            len(whole),
            int(counts[kept].sum()),
            tuple(sorted(skipped.values())),
            pipeline.normalization.speakers_digest,
        )
        write_header(place.with_suffix(".json"), origin.to_json())
    for path in (part, *_parts(claim.folder, npy.stem)):  # those of other settings are of no use any more either
        path.unlink(missing_ok=True)
    return Dumped(npy, len(kept), int(counts[kept].sum()), sorted(skipped.values()))


_KEY = 16  # digits of the claim's key in the name of a part


class _PartGoneError(VocableError):
    """The file under way was moved into place, or removed, by another process."""


def _part(claim: Claim, stem: str, rows: int, dim: int) -> Path:
    """Return the part file of an earlier run, or a new one with room for all frames. No part is ever filled up again."""
    name = f"{stem}-{claim.key[:_KEY]}-"
    for found in _parts(claim.folder, stem):
        if found.name.startswith(name) and has_room(found, rows, dim):
            return found
    part = claim.folder / f"{name}{writer_name()}.npy"
    make_room(part, rows, dim)
    return part


def _parts(folder: Path, stem: str) -> list[Path]:
    """Return all part files of frames of a name, whatever they are made from."""
    return sorted(folder.glob(f"{glob.escape(stem)}-{'[0-9a-f]' * _KEY}-*.npy"))


def _link(part: Path, place: Path) -> None:
    """Give the part its name, and keep it until the header stands there too."""
    try:
        os.link(part, place)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without links, or another one
        shutil.move(part, place)


@dataclass(frozen=True)
class _Placed(BlockShard):
    """A block with its first row in the file."""

    start: int


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
                        count = spec.frame_count(item.samples)
                        if row in frames:
                            if len(frames[row]) != count:
                                raise InputError(
                                    f"{placed.block.where(item)} changed while it was dumped: run the same command again"
                                )
                            write_rows(file, at, frames[row])
                        at += count
                    file.flush()
                    os.fsync(file.fileno())  # the ledger must not say so before, should the machine fail
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
