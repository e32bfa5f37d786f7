"""`vocable manifest`."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.manifest_files import keeps_ids
from vocable.cli.options import Audio, Part, Running
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.manifests import Splitting, list_audio
from vocable.recipes.plan import plan_manifest


def manifest(
    audio: Path,
    /,
    *,
    out: Path,
    valid_percent: float = 0.0,
    by_speaker: bool = False,
    seed: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """List the usable audio of a folder, or convert a manifest.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest (.tsv, .scp, .csv, .jsonl, .parquet).
    out
        The manifest to write; its ending says in which form. With --valid-percent, a folder for train.tsv and valid.tsv.
    valid_percent
        Part of the utterances for valid: a fraction below 1, despite its name.
    by_speaker
        Keep each speaker's utterances on one side; needs --speakers.
    seed
        Of the split.
    strict
        Make any unusable file an error.
    overwrite
        Replace manifests of something else.
    dry_run
        Say what would be listed and what it needs, and write nothing.
    """
    if not valid_percent and (by_speaker or seed):
        raise InputError("--by-speaker and --seed say how to split, and go with --valid-percent")
    work = running.work(part.nshard, part.rank)
    splitting = Splitting(valid_percent=valid_percent, by_speaker=by_speaker, seed=seed)
    if work.kind != "cpu":
        print(f"Headers are read by the processor: {', '.join(work.devices)} has nothing to do.")
    splitting.check_target(out)
    if dry_run:
        print_table(f"{audio} would be listed in {out}", plan_manifest(audio, source, splitting, work).rows())
        return
    made = list_audio(audio, out, source, splitting, work, strict, overwrite)
    if made.missing:
        report_others(made.missing, "the manifest")
        return
    for path, rows in made.manifests.items():
        done = ", done already" if made.was_done else ""
        print(f"{path}: {len(rows):,} utterances, {rows.seconds / 3600:.2f} h{done}")
        if path.with_suffix(".csv") in made.manifests:
            continue  # which has room for all there is
        if rows.speakers and path.suffix in (".tsv", ".scp"):
            print(f"{path.name} has no room for speakers: give --speakers again where they matter, or write .csv or .jsonl")
        if path.suffix == ".tsv" and not keeps_ids(rows):
            print(f"{path.name} has no room for ids other than the paths: write .csv or .jsonl to keep them")
    report_skipped(made.skipped, made.record)
