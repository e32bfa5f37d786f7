"""`vocable units`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.cli.options import Audio, Exports, Frames, Part, Running, check_together, refuse_idle
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.features.windows import chunking_of
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.dumped import stores_in
from vocable.recipes.frames import ENCODER_ONLY, FrameChoice, assume_frames
from vocable.recipes.sources import opened_sources
from vocable.recipes.units import label_source


def units(
    first: Path,
    /,
    *more: Path,
    codebook: Path,
    out: Path,
    name: str | None = None,
    form: Exports = ("km",),
    runs: bool = False,
    assume_features: Annotated[bool, Parameter(name=["--assume-features", "--assume-spec"])] = False,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    audio: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Label audio, or dumped frames, with a codebook. The codebook says which frames it is for.

    Parameters
    ----------
    first
        A folder of audio, an audio file, a manifest, or a folder of dumped frames (NAME_RANK_NSHARD.npy).
    more
        More folders of audio, audio files and manifests.
    codebook
        Made by vocable kmeans or prepare; or a scikit-learn model, or centroids in a .npy, with --assume-features.
    out
        Folder for NAME.km, its header NAME.km.json, and NAME.tsv with the utterances that have labels.
    name
        What the files are called, and the dumped frames where there are several; by default as the frames, or units.
    form
        Forms of the labels, apart by commas: km (text), units (compact, with ids), rle (run-length text), jsonl and parquet (a
        row for each utterance), rttm (one file of intervals), textgrid (a file for each utterance, for Praat).
    runs
        With jsonl and parquet: units without repetitions, and how many frames each lasts.
    assume_features
        Take the frames that --features or --encoder and --layer, --normalize and --context name for a codebook that doesn't say.
    strict
        Make any unusable file an error.
    overwrite
        Replace labels of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    work = running.work(part.nshard, part.rank)
    frames = frames.on(work)
    stores = stores_in(first, name)[1] if first.is_dir() and not more else []
    book = _for_frames(read_codebook(codebook), codebook, frames, audio, assume_features)
    if stores:
        if strict:
            raise InputError("--strict: dumped frames have nothing that could be left out; leave it out")
        refuse_idle(f"the frames in {first} are dumped already", CorpusSettings, FrameChoice)
    elif book.spec is not None and audio.sample_rate != book.spec.sample_rate and spelled(["sample_rate"]):
        raise InputError(f"--sample-rate {audio.sample_rate}: the codebook is for {book.spec.sample_rate} Hz; leave it out")
    forms = [_SUFFIXES.get(item, f".{item}") for item in form]
    if runs and not {"jsonl", "parquet"} & set(form):
        raise InputError("--runs goes with --form jsonl or parquet: give one of them, or take rle")
    with opened_sources([first, *more], out, audio, kept=not dry_run) as source:
        if dry_run:
            from vocable.recipes.plan import plan_stored_units, plan_units

            if stores:
                plan = plan_stored_units(stores, book, work, forms)
            else:
                plan = plan_units(source, audio, book, work, forms, frames.encoder_file)
            print_table(f"{first} would become labels in {out}", plan.rows())
            return
        made = label_source(source, book, out, name, forms, audio, work, strict, overwrite, frames.encoder_file, runs)
    if made.missing:
        report_others(made.missing, "the labels")
        return
    print(f"{made.files[0]}: {made.utterances:,} utterances, {made.frames:,} frames{', done already' if made.was_done else ''}")
    grids = [path for path in made.files if path.suffix == ".TextGrid"]
    hidden = set(grids[_NAMED:])
    for path in made.files[1:]:
        if path not in hidden:
            print(path)
    if len(grids) > _NAMED:
        print(f"and {len(grids) - _NAMED} more of {len(grids)} TextGrids")
    report_skipped(made.skipped, made.record)


_NAMED = 3  # of many files alike
_SUFFIXES = {"jsonl": ".units.jsonl", "parquet": ".units.parquet", "textgrid": ".TextGrid"}
_OF_ENCODER = ("encoder", *ENCODER_ONLY)


def _for_frames(book: Codebook, path: Path, frames: FrameChoice, audio: CorpusSettings, assumed: bool) -> Codebook:
    """Return a codebook that says what frames it is for, and refuse options that say otherwise."""
    if not assumed:
        refuse_idle("without --assume-features the codebook says which frames it is for", FrameChoice, but=_OF_ENCODER)
    check_together(frames)
    if not assumed:
        _check_asked(frames, book, path)
        return book
    try:
        return assume_frames(book, frames, audio.sample_rate)
    except MismatchError as error:
        raise MismatchError(f"{path}: {error}") from error


def _check_asked(frames: FrameChoice, book: Codebook, path: Path) -> None:
    """Refuse a layer, tap or chunking that isn't the codebook's; they needn't be given.

    Raises:
        MismatchError: says both.
    """
    if book.spec is None:
        return
    asked = {name: getattr(frames, name) for name in ("layer", "tap") if spelled([name])}
    if spelled(["chunking"]):
        asked["chunking"] = str(chunking_of(frames.chunking))
    replace(book.spec, **asked).require_equal(book.spec, "the frames asked for", f"those that {path} is for")
