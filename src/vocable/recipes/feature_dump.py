"""Frames to disk, in fairseq's format, for whoever asks for them.

Each utterance's number of frames follows from its length, so its place in the file is known beforehand: workers write their
blocks straight into a part file, and a block that is written twice has the same bytes. The file gets its name when it is whole.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, digest_of, read_header, write_header
from vocable.artefacts.writing import replacing, space_checked, writer_name
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import write_manifest
from vocable.errors import InputError, WorkerError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.features.store import StoredFrames, length_file, make_room, npy_header, write_lengths, write_rows

FORMAT = "vocable.frames/1"


@dataclass(frozen=True)
class Dumped:
    """Where frames were dumped, and what had to be left out."""

    npy: Path
    utterances: int
    frames: int
    skipped: list[Skipped]


def dump_frames(
    manifest: Manifest, pipeline: FramePipeline, engine: Engine, npy: Path, folder: Path, strict: bool = False
) -> Dumped:
    """Write the frames of a manifest to `npy`, with `.len`, a header and the manifest of the rows that have frames beside it.

    Args:
        manifest: all its rows are wanted.
        pipeline: makes the frames.
        engine: runs the work.
        npy: where the frames go.
        folder: where the work is kept until it is whole.
        strict: leave nothing out.

    Raises:
        DiskFullError: the next run goes on with what is missing.
        InputError: with `strict`, a row that has no frames.
    """
    spec = pipeline.spec
    made_from = {
        "features": spec.to_json(),
        "normalization": _normalization_json(pipeline.normalization),
        "source": manifest.digest,
    }
    if npy.exists() and made_from.items() <= (_header_of(npy) or {}).items():
        return _dumped(npy)
    counts = np.array([spec.frame_count(samples) for samples in manifest.samples.tolist()], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    part = _part(folder, npy, digest_of([made_from, pipeline.lenient]))
    make_room(part, int(starts[-1]), spec.dim)
    blocks = [_Placed(block, int(starts[block.first])) for block in blocks_of(manifest)]
    with progress(npy.stem, manifest.seconds) as shown:
        # The part's own name is in the key: what was written to a part that is gone is not done.
        finished = Stage("frames", part.name, folder).run(_WriteFrames(pipeline, part), blocks, engine, shown)
    skipped = skipped_rows(finished, lambda placed: placed.block)
    if strict:
        require_none(list(skipped.values()))
    kept = [row for row in range(len(manifest)) if row not in skipped]
    chosen = manifest.select(kept) if skipped else manifest
    write_lengths(length_file(npy), counts[kept])
    write_manifest(npy.with_suffix(".tsv"), chosen)
    outcome = {"manifest": chosen.digest, "utterances": len(kept), "frames": int(counts[kept].sum())}
    lost = [[item.path, item.reason, item.detail] for item in sorted(skipped.values())]
    write_header(npy.with_suffix(".json"), {"format": FORMAT, **made_from, **outcome, "skipped": lost})
    if skipped:
        _copy_rows(part, npy, [(int(starts[row]), int(counts[row])) for row in kept], spec.dim)
        part.unlink()
    else:
        part.replace(npy)
    return _dumped(npy)


def _part(folder: Path, npy: Path, key: str) -> Path:
    """Return the part file of an earlier run, or the name of a new one."""
    stem = f"{npy.stem}-{key[:16]}"
    found = sorted(folder.glob(f"{glob.escape(stem)}-*.npy"))
    return found[0] if found else folder / f"{stem}-{writer_name()}.npy"


def _dumped(npy: Path) -> Dumped:
    header = read_header(npy.with_suffix(".json"), FORMAT)
    return Dumped(npy, header["utterances"], header["frames"], [Skipped(*item) for item in header["skipped"]])


def stores_in(folder: Path, name: str) -> list[StoredFrames]:
    """Return the shards `name_RANK_NSHARD.npy` of a folder in order of rank, or none if there are none.

    Raises:
        InputError: a shard is missing, or there are shards of several sets.
    """
    found: dict[int, dict[int, Path]] = {}
    for path in folder.glob(f"{glob.escape(name)}_*_*.npy"):
        shard, _, of = path.stem.removeprefix(f"{name}_").partition("_")
        if shard.isdigit() and of.isdigit():
            found.setdefault(int(of), {})[int(shard)] = path
    if not found:
        return []
    if len(found) > 1:
        raise InputError(
            f"{folder} holds shards of {name!r} of {' and of '.join(map(str, sorted(found)))}: keep those of one number"
        )
    nshard, paths = next(iter(found.items()))
    missing = [rank for rank in range(nshard) if rank not in paths]
    if missing:
        raise InputError(f"{folder} lacks {name}_{missing[0]}_{nshard}.npy: dump shard {missing[0]} of {nshard} first")
    return [StoredFrames(paths[rank]) for rank in range(nshard)]


@dataclass(frozen=True)
class Origin:
    """What dumped frames are, as far as a header beside them says."""

    spec: FeatureSpec | None = None
    normalization: Normalization = field(default_factory=Normalization)
    manifest: str | None = None
    """Digest."""


def origin_of(npy: Path) -> Origin:
    """Read where dumped frames come from."""
    header = _header_of(npy)
    if header is None:
        return Origin()
    known = header["normalization"]
    corpus = None if known["corpus"] is None else tuple(np.array(values, dtype=np.float32) for values in known["corpus"])
    return Origin(FeatureSpec.from_json(header["features"]), Normalization(known["scope"], corpus), header["manifest"])  # type: ignore[arg-type]


def _normalization_json(normalization: Normalization) -> Header:
    corpus = normalization.corpus
    return {"scope": normalization.scope, "corpus": None if corpus is None else [values.tolist() for values in corpus]}


@dataclass(frozen=True)
class _Placed:
    """A block with its first row in the file."""

    block: Block
    start: int

    @property
    def index(self) -> int:
        return self.block.index

    @property
    def size(self) -> float:
        return self.block.size


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
            with space_checked(self.part), self.part.open("r+b") as file:
                for row, item in enumerate(placed.block.utterances, placed.block.first):
                    count = spec.frame_count(item.samples)
                    if row in frames:
                        if len(frames[row]) != count:
                            raise WorkerError(f"{item.path} gave {len(frames[row])} frames where {count} were expected")
                        write_rows(file, at, frames[row])
                    at += count
            return b"", {"skipped": made.summary()}

        return run


def _header_of(npy: Path) -> Header | None:
    path = npy.with_suffix(".json")
    return read_header(path, FORMAT) if path.exists() else None


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
