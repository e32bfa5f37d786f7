"""From what a user has (a folder, a manifest) to a manifest whose every row can be worked on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.audio.blocks import shard_bounds
from vocable.audio.faults import Skipped, printable
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import is_manifest, read_manifest
from vocable.audio.scan import LengthLimits, candidates, examine, find_audio, without_duplicates
from vocable.audio.speakers import with_speakers
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage

_FILES_IN_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """Which audio is taken, and what is known of it."""

    ext: tuple[str, ...] = ()
    """File name endings, such as flac or wav,mp3; by default all known ones."""
    sample_rate: int = 16000
    """Hz at which lengths are counted and frames computed; audio at other rates is converted."""
    min_seconds: float = 0.025
    """Leave out shorter files; one frame takes 0.025."""
    max_seconds: float | None = None
    """Leave out longer files."""
    speakers: str | None = None
    """Who speaks: a path pattern such as '{speaker}/*/*', or a file of lines 'utterance speaker'."""

    @property
    def limits(self) -> LengthLimits:
        """The lengths in samples."""
        longest = None if self.max_seconds is None else int(self.max_seconds * self.sample_rate)
        return LengthLimits(min_samples=max(1, round(self.min_seconds * self.sample_rate)), max_samples=longest)


@dataclass(frozen=True)
class Corpus:
    """A manifest of usable rows, what was left out, and a digest that changes when the files do."""

    manifest: Manifest
    skipped: list[Skipped]
    state: str
    missing: int = 0
    """Blocks of files that other parts of the work have still to look at."""


def open_corpus(source: Path, settings: CorpusSettings, engine: Engine, folder: Path, share: bool = False) -> Corpus:
    """Scan a folder of audio, or read a manifest; lengths that aren't known are looked up.

    Args:
        source: a folder, or a manifest of any form.
        settings: what to take.
        engine: runs the look-ups.
        folder: where finished blocks of them are kept.
        share: do only this run's part of the look-ups, as job arrays do; otherwise all that is missing.

    Raises:
        InputError: the source is neither a folder nor a manifest.
    """
    if is_manifest(source) and not source.is_dir():
        given = read_manifest(source, settings.sample_rate)
        root, rows = given.root, list(given.rows())
        skipped: list[Skipped] = []
        state = digest_of([given.digest, asdict(settings)])
    else:
        root = os.path.abspath(source)
        paths, skipped = find_audio(source, settings.ext)
        rows, state = candidates(paths), digest_of([_states(root, paths), asdict(settings)])
    found, missing = _examined(root, rows, settings, state, engine, folder, share)
    utterances, unusable = without_duplicates(found)
    made = Manifest.of(utterances, root, settings.sample_rate)
    return Corpus(with_speakers(made, settings.speakers) if settings.speakers else made, [*skipped, *unusable], state, missing)


@dataclass(frozen=True)
class _Rows:
    """A block of rows to look at; progress counts files."""

    index: int
    rows: tuple[Utterance, ...]

    @property
    def size(self) -> float:
        return len(self.rows)


@dataclass(frozen=True)
class _Examine:
    """A job: read the headers of a block of files."""

    root: str
    sample_rate: int
    limits: LengthLimits

    def open(self, device: str) -> Callable[[_Rows], Payload]:
        """Return the function that turns a block of rows into lines of JSON."""

        def run(block: _Rows) -> Payload:
            rows = examine(self.root, block.rows, self.sample_rate, self.limits)
            return "\n".join(canonical_json(_to_json(row)) for row in rows).encode(), {}

        return run


def _examined(
    root: str, rows: list[Utterance], settings: CorpusSettings, state: str, engine: Engine, folder: Path, share: bool
) -> tuple[list[Utterance | Skipped], int]:
    """Return the rows with their lengths or faults, and how many blocks of them are still to be looked at by others."""
    if all(row.samples >= 0 for row in rows):
        return list(examine(root, rows, settings.sample_rate, settings.limits)), 0
    blocks = [_Rows(at // _FILES_IN_BLOCK, tuple(rows[at : at + _FILES_IN_BLOCK])) for at in range(0, len(rows), _FILES_IN_BLOCK)]
    first, last = shard_bounds(len(blocks), engine.work.nshard, engine.work.rank) if share else (0, len(blocks))
    job = _Examine(root, settings.sample_rate, settings.limits)
    with progress("scan", sum(block.size for block in blocks[first:last]), "files") as shown:
        finished = Stage("scan", state, folder).run(job, blocks[first:last], engine, shown)
    found: list[Utterance | Skipped] = []
    for _, lines in finished.results():
        found += [_from_json(json.loads(line)) for line in lines.decode().split("\n")]
    for block, reason in finished.died.values():
        found += [Skipped(printable(row.path), "worker died", reason) for row in block.rows]
    return found, len(blocks) - len(finished.entries) - len(finished.died)


def _states(root: str, paths: list[str]) -> list[Any]:
    """Return name, size and time of each file: what tells that a folder has changed."""
    states: list[Any] = []
    for path in paths:
        name = path.encode("utf-8", "surrogateescape").hex()
        try:
            status = os.stat(os.path.join(root, path))
            states.append([name, status.st_size, status.st_mtime_ns])
        except OSError:
            states.append([name, None, None])
    return states


def _to_json(row: Utterance | Skipped) -> list[Any]:
    if isinstance(row, Skipped):
        return ["skipped", row.path, row.reason, row.detail]
    return ["utterance", row.id, row.path, row.samples, row.speaker, row.channel]


def _from_json(value: list[Any]) -> Utterance | Skipped:
    kind, *rest = value
    return Skipped(*rest) if kind == "skipped" else Utterance(*rest)
