"""`vocable kmeans`."""

from __future__ import annotations

from pathlib import Path

from vocable.cli.options import Audio, Fitting, Frames, Running, work_folder
from vocable.cli.tables import print_table, shown
from vocable.errors import InputError
from vocable.execution.engine import Engine
from vocable.execution.memory import keep_freed_memory
from vocable.recipes.codebooks import FitSettings, fit_on_audio, fit_on_store
from vocable.recipes.corpus import CorpusSettings, open_corpus
from vocable.recipes.feature_dump import stores_in
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.plan import plan_fit


def kmeans(
    source: Path,
    /,
    *,
    out: Path,
    name: str = "train",
    overwrite: bool = False,
    dry_run: bool = False,
    fitting: Fitting = FitSettings(),
    audio: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
) -> None:
    """Fit a codebook to frames, straight from audio or from a folder of dumped ones.

    Parameters
    ----------
    source
        A folder of audio, a manifest, or a folder of dumped frames (NAME_RANK_NSHARD.npy).
    out
        The codebook, a .safetensors file.
    name
        What the dumped frames are called.
    overwrite
        Replace --out if it is there.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: give another --out, or --overwrite")
    keep_freed_memory()
    stores = stores_in(source, name) if source.is_dir() else []
    if dry_run:
        if stores:
            print(f"{out} would be fitted to {sum(len(store.array) for store in stores):,} frames of {stores[0].dim} values")
            return
        print_table(f"{out} would be fitted to {source}", plan_fit(source, audio, frames, fitting, running.work()).rows())
        return
    with Engine(running.work()) as engine:
        if stores:
            codebook = fit_on_store(stores, fitting, engine)
        else:
            corpus = open_corpus(source, audio, engine, work_folder(out.parent))
            pipeline = pipeline_for(frames, audio.sample_rate, corpus.manifest, engine, work_folder(out.parent))
            codebook = fit_on_audio(corpus.manifest, pipeline, fitting, engine, work_folder(out.parent))
    codebook.write(out)
    fit = codebook.fit
    print(
        f"{out}: {len(codebook)} clusters of {fit['frames']:,} frames, "
        f"inertia {shown(fit['inertia'] / fit['frames'])} a frame, {fit['seeding']}"
    )
