"""`vocable features mfcc|logmel`."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.blocks import blocks_of, shard_bounds
from vocable.audio.faults import require_none, write_skipped
from vocable.cli.options import Audio, Running, work_folder
from vocable.cli.tables import report_skipped
from vocable.execution.engine import Engine
from vocable.execution.memory import keep_freed_memory
from vocable.features.normalization import Scope
from vocable.recipes.corpus import CorpusSettings, open_corpus
from vocable.recipes.feature_dump import dump_frames
from vocable.recipes.frames import FrameChoice, pipeline_for


def mfcc(
    audio: Path,
    /,
    *,
    out: Path,
    name: str = "train",
    normalize: Scope = "none",
    context: int = 0,
    strict: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
) -> None:
    """Dump mel-frequency cepstra with deltas, 39 values every 10 ms, as fairseq's dump_mfcc_feature does.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest.
    out
        Folder for NAME_RANK_NSHARD.npy, .len, .tsv and .json.
    name
        What the files are called.
    normalize
        Take out mean and variance of each value.
    context
        Neighbours stacked on each side of a frame.
    strict
        Make any unusable file an error.
    """
    _dump(audio, out, name, FrameChoice(features="mfcc", normalize=normalize, context=context), strict, source, running)


def logmel(
    audio: Path,
    /,
    *,
    out: Path,
    name: str = "train",
    mel_bins: int = 40,
    normalize: Scope = "none",
    context: int = 0,
    strict: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
) -> None:
    """Dump log mel energies every 10 ms.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest.
    out
        Folder for NAME_RANK_NSHARD.npy, .len, .tsv and .json.
    name
        What the files are called.
    mel_bins
        Filters: 40 as MelHuBERT has them, 80 or any other number as Kaldi has them.
    normalize
        Take out mean and variance of each value.
    context
        Neighbours stacked on each side of a frame.
    strict
        Make any unusable file an error.
    """
    choice = FrameChoice(features="logmel", mel_bins=mel_bins, normalize=normalize, context=context)
    _dump(audio, out, name, choice, strict, source, running)


def _dump(audio: Path, out: Path, name: str, choice: FrameChoice, strict: bool, source: CorpusSettings, running: Running) -> None:
    keep_freed_memory()
    work, folder = running.work(), work_folder(out)
    with Engine(work) as engine:
        corpus = open_corpus(audio, source, engine, folder)
        if strict:
            require_none(corpus.skipped)
        pipeline = pipeline_for(choice, source.sample_rate, corpus.manifest, engine, folder)
        blocks = list(blocks_of(corpus.manifest))
        first, last = shard_bounds(len(blocks), work.nshard, work.rank)
        rows = range(blocks[first].first, blocks[last - 1].first + len(blocks[last - 1].utterances)) if first < last else range(0)
        npy = out / f"{name}_{work.rank}_{work.nshard}.npy"
        made = dump_frames(corpus.manifest.select(rows), pipeline, engine, npy, folder, strict)
    print(f"{made.npy}: {made.utterances:,} utterances, {made.frames:,} frames of {pipeline.spec.dim} values")
    skipped = [*corpus.skipped, *made.skipped]
    if skipped:
        record = npy.with_suffix(".skipped.jsonl")
        write_skipped(record, skipped)
        report_skipped(skipped, record)
