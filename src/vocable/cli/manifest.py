"""`vocable manifest`."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.faults import require_none, write_skipped
from vocable.audio.manifest_files import write_manifest
from vocable.audio.speakers import split
from vocable.cli.options import Audio, Part, Running, work_folder
from vocable.cli.tables import report_skipped
from vocable.execution.engine import Engine
from vocable.recipes.corpus import CorpusSettings, open_corpus


def manifest(
    audio: Path,
    /,
    *,
    out: Path,
    valid_percent: float = 0.0,
    by_speaker: bool = False,
    seed: int = 0,
    strict: bool = False,
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
        Part of the utterances for valid: a fraction from 0 to 1, despite its name.
    by_speaker
        Keep each speaker's utterances on one side; needs --speakers.
    seed
        Of the split.
    strict
        Make any unusable file an error.
    """
    folder = out if valid_percent else out.parent
    with Engine(running.work(part.nshard, part.rank)) as engine:
        corpus = open_corpus(audio, source, engine, work_folder(folder), share=True)
    if corpus.missing:
        print(f"This part is done; {corpus.missing} blocks of files are left to others. The last part writes the manifest.")
        return
    if strict:
        require_none(corpus.skipped)
    if valid_percent:
        parts = dict(zip(("train.tsv", "valid.tsv"), split(corpus.manifest, valid_percent, seed, by_speaker), strict=True))
    else:
        parts = {out.name: corpus.manifest}
    for name, rows in parts.items():
        write_manifest(folder / name, rows)
        print(f"{folder / name}: {len(rows):,} utterances, {rows.seconds / 3600:.2f} h")
    if corpus.skipped:
        record = folder / (out.stem + ".skipped.jsonl" if not valid_percent else "skipped.jsonl")
        write_skipped(record, corpus.skipped)
        report_skipped(corpus.skipped, record)
