"""`vocable units`."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.faults import require_none, write_skipped
from vocable.cli.options import Audio, Forms, Frames, Running, work_folder
from vocable.cli.tables import report_skipped
from vocable.clustering.codebook import read_codebook
from vocable.execution.engine import Engine
from vocable.execution.memory import keep_freed_memory
from vocable.recipes.corpus import CorpusSettings, open_corpus
from vocable.recipes.feature_dump import stores_in
from vocable.recipes.frames import FrameChoice, assume_frames, pipeline_of
from vocable.recipes.labels import label_manifest
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
    audio: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
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
    """
    keep_freed_memory()
    book = read_codebook(codebook)
    folder = work_folder(out)
    forms = [f".{item}" for item in form]
    with Engine(running.work()) as engine:
        stores = stores_in(source, name) if source.is_dir() else []
        for store in stores:
            path = out / f"{store.path.stem}.km"
            print(f"{path}: {label_store(store.path, book, engine, path, folder):,} utterances")
        if stores:
            return
        corpus = open_corpus(source, audio, engine, folder)
        if strict:
            require_none(corpus.skipped)
        if assume_features:
            book = assume_frames(book, frames, audio.sample_rate)
        labels = label_manifest(corpus.manifest, pipeline_of(book, corpus.manifest, engine, folder), book, engine, folder)
    if labels.missing:
        print(f"This shard is done; {labels.missing} blocks are left to others. The last shard to finish writes the labels.")
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
