"""Dumping the frames of whatever audio a user has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vocable.audio.blocks import blocks_of, shard_bounds
from vocable.audio.faults import Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.execution.engine import Engine, Work
from vocable.features.pipeline import FramePipeline
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus, require_some, require_source, require_usable
from vocable.recipes.feature_dump import Dumped, dump_frames
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.workplace import open_workplace, require_name


def dump_source(
    source: Path,
    out: Path,
    name: str,
    frames: FrameChoice,
    corpus: CorpusSettings,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> Dumped:
    """Write this run's shard of the frames of a folder of audio, or a manifest, to `out/name_RANK_NSHARD.npy`.

    What had to be left out is named in `out/name_RANK_NSHARD.skipped.jsonl`. Statistics for normalisation are those of the
    whole, in every shard.

    Args:
        source: a folder of audio, or a manifest.
        out: folder for the frames.
        name: what they are called.
        frames: which.
        corpus: which audio is taken.
        work: where it runs, and which shard this is.
        strict: make anything left out an error.
        overwrite: replace frames of something else.

    Raises:
        InputError: nothing usable, or frames of something else stand there.
    """
    require_source(source)
    require_name(name)
    frames.require_speakers(source, corpus)
    folder = open_workplace(out)
    npy = out / f"{name}_{work.rank}_{work.nshard}.npy"
    with Engine(work) as engine:
        opened = open_usable(source, corpus, engine, folder, npy, strict)
        pipeline = pipeline_for(frames, corpus.sample_rate, opened.manifest, engine, folder)
        return dump_shard(source, opened, pipeline, engine, npy, folder, strict, overwrite)


def open_usable(source: Path, corpus: CorpusSettings, engine: Engine, folder: Path, npy: Path, strict: bool) -> Corpus:
    """Return the usable audio of a source.

    Raises:
        InputError: there is none; or, if `strict`, something had to be left out.
    """
    opened = open_corpus(source, corpus, engine, folder)
    require_usable(opened, source)
    if strict:
        refuse_skipped(opened.skipped, record_of(npy))
    return opened


def dump_shard(
    source: Path, opened: Corpus, pipeline: FramePipeline, engine: Engine, npy: Path, folder: Path, strict: bool, overwrite: bool
) -> Dumped:
    """Write this run's shard of the frames of a corpus to `npy`, and beside it what had to be left out.

    Args:
        source: where the corpus was opened.
        opened: the corpus.
        pipeline: makes the frames.
        engine: runs the work, and knows which shard this is.
        npy: where the frames go.
        folder: where the work is kept until it is whole.
        strict: make anything left out an error.
        overwrite: replace frames of something else.
    """
    work, record = engine.work, record_of(npy)
    shard = opened.manifest.select(shards_of(opened.manifest, work.nshard)[work.rank])

    def judge(unusable: list[Skipped]) -> None:
        skipped = [*opened.skipped, *unusable]
        keep_skipped(skipped, record)
        if strict:
            require_none(skipped, record)
        if work.nshard == 1:  # a part may well have nothing
            require_some(len(shard) - len(unusable), skipped, source)

    made = dump_frames(shard, pipeline, engine, npy, folder, judge, opened.manifest, overwrite)
    return replace(made, skipped=[*opened.skipped, *made.skipped])


def shards_of(manifest: Manifest, nshard: int) -> list[range]:
    """Return the rows of each shard of a manifest: whole blocks, or none."""
    firsts = [*(block.first for block in blocks_of(manifest)), len(manifest)]
    bounds = (shard_bounds(len(firsts) - 1, nshard, rank) for rank in range(nshard))
    return [range(firsts[first], firsts[last]) for first, last in bounds]


def record_of(npy: Path) -> Path:
    """Return where what had to be left out of dumped frames is named."""
    return npy.with_suffix(".skipped.jsonl")
