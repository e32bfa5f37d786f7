"""`vocable kmeans`."""

from __future__ import annotations

from pathlib import Path

from vocable.cli.options import Audio, Fitting, Frames, Part, Running, check_together, refuse_idle
from vocable.cli.tables import print_table, report_skipped, shown
from vocable.errors import InputError
from vocable.recipes.codebooks import fit_source
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.dumped import stores_in
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.plan import plan_fit, plan_stored_fit


def kmeans(
    source: Path,
    /,
    *,
    out: Path,
    name: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    fitting: Fitting = FitSettings(),
    audio: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Fit a codebook to frames, straight from audio or from a folder of dumped ones.

    Parameters
    ----------
    source
        A folder of audio, a manifest, or a folder of dumped frames (NAME_RANK_NSHARD.npy).
    out
        The codebook, a .safetensors file.
    name
        What the dumped frames are called, where there are several.
    strict
        Make any unusable file an error.
    overwrite
        Replace a codebook of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    check_together(frames, fitting)
    work = running.work(part.nshard, part.rank)
    frames = frames.on(work)
    if part.rank:
        print(f"A fit isn't cut into parts: rank 0 does it all, and rank {part.rank} has nothing to do.")
        return
    stores = stores_in(source, name)[1] if source.is_dir() else []
    if stores:
        if strict:
            raise InputError("--strict: dumped frames have nothing that could be left out; leave it out")
        refuse_idle(f"the frames in {source} are dumped already", CorpusSettings, FrameChoice)
    elif name is not None:
        raise InputError(f"--name {name}: {source} holds no dumped frames; leave it out")
    if dry_run:
        if stores:
            plan = plan_stored_fit(stores, out, fitting, work, overwrite)
        else:
            plan = plan_fit(source, out, audio, frames, fitting, work, overwrite)
        print_table(f"{out} would be fitted to {source}", plan.rows())
        return
    made = fit_source(source, out, name, fitting, audio, frames, work, strict, overwrite)
    fit = made.codebook.fit
    print(
        f"{out}: {len(made.codebook)} clusters of {fit['frames']:,} frames, inertia {shown(fit['inertia'] / fit['frames'])} "
        f"a frame, {fit['seeding']}{', done already' if made.was_done else ''}"
    )
    report_skipped(made.skipped, made.record)
