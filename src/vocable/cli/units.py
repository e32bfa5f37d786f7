"""`vocable units`."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.faults import require_none, write_skipped
from vocable.cli.options import Audio, Forms, Frames, Part, Running, work_folder
from vocable.cli.tables import print_table, report_skipped
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.execution.memory import keep_freed_memory
from vocable.features.store import StoredFrames
from vocable.recipes.corpus import CorpusSettings, open_corpus
from vocable.recipes.feature_dump import stores_in
from vocable.recipes.frames import FrameChoice, assume_frames, pipeline_of
from vocable.recipes.labels import label_manifest
from vocable.recipes.plan import plan_units
from vocable.recipes.stored_labels import label_store


def units(
    source: Path,
    /,
    *,
    codebook: Path,
    out: Path,
    name: str = "units",
    form: Forms = ("km",),
    assume_features: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    audio: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Label audio, or dumped frames, with a codebook. The codebook says which frames it is for.

    Parameters
    ----------
    source
        A folder of audio, a manifest, or a folder of dumped frames (NAME_RANK_NSHARD.npy).
    codebook
        Made by vocable kmeans or prepare; or a scikit-learn model, or centroids in a .npy, with --assume-features.
    out
        Folder for NAME.km, its header NAME.km.json, and NAME.tsv with the utterances that have labels.
    name
        What the files are called.
    form
        Forms of the labels: km (text), units (compact, with ids), rle (run-length text).
    assume_features
        Take the frames that --features, --normalize and --context name for a codebook that doesn't say.
    strict
        Make any unusable file an error.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    keep_freed_memory()
    book = read_codebook(codebook)
    folder = work_folder(out)
    if assume_features:
        book = assume_frames(book, frames, audio.sample_rate)
    forms = [f".{item}" for item in form]
    stores = stores_in(source, name) if source.is_dir() else []
    if dry_run:
        _show_plan(source, out, book, stores, audio, running.work(part.nshard, part.rank))
        return
    with Engine(running.work(part.nshard, part.rank)) as engine:
        for store in stores:
            path = out / f"{store.path.stem}.km"
            print(f"{path}: {label_store(store.path, book, engine, path, folder):,} utterances")
        if stores:
            return
        corpus = open_corpus(source, audio, engine, folder)
        if strict:
            require_none(corpus.skipped)
        labels = label_manifest(corpus.manifest, pipeline_of(book, corpus.manifest, engine, folder), book, engine, folder)
    if labels.missing:
        print(f"This part is done; {labels.missing} blocks are left to others. The last part writes the labels.")
        return
    skipped = [*corpus.skipped, *labels.skipped().values()]
    if strict:
        require_none(skipped)
    for path in labels.write(out, name, forms):
        print(path)
    if skipped:
        record = out / f"{name}.skipped.jsonl"
        write_skipped(record, skipped)
        report_skipped(skipped, record)


def _show_plan(source: Path, out: Path, book: Codebook, stores: list[StoredFrames], audio: CorpusSettings, work: Work) -> None:
    if stores:
        print(f"{sum(len(store.array) for store in stores):,} frames would become labels in {out}")
        return
    if book.spec is None:
        raise InputError("the codebook doesn't say what frames it is for: name them and give --assume-features")
    print_table(f"{source} would become labels in {out}", plan_units(source, audio, book.spec, len(book), work).rows())
