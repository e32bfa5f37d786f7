"""Rows of a manifest that is made for one job: a file in its work folder, named by what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.artefacts.writing import write_text
from vocable.audio.faults import printable
from vocable.audio.manifest import Utterance
from vocable.errors import InputError


def write_rows(folder: Path, kind: str, rows: Iterable[Mapping[str, str | int]]) -> Path:
    """Write rows as a manifest, and return its path.

    Args:
        folder: for the manifest; it is made where it isn't there.
        kind: of rows, with which the file's name begins.
        rows: `id`, `path`, and where they are known `speaker` and `channel`.

    Raises:
        InputError: a path can't be listed.
    """
    listed = [dict(row) for row in rows]
    for row in listed:
        if (why := unlistable(path := str(row["path"]))) is not None:
            raise InputError(f"{printable(path)!r} is {why}: rename it")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{kind}-{digest_of(listed)[:32]}.jsonl"
    write_text(manifest, "".join(canonical_json(row) + "\n" for row in listed))
    return manifest


def row_of(utterance: Utterance) -> dict[str, str | int]:
    """Return an utterance as such a row."""
    known = {"id": utterance.id, "path": utterance.path, "speaker": utterance.speaker, "channel": utterance.channel}
    return {name: value for name, value in known.items() if value is not None}


def unlistable(path: str) -> str | None:
    """Return what keeps a path out of any manifest, in words; None where nothing does."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return "a name with a line break" if {"\n", "\r"} & set(path) else None
