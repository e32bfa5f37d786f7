"""`vocable manifest`."""

from __future__ import annotations

from pathlib import Path

from vocable.cli.options import Audio, Part, Running
from vocable.cli.tables import report_others, report_skipped
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.manifests import Splitting, list_audio


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
    """
    if not valid_percent and (by_speaker or seed):
        raise InputError("--by-speaker and --seed say how to split, and go with --valid-percent")
    made = list_audio(
        audio,
        out,
        source,
        Splitting(valid_percent=valid_percent, by_speaker=by_speaker, seed=seed),
        running.work(part.nshard, part.rank),
        strict,
        overwrite,
    )
    if made.missing:
        report_others(made.missing, "the manifest")
        return
    for path, rows in made.manifests.items():
        done = ", done already" if made.was_done else ""
        print(f"{path}: {len(rows):,} utterances, {rows.seconds / 3600:.2f} h{done}")
        if rows.speakers and path.suffix in (".tsv", ".scp"):
            print(f"{path.name} has no room for speakers: give --speakers again where they matter, or write .csv or .jsonl")
    report_skipped(made.skipped, made.record)
