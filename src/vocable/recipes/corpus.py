"""From what a user has (a folder, a manifest) to a manifest whose every row can be worked on."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Self

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.audio.blocks import shard_bounds, spelled
from vocable.audio.decoding import extension_of, resampled_length
from vocable.audio.faults import AudioFault, Skipped, count_reasons, lost
from vocable.audio.manifest import Manifest, Utterance, state_of
from vocable.audio.manifest_files import is_manifest, read_rows
from vocable.audio.scan import LengthLimits, candidates, check_root, examine, find_audio, with_states, without_duplicates
from vocable.audio.speakers import with_speakers
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.recipes.workplace import NAME

_FILES_IN_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """Which audio is taken, and what is known of it."""

    ext: tuple[str, ...] = ()
    """File name endings, apart by commas, such as flac or wav,mp3; by default all known ones."""
    sample_rate: int = 16000
    """Hz at which lengths are counted and frames computed; audio at other rates is converted."""
    min_seconds: float = 0.025
    """Leave out shorter files; one frame takes 0.025."""
    max_seconds: float | None = None
    """Leave out longer files."""
    speakers: str | None = None
    """Who speaks: a path pattern such as '{speaker}/*/*', or a file of lines 'utterance speaker'."""

    def __post_init__(self) -> None:
        if not 1000 <= self.sample_rate <= 1_000_000:
            raise InputError(f"--sample-rate {self.sample_rate}: speech takes some thousand samples a second, 16000 as a rule")
        for name in ("min_seconds", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} {value}: give a number of seconds")
        if self.speakers is not None:
            with_speakers(Manifest.of([]), self.speakers)  # says now what is wrong with them
        if self.max_seconds is not None and self.max_seconds < self.min_seconds:
            raise InputError(
                f"--max-seconds {self.max_seconds:g} lies below --min-seconds {self.min_seconds:g}: nothing would be left"
            )

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
        InputError: the source is neither a folder nor a manifest, or nothing lies there.
    """
    require_source(source)
    skipped: list[Skipped] = []
    if is_manifest(source) and not source.is_dir():
        root, rows = read_rows(source, settings.sample_rate)
    else:
        root = check_root(os.path.abspath(source))
        paths, skipped = find_audio(source, settings.ext)
        rows = candidates(paths)
    rows = with_states(root, rows)
    found, missing = _examined(root, rows, settings, engine, folder, share)
    utterances, unusable = without_duplicates(found)
    manifest = Manifest.of(utterances, root, settings.sample_rate)
    if settings.speakers is not None:
        manifest = with_speakers(manifest, settings.speakers)
    state = digest_of([state_of(root, rows), asdict(settings), manifest.speakers])
    return Corpus(manifest, [*skipped, *unusable], state, missing)


def for_all_rows(source: Path, settings: CorpusSettings) -> CorpusSettings:
    """Return settings that leave no row of a manifest out for its length; of a folder they take what they took."""
    return settings if source.is_dir() else replace(settings, min_seconds=0.0, max_seconds=None)


def counted_at(corpus: Corpus, sample_rate: int, settings: CorpusSettings, engine: Engine, folder: Path) -> Corpus:
    """Return a corpus with its lengths at another rate, as the files have them; a file of another length is left out.

    Args:
        corpus: opened with `settings`.
        sample_rate: Hz.
        settings: what was taken.
        engine: runs the look-ups.
        folder: where finished blocks of them are kept.
    """
    known = corpus.manifest
    if sample_rate == known.sample_rate:
        return corpus
    rows = [replace(row, samples=-1) for row in known]
    found, _ = _examined(known.root, rows, replace(settings, sample_rate=sample_rate), engine, folder, share=False)
    counted = {row.id: row for row in found if isinstance(row, Utterance)}
    skipped = [row for row in found if isinstance(row, Skipped)]
    kept = []
    for row in known:
        if (now := counted.get(row.id)) is None:
            continue
        if abs(resampled_length(now.samples, sample_rate, known.sample_rate) - row.samples) <= 1:
            kept.append(now)
        else:
            why = f"{now.samples} samples at {sample_rate} Hz, but the manifest says {row.samples} at {known.sample_rate} Hz"
            skipped.append(Skipped.of(row.path, AudioFault("changed", why)))
    return replace(corpus, manifest=Manifest.of(kept, known.root, sample_rate), skipped=[*corpus.skipped, *skipped])


def rows_named(manifest: Manifest, ids: Sequence[str], source: Path) -> Manifest:
    """Return rows of a manifest by their ids, in the order of these.

    Raises:
        MismatchError: one isn't there.
    """
    rows = {name: row for row, name in enumerate(manifest.ids)}
    if missing := [name for name in ids if name not in rows]:
        raise MismatchError(f"{source} has no usable {missing[0]}, which there are labels of: give the audio that was labelled")
    return manifest.select([rows[name] for name in ids])


def require_source(source: Path) -> None:
    """Refuse a source that isn't there, before anything is made for its results.

    Raises:
        InputError: it isn't there.
    """
    if not source.exists():
        raise InputError(f"{source} doesn't exist: give a folder of audio, or a manifest")


def require_speakers(source: Path, settings: CorpusSettings, what: str) -> None:
    """Refuse, before it is scanned, a folder of audio whose speakers nobody names; a manifest may name them itself.

    Raises:
        InputError: `what` needs to know them.
    """
    if source.is_dir() and settings.speakers is None:
        raise InputError(f"{what} needs speakers: give --speakers with a pattern such as '{{speaker}}/*/*', or a table")


def require_usable(corpus: Corpus, source: Path) -> None:
    """Refuse a corpus of nothing.

    Raises:
        InputError: says why nothing could be used.
    """
    if len(corpus.manifest) or corpus.missing:
        return
    require_some(0, corpus.skipped, source)
    if not source.is_dir():
        raise InputError(f"{source} has no rows: give a manifest that lists audio, or a folder of it")
    there, _ = find_audio(source)
    found = Counter(f".{extension_of(path)}" for path in there).most_common()
    if found:  # --ext asked for others
        kinds = " and ".join(f"{count} {ending}" for ending, count in found)
        raise InputError(f"{source} has no file with such an --ext, but {kinds}: name that, or leave --ext out")
    raise InputError(f"{source} has no audio (no file of a known format): give a folder of speech, or a manifest")


def require_some(usable: int, skipped: list[Skipped], source: Path | str) -> None:
    """Refuse to go on when everything had to be left out.

    Raises:
        InputError: says why nothing could be used.
    """
    if skipped and not usable:
        reasons, first = count_reasons(skipped), min(skipped)
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        moved = "; if a folder was moved, mend line 1 of the .tsv, which names it" if "vanished" in reasons else ""
        listed = NAME in Path(source).parts  # a list of ours, of what was given
        where = "what was given" if listed else source
        raise InputError(f"{where} has no usable audio: {counts}; the first is {first.path}: {first.detail}{moved}")


@dataclass(frozen=True)
class _Rows:
    """A block of rows to look at; progress counts files."""

    root: str
    rows: tuple[Utterance, ...]
    spoiled: frozenset[str] = frozenset()
    """Names of files that nobody may read, since reading them ends the process."""

    @property
    def size(self) -> float:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(os.path.join(self.root, row.path) for row in self.rows))

    def only(self, names: frozenset[str]) -> Self:
        return replace(self, spoiled=self.spoiled | (frozenset(self.names) - names))

    def without(self, names: frozenset[str]) -> Self:
        return replace(self, spoiled=self.spoiled | names)

    @property
    def content(self) -> str:
        return digest_of([spelled(self.root), [list(map(spelled, astuple(row))) for row in self.rows]])


@dataclass(frozen=True)
class _Examine:
    """A job: read the headers of a block of files."""

    sample_rate: int
    limits: LengthLimits

    def open(self, device: str) -> Callable[[_Rows], Payload]:
        """Return the function that turns a block of rows into lines of JSON."""

        def run(block: _Rows) -> Payload:
            rows = examine(block.root, block.rows, self.sample_rate, self.limits, block.spoiled)
            return "\n".join(canonical_json(_to_json(row)) for row in rows).encode(), {}

        return run


def _examined(
    root: str, rows: list[Utterance], settings: CorpusSettings, engine: Engine, folder: Path, share: bool
) -> tuple[list[Utterance | Skipped], int]:
    """Return the rows with their lengths or faults, and how many blocks of them are still to be looked at by others."""
    if all(row.samples >= 0 for row in rows):
        return list(examine(root, rows, settings.sample_rate, settings.limits)), 0
    blocks = [_Rows(root, tuple(rows[at : at + _FILES_IN_BLOCK])) for at in range(0, len(rows), _FILES_IN_BLOCK)]
    mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank)) if share else slice(None)
    with progress("scan", sum(block.size for block in blocks[mine]), "files") as shown:
        job = _Examine(settings.sample_rate, settings.limits)
        finished = Stage("scan", [settings.sample_rate, asdict(settings.limits)], folder).run(job, blocks, engine, shown, mine)
    found: list[Utterance | Skipped] = []
    for _, _, lines in finished.results():
        found += [_from_json(json.loads(line)) for line in lines.decode().split("\n")]
    for block, reason in finished.given_up():
        found += [lost(row.path, reason) for row in block.rows]
    return found, finished.missing


def _to_json(row: Utterance | Skipped) -> list[Any]:
    if isinstance(row, Skipped):
        return ["skipped", row.path, row.reason, row.detail]
    return ["utterance", *astuple(row)]


def _from_json(value: list[Any]) -> Utterance | Skipped:
    kind, *rest = value
    return Skipped(*rest) if kind == "skipped" else Utterance(*rest)
