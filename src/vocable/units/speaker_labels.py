"""Who speaks, as labels: `NAME.spk` with a name a line, -1 where nobody knows, and `dict.spk.txt` with `name count` a line.

A speaker's id is the number of its line in the dictionary, from 0. Beside `NAME.spk` lies a header as label files have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of
from vocable.artefacts.text import lines_of
from vocable.artefacts.writing import write_text
from vocable.audio.manifest import Manifest
from vocable.errors import InputError, MismatchError
from vocable.units.label_files import open_units, text_writer
from vocable.units.units import UnitsHeader

DICTIONARY = "dict.spk.txt"
UNKNOWN = "-1"


@dataclass(frozen=True)
class SpeakerLabels:
    """Who speaks in each row of a manifest."""

    ids: NDArray[np.int64]
    """Of shape (utterances,); -1 where nobody knows."""
    names: tuple[str, ...]
    """Of the speakers, by id."""
    header: UnitsHeader


def counted(speakers: Iterable[str | None]) -> dict[str, int]:
    """Return the speakers of utterances in the order of their names, and how many utterances each has.

    Raises:
        InputError: nobody is known, or a name can't stand in a file of names apart by blanks.
    """
    counts = Counter(name for name in speakers if name is not None)
    if not counts:
        raise InputError("no utterance says who speaks: give --speakers with a pattern such as '{speaker}/*/*', or a table")
    for name in counts:
        if name == UNKNOWN or len(name.split()) != 1 or name != name.strip() or not name.isprintable():
            raise InputError(
                f"a speaker can't be called {name!r} in label files: give names without blanks, other than {UNKNOWN}"
            )
    return dict(sorted(counts.items()))


def write_speaker_dictionary(path: Path, counts: Mapping[str, int]) -> None:
    """Write names and how many utterances each has."""
    write_text(path, "".join(f"{name} {count}\n" for name, count in counts.items()))


def read_speaker_dictionary(path: Path) -> tuple[str, ...]:
    """Return the names by id.

    Raises:
        InputError: it isn't there, a line is no name and count, or a name stands twice.
    """
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: 'vocable features speakers' writes it")
    names = []
    for number, line in enumerate(lines_of(path, path.read_bytes()), 1):
        parts = line.split()
        if len(parts) != 2 or not (parts[1].isascii() and parts[1].isdigit()):
            raise InputError(f"{path} line {number} should be a speaker and a count, but reads {line[:60]!r}")
        names.append(parts[0])
    if not names or len(set(names)) != len(names):
        raise InputError(f"{path} {'names a speaker twice' if names else 'is empty'}: make it again")
    return tuple(names)


def write_speaker_labels(path: Path, speakers: Iterable[str | None], names: Iterable[str], manifest: str) -> None:
    """Write `NAME.spk` and its header.

    Args:
        path: of the labels.
        speakers: of each utterance; those who aren't in the dictionary count as unknown.
        names: of the dictionary.
        manifest: digest of the rows.
    """
    known = list(names)
    number = set(known)
    header = UnitsHeader(clusters=len(known), codebook=digest_of(known), manifest=manifest)
    with text_writer(path, header) as write:
        for name in speakers:
            write.write_line(name if name is not None and name in number else UNKNOWN)


def read_speaker_labels(path: Path, manifest: Manifest | None = None) -> SpeakerLabels:
    """Read `NAME.spk`, and the dictionary beside it.

    Args:
        path: of the labels.
        manifest: whose rows they should be.

    Raises:
        InputError: a file is missing or broken.
        MismatchError: the labels were changed, are of another manifest, or of another dictionary than the one beside them.
    """
    header, _ = open_units(path)
    names = read_speaker_dictionary(path.with_name(DICTIONARY))
    if header.codebook is not None and header.codebook != digest_of(list(names)):
        raise MismatchError(f"{path} was made with another {DICTIONARY} than the one beside it: make both again")
    number = {name: at for at, name in enumerate(names)} | {UNKNOWN: -1}
    ids = []
    for at, line in enumerate(lines_of(path, path.read_bytes()), 1):
        if (name := line.strip()) not in number:
            raise InputError(f"{path} line {at} names {name[:60]!r}, who isn't in {DICTIONARY} beside it: make both again")
        ids.append(number[name])
    if manifest is not None:
        if len(ids) != len(manifest):
            raise MismatchError(f"{path} has {len(ids)} lines, but the manifest {len(manifest)} rows: make it for this manifest")
        if header.manifest is not None and (manifest.samples >= 0).all() and header.manifest != manifest.digest:
            raise MismatchError(f"{path} was made for another manifest, with as many rows: make it for this one")
    return SpeakerLabels(np.array(ids, dtype=np.int64), names, header)
