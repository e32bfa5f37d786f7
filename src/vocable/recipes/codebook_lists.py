"""SEF-MK's lists: of codebooks, and of audio; a name and a path on each line, or a path alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vocable.audio.kaldi_scp import parse_scp_line
from vocable.errors import InputError
from vocable.recipes.row_files import write_rows

_ENDINGS = {".pt", ".npy", ".bin", ".joblib", ".pkl", ".safetensors"}


def listed_codebooks(source: Path) -> list[tuple[str, Path]]:
    """Return name and file of each codebook in a list, or in a folder.

    Raises:
        InputError: there is none, a line can't be read, or two have one name; the message names the line.
    """
    if source.is_dir():
        found = [(path.stem, path) for path in sorted(source.iterdir()) if path.suffix in _ENDINGS]
        if not found:
            raise InputError(f"{source} holds no codebooks (none of {', '.join(sorted(_ENDINGS))}): give their folder, or a list")
        return _distinct(source, [(0, *item) for item in found])
    lines = _lines(source, "codebooks")
    return _distinct(source, [(number, name or path.stem, _there(source, path)) for number, name, path, _ in lines])


def listed_audio(source: Path, folder: Path) -> Path:
    """Write a manifest of the audio in a list, whose names are those that SEF-MK's code gives its files, and return its path.

    Where two would have one name, which would cost it the first of them, utterances' own names are taken.

    Args:
        source: the list.
        folder: for the manifest.

    Raises:
        InputError: the list is empty, or a line can't be read; the message names the line.
    """
    lines = _lines(source, "audio")
    stems = Counter(path.stem for _, _, path, _ in lines)
    rows: list[dict[str, str | int]] = []
    seen: dict[str, int] = {}
    for number, name, path, channel in lines:
        chosen = path.stem if stems[path.stem] == 1 else (name or str(path)).replace("/", "-").strip("-.")
        if not chosen or chosen in seen:
            where = f" as line {seen[chosen]} has" if chosen in seen else ""
            raise InputError(f"{source}, line {number}: {chosen or name!r} names the file to write{where}: give another name")
        seen[chosen] = number
        row: dict[str, str | int] = {"id": chosen, "path": os.path.abspath(_there(source, path))}
        rows.append(row if channel is None else {**row, "channel": channel})
    return write_rows(folder, "audio", rows)


_Line = tuple[int, str | None, Path, int | None]


def _lines(source: Path, what: str) -> list[_Line]:
    """Return number, name if there is one, path, and channel if one is meant, of each line that isn't blank."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source} can't be read as text ({error}): give a list of {what}") from error
    found: list[_Line] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if len(line.split()) == 1:
            found.append((number, None, Path(line.strip()), None))
            continue
        try:
            row = parse_scp_line(line)
        except InputError as error:
            raise InputError(f"{source}, line {number}: {error}") from error
        found.append((number, row.id, Path(row.path), row.channel))
    if not found:
        raise InputError(f"{source} lists nothing: give a list of {what}, a name and a path on each line")
    return found


def _there(source: Path, path: Path) -> Path:
    """Return a path as it is meant: from here, or from the list's folder."""
    return path if path.is_absolute() or path.exists() else source.parent / path


def _distinct(source: Path, named: Sequence[tuple[int, str, Path]]) -> list[tuple[str, Path]]:
    seen: dict[str, Path] = {}
    for number, name, path in named:
        line = f", line {number}" if number else ""
        if name in seen:
            raise InputError(f"{source}{line}: {name} names {seen[name]} already: give each codebook a name of its own")
        if not path.is_file():
            raise InputError(f"{source}{line}: {path} is no file: mend the list")
        seen[name] = path
    return list(seen.items())
