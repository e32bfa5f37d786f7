"""`vocable evaluate privacy|intelligibility`."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vocable.cli.options import Audio
from vocable.cli.tables import print_columns
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings


def privacy(
    originals: Path,
    anonymized: Path,
    /,
    *,
    verifier: str = "resemblyzer",
    groups: Path | None = None,
    json_: bool = False,
    audio: Audio = CorpusSettings(),
) -> None:
    """Say how often a verifier is wrong about who speaks: equal error rates with intervals over speakers, for two attackers.

    Parameters
    ----------
    originals
        A folder of audio, or a manifest; --speakers says who speaks.
    anonymized
        What was made of it, under the same names.
    verifier
        What describes who speaks: resemblyzer, or MODULE:NAME of a function that is called with a waveform at 16 kHz.
    groups
        A file of lines 'speaker group', such as genders: trials are then of one group.
    json_
        Print JSON.
    """
    from vocable.evaluation.verifiers import verifier as known
    from vocable.recipes.anonymity import Pairs, score_privacy

    describe = known(verifier)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Pairs.read(originals, anonymized, audio, Path(folder))
        found = score_privacy(pairs, describe, None if groups is None else _groups(groups, pairs.speakers))
    _show(f"{anonymized}: who speaks, told by {verifier}", found.rows(), {**asdict(found), "missing": pairs.missing}, json_)
    _tell_missing(pairs.missing, json_)


def intelligibility(
    originals: Path,
    anonymized: Path,
    /,
    *,
    recogniser: str = "faster-whisper:base",
    transcripts: Path | None = None,
    json_: bool = False,
    audio: Audio = CorpusSettings(),
) -> None:
    """Say how much of what is said a recogniser gets: errors of words and characters, with intervals, and how pitch is kept.

    Parameters
    ----------
    originals
        A folder of audio, or a manifest; with --speakers, intervals are over speakers.
    anonymized
        What was made of it, under the same names.
    recogniser
        What writes down what is said: faster-whisper:MODEL (a folder, or a name), pocketsphinx, or MODULE:NAME of a function that
        is called with a waveform at 16 kHz.
    transcripts
        What was said: a file of lines 'utterance words', or a folder of .trans.txt files; by default what the recogniser reads
        out of the originals.
    json_
        Print JSON.
    """
    from vocable.evaluation.recognisers import recogniser as known
    from vocable.recipes.anonymity import Pairs, read_transcripts, score_intelligibility

    write_down = known(recogniser)
    said = None if transcripts is None else read_transcripts(transcripts)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Pairs.read(originals, anonymized, audio, Path(folder))
        found = score_intelligibility(pairs, write_down, said)
    _show(f"{anonymized}: what is said, read by {recogniser}", found.rows(), {**asdict(found), "missing": pairs.missing}, json_)
    _tell_missing(pairs.missing, json_)


def _groups(path: Path, speakers: list[str] | None) -> list[str] | None:
    """Return the group of each utterance's speaker."""
    if speakers is None:
        return None
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--groups {path} can't be read as text ({error}): give lines 'speaker group'") from error
    if wrong := next((number for number, line in enumerate(lines, 1) if len(line) != 2), None):
        raise InputError(f"--groups {path} line {wrong} should be a speaker and a group")
    known = dict(lines)
    if lacking := next((name for name in speakers if name not in known), None):
        raise InputError(f"--groups {path} doesn't say which group {lacking} belongs to: add it")
    return [known[name] for name in speakers]


def _show(title: str, rows: list[dict[str, Any]], values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_finite(values), indent=2, allow_nan=False))
    else:
        print_columns(title, list(rows[0]), [list(row.values()) for row in rows])


def _tell_missing(missing: list[str], as_json: bool) -> None:
    if missing and not as_json:
        print(f"{len(missing):,} originals have nothing made of them, such as {missing[0]}")


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
