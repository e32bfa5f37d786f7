"""`vocable prepare`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from vocable.cli.options import Audio, Fitting, Forms, Frames, Part, Running, check_together
from vocable.cli.tables import print_columns, print_table, report_others, report_reasons, shown
from vocable.execution.progress import duration
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation, Prepared
from vocable.recipes.label_preparation import prepare as prepare_labels
from vocable.recipes.plan import plan_labels


def prepare(
    audio: Path,
    /,
    *,
    out: Path,
    valid_percent: float = 0.01,
    by_speaker: bool = False,
    form: Forms = ("km",),
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    fitting: Fitting = FitSettings(),
    source: Audio = CorpusSettings(),
    frames: Frames = FrameChoice(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Make HuBERT training labels of a folder of speech.

    Writes train.tsv, valid.tsv, codebook.safetensors, train.km, valid.km, dict.km.txt, skipped.jsonl and summary.json.
    Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest (.tsv, .scp, .csv, .jsonl, .parquet).
    out
        Folder for the results.
    valid_percent
        Part of the utterances for valid: a fraction below 1, despite its name.
    by_speaker
        Keep each speaker's utterances on one side of the split; needs --speakers.
    form
        Forms of the labels, apart by commas: km (text), units (compact, with ids), rle (run-length text).
    strict
        Make any unusable file an error.
    overwrite
        Replace what other settings or audio made in --out.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    check_together(frames, fitting)
    work = running.work(part.nshard, part.rank)
    frames = frames.on(work)
    settings = Preparation(
        corpus=source,
        frames=frames,
        fit=fitting,
        valid_percent=valid_percent,
        by_speaker=by_speaker,
        strict=strict,
        forms=tuple(f".{item}" for item in form),
    )
    if dry_run:
        print_table(f"{audio} would become labels in {out}", plan_labels(audio, out, settings, work, overwrite).rows())
        return
    begun = time.monotonic()
    made = prepare_labels(audio, out, settings, work, overwrite)
    show(made, time.monotonic() - begun)


def show(made: Prepared, elapsed: float) -> None:
    """Print what came of a preparation."""
    if made.missing:
        report_others(made.missing, "the labels")
        return
    splits = made.summary["splits"]
    rows = {
        "utterances": [part["utterances"] for part in splits.values()],
        "hours": [part["seconds"] / 3600 for part in splits.values()],
        "frames": [part["frames"] for part in splits.values()],
        "units used": [f"{part['used']} of {part['units']}" for part in splits.values()],
        "perplexity": [part["perplexity"] for part in splits.values()],
        "frames a run": [part["mean_run"] for part in splits.values()],
        "bits a second": [part["bitrate"] for part in splits.values()],
    }
    print_columns(f"Labels in {made.folder}", ["", *splits], [[name, *values] for name, values in rows.items()])
    for name, part in splits.items():
        if not part["utterances"]:
            print(f"warning: nothing of {name} could be used: take a larger --valid-percent, or another --seed")
    report_reasons(made.summary["skipped"], made.folder / "skipped.jsonl")
    hours = sum(part["seconds"] for part in splits.values()) / 3600
    when = "done already; nothing was to do" if made.was_done else f"in {duration(elapsed)}"
    print(f"Inertia {shown(made.summary['frame_inertia'])} a frame; {hours:.2f} h of audio, {when}.")
    print(f"Try next:  vocable inspect {shlex.quote(str(made.folder))}")
