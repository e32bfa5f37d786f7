"""From a folder to candidates for a manifest: finding audio files, and reading what their headers say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from vocable.audio.decoding import (
    LIBSNDFILE_EXTENSIONS,
    MEDIA_EXTENSIONS,
    count_samples,
    extension_of,
    file_state,
    resampled_length,
)
from vocable.audio.faults import AudioFault, Skipped, crash_of, printable
from vocable.audio.manifest import Utterance, id_of
from vocable.errors import InputError

_LINE_BREAKING = re.compile(r"[\t\n\r\x00]")


@dataclass(frozen=True, kw_only=True)
class LengthLimits:
    """Which lengths are usable."""

    min_samples: int = 400
    """At the working sample rate: one frame, if nothing more is asked for."""
    max_samples: int | None = None

    def check(self, samples: int, sample_rate: int) -> None:
        """Refuse a length outside the limits.

        Raises:
            AudioFault: short or long.
        """
        if samples < self.min_samples:
            raise AudioFault("short", f"{samples} samples at {sample_rate} Hz; at least {self.min_samples} are needed")
        if self.max_samples is not None and samples > self.max_samples:
            raise AudioFault("long", f"{samples / sample_rate:.1f} s; the limit is {self.max_samples / sample_rate:g} s")


def find_audio(root: Path, extensions: Iterable[str] = ()) -> tuple[list[str], list[Skipped]]:
    """Return the audio files below a folder, relative to it and sorted by their bytes, and the folders that can't be listed.

    Links are followed; a folder that several lead to, itself among them, is entered once.

    Args:
        root: an existing folder.
        extensions: in any case, with or without dots, several joined by commas too; all known ones if empty.

    Raises:
        InputError: the folder doesn't exist.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give a folder of audio, or a manifest")
    wanted = {
        item.strip().lower().removeprefix(".") for items in extensions for item in items.split(",")
    } or LIBSNDFILE_EXTENSIONS | MEDIA_EXTENSIONS
    found: list[str] = []
    closed: list[Skipped] = []
    seen: set[str] = set()

    def note(error: OSError) -> None:
        closed.append(
            Skipped(
                printable(os.path.relpath(error.filename, root)), "unreadable", f"the folder can't be listed ({error.strerror})"
            )
        )

    for folder, subfolders, files in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort(key=os.fsencode)
        relative = os.path.relpath(folder, root)
        prefix = "" if relative == "." else relative + os.sep
        found.extend(prefix + name for name in files if extension_of(name) in wanted)
    return sorted(found, key=os.fsencode), closed


def candidates(paths: Iterable[str]) -> list[Utterance]:
    """Return a row for each path, of unknown length, with its id."""
    return [Utterance(id_of(path), path, -1) for path in paths]


def with_states(root: str, rows: Iterable[Utterance]) -> list[Utterance]:
    """Return rows with the state of their files."""
    return [replace(row, state=file_state(os.path.join(root, row.path))) for row in rows]


def examine(
    root: str, rows: Iterable[Utterance], sample_rate: int, limits: LengthLimits, spoiled: AbstractSet[str] = frozenset()
) -> Iterator[Utterance | Skipped]:
    """Yield each row with its length at `sample_rate`, looked up if it is unknown, or why it can't serve.

    Args:
        root: folder that the rows' paths start from.
        rows: as they were found or read.
        sample_rate: Hz.
        limits: which lengths are usable.
        spoiled: whole paths of files that nobody may read.
    """
    for row in rows:
        try:
            check_name(row.path)
            if spoiled and (path := os.path.join(root, row.path)) in spoiled:
                raise crash_of(path)
            samples = row.samples
            if samples < 0:
                counted, rate = count_samples(os.path.join(root, row.path))
                samples = resampled_length(counted, rate, sample_rate)
            limits.check(samples, sample_rate)
            yield replace(row, samples=samples)
        except AudioFault as fault:
            yield Skipped.of(row.path, fault)


def check_name(path: str) -> None:
    """Refuse a path that a manifest can't carry.

    Raises:
        AudioFault: not UTF-8, or with a tab or line break in it, or beginning with a blank, which fairseq's reader strips.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise AudioFault("name", "the name is not UTF-8; rename the file") from error
    if _LINE_BREAKING.search(path):
        raise AudioFault("name", "the name holds a tab or a line break; rename the file")
    if path != path.strip():
        raise AudioFault("name", "the name begins or ends with a blank; rename the file")


def check_root(root: str) -> str:
    """Return a root that the first line of a manifest can carry.

    Raises:
        InputError: not UTF-8, with a line break, or ending in a blank, which readers strip.
    """
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the folder {printable(root)} has a name that is not UTF-8, which no manifest can carry: rename it"
        ) from error
    if _LINE_BREAKING.search(root) or root != root.strip():
        raise InputError(f"the folder {root!r} has a name with a tab, a line break or a blank at its end: rename it")
    return root


def without_duplicates(rows: Iterable[Utterance | Skipped]) -> tuple[list[Utterance], list[Skipped]]:
    """Part usable rows from skipped ones, and leave out each row whose id an earlier one has."""
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    owner: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Skipped):
            skipped.append(row)
        elif row.id in owner:
            skipped.append(Skipped(row.path, "duplicate id", f"{owner[row.id]} has the id {row.id!r} too"))
        else:
            owner[row.id] = row.path
            utterances.append(row)
    return utterances, skipped
