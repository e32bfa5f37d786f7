"""From what a user has (a folder, a manifest) to a manifest whose every row can be worked on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.audio.faults import Skipped, printable
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import is_manifest, read_manifest
from vocable.audio.scan import LengthLimits, complete, examine, find_audio, without_duplicates
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


def open_corpus(source: Path, settings: CorpusSettings, engine: Engine, folder: Path) -> Corpus:
    """Scan a folder of audio, or read a manifest and look up the lengths it doesn't give.

    Args:
        source: a folder, or a manifest of any form.
        settings: what to take.
        engine: runs a scan.
        folder: where a scan keeps its finished blocks.

    Raises:
        InputError: the source is neither, or nothing in it can be used.
    """
    if is_manifest(source) and not source.is_dir():
        manifest = read_manifest(source, settings.sample_rate)
        root, rows = manifest.root, list(complete(manifest, settings.limits))
        state = digest_of([manifest.digest, asdict(settings)])
    else:
        root = os.path.abspath(source)
        paths, closed = find_audio(source, settings.ext)
        state = digest_of([_states(root, paths), asdict(settings)])
        rows = [*closed, *_scan(root, paths, settings, state, engine, folder)]
    utterances, skipped = without_duplicates(rows)
    made = Manifest.of(utterances, root, settings.sample_rate)
    return Corpus(with_speakers(made, settings.speakers) if settings.speakers else made, skipped, state)


@dataclass(frozen=True)
class _FileBlock:
    index: int
    paths: tuple[str, ...]

    @property
    def size(self) -> float:
        return len(self.paths)


@dataclass(frozen=True)
class _Examine:
    """A job: read the headers of a block of files."""

    root: str
    sample_rate: int
    limits: LengthLimits = field(default_factory=LengthLimits)

    def open(self, device: str) -> Callable[[_FileBlock], Payload]:
        """Return the function that turns a block of files into lines of JSON."""

        def run(block: _FileBlock) -> Payload:
            rows = examine(self.root, block.paths, self.sample_rate, self.limits)
            return "\n".join(canonical_json(_to_json(row)) for row in rows).encode(), {}

        return run


def _scan(
    root: str, paths: list[str], settings: CorpusSettings, state: str, engine: Engine, folder: Path
) -> Iterator[Utterance | Skipped]:
    """Read the headers of files, in blocks of a fixed number."""
    blocks = [
        _FileBlock(at // _FILES_IN_BLOCK, tuple(paths[at : at + _FILES_IN_BLOCK])) for at in range(0, len(paths), _FILES_IN_BLOCK)
    ]
    with progress("scan", len(paths), "files") as shown:
        finished = Stage("scan", state, folder).run(_Examine(root, settings.sample_rate, settings.limits), blocks, engine, shown)
    for _, lines in finished.results():
        yield from (_from_json(json.loads(line)) for line in lines.decode().split("\n"))
    for block, reason in finished.died.values():
        yield from (Skipped(printable(path), "worker died", reason) for path in block.paths)


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
    return ["utterance", row.id, row.path, row.samples]


def _from_json(value: list[Any]) -> Utterance | Skipped:
    kind, *rest = value
    return Skipped(*rest) if kind == "skipped" else Utterance(*rest)
