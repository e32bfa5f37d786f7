"""Manifests on disk: fairseq's `.tsv`, Kaldi's `.scp`, and tables in CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json
from vocable.artefacts.writing import replacing, write_text
from vocable.audio.decoding import resampled_length
from vocable.audio.kaldi_scp import parse_scp_line
from vocable.audio.manifest import Manifest, Utterance, id_of
from vocable.errors import InputError

_COLUMNS = ("id", "path", "samples", "sample_rate", "speaker", "channel")


def is_manifest(path: Path) -> bool:
    """Tell by its suffix whether a path names a manifest that `read_manifest` reads."""
    return path.suffix.lower() in _READERS


def read_manifest(path: Path, sample_rate: int = 16000) -> Manifest:
    """Read a manifest of any form; its suffix says which.

    Lengths that the file gives at another rate are converted; where it gives none, `samples` is -1. A `.tsv` doesn't say
    its rate: its counts are taken to be at `sample_rate`.

    Raises:
        InputError: names the file, the line and what it should hold.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no manifest: their names end in {', '.join(_READERS)}")
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: give a manifest, or a folder of audio")
    try:
        return reader(path, sample_rate)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest in the form its suffix names: `.tsv`, `.scp`, `.csv`, `.jsonl` or `.parquet`.

    Raises:
        InputError: the form can't carry what the manifest holds.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: a manifest's name ends in {', '.join(_WRITERS)}")
    writer(path, manifest)


def tsv_lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a fairseq manifest: the root, then `path<TAB>samples`."""
    root, paths = _rooted(manifest)
    yield root
    for name, samples in zip(paths, manifest.samples.tolist(), strict=True):
        yield f"{name}\t{samples}"


def _read_tsv(path: Path, sample_rate: int) -> Manifest:
    # Lines end at newlines alone: a file name may hold characters that str.splitlines takes for line ends.
    lines = path.read_bytes().decode().replace("\r\n", "\n").split("\n")
    if not lines or not lines[0].strip():
        raise InputError(f"{path} line 1 should be the folder that the paths below it start from, but is empty")
    utterances = []
    seen: Counter[str] = Counter()
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        fields = line.rstrip().split("\t")
        if len(fields) != 2 or not fields[1].isdigit():
            raise InputError(f"{path} line {number} should be a path, one tab and a number of samples, but reads {line!r}")
        # The form has no ids of its own, and rows are repeated to weigh more: those get a number.
        name = id_of(fields[0])
        seen[name] += 1
        utterances.append(Utterance(name if seen[name] == 1 else f"{name}#{seen[name]}", fields[0], int(fields[1])))
    return Manifest.of(utterances, lines[0].rstrip(), sample_rate)


def _write_tsv(path: Path, manifest: Manifest) -> None:
    if manifest.channels:
        raise InputError(f"{path}: a .tsv can't say which channel to take; write a .csv or .jsonl")
    write_text(path, "".join(line + "\n" for line in tsv_lines(manifest)))


def _read_scp(path: Path, sample_rate: int) -> Manifest:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(parse_scp_line(line))
            except InputError as error:
                raise InputError(f"{path} line {number}: {error}") from error
    return Manifest.of(rows, str(path.parent), sample_rate)


def _write_scp(path: Path, manifest: Manifest) -> None:
    if manifest.channels or any(set(name) & set(" \t") for name in manifest.ids):
        raise InputError(f"{path}: a .scp can't carry channels or ids with blanks; write a .csv or .jsonl")
    write_text(path, "".join(f"{item.id} {os.path.abspath(item.path)}\n" for item in manifest))


def _read_csv(path: Path, sample_rate: int) -> Manifest:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if "path" not in (reader.fieldnames or []):
            raise InputError(f"{path} line 1 should name the columns, among them path, but reads {reader.fieldnames}")
        return _of_rows(path, ((reader.line_num, row) for row in reader), sample_rate)


def _write_csv(path: Path, manifest: Manifest) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(manifest))
    write_text(path, text.getvalue())


def _read_jsonl(path: Path, sample_rate: int) -> Manifest:
    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{path} line {number} is not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise InputError(f"{path} line {number} should be a JSON object with a path, but reads {line!r}")
                yield number, row

    return _of_rows(path, rows(), sample_rate)


def _write_jsonl(path: Path, manifest: Manifest) -> None:
    write_text(
        path,
        "".join(
            canonical_json({key: value for key, value in row.items() if value is not None}) + "\n" for row in _rows(manifest)
        ),
    )


def _read_parquet(path: Path, sample_rate: int) -> Manifest:
    table = _pyarrow_parquet(path).read_table(path)
    if "path" not in table.column_names:
        raise InputError(f"{path} should have a column path, but has {', '.join(table.column_names)}")
    return _of_rows(path, enumerate(table.to_pylist(), 1), sample_rate)


def _write_parquet(path: Path, manifest: Manifest) -> None:
    parquet = _pyarrow_parquet(path)
    import pyarrow

    with replacing(path) as file:
        parquet.write_table(pyarrow.Table.from_pylist(list(_rows(manifest))), file)


def _pyarrow_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'vocable[parquet]'") from error
    return pyarrow.parquet


def _of_rows(path: Path, rows: Iterable[tuple[int, dict[str, Any]]], sample_rate: int) -> Manifest:
    """Make a manifest of rows by column name, each with its line number."""
    utterances = []
    for number, row in rows:
        try:
            name = str(row["path"])
            samples = _integer(row.get("samples"), -1)
            rate = _integer(row.get("sample_rate"), sample_rate)
            utterances.append(
                Utterance(
                    str(row.get("id") or id_of(name)),
                    name,
                    samples if samples < 0 or rate == sample_rate else resampled_length(samples, rate, sample_rate),
                    str(row["speaker"]) if row.get("speaker") not in (None, "") else None,
                    _integer(row.get("channel"), 0) or None,
                )
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} line {number} should have a path, and whole numbers for samples, sample_rate and channel, "
                f"but reads {row}"
            ) from error
    return Manifest.of(utterances, str(path.parent), sample_rate)


def _integer(value: Any, default: int) -> int:
    return default if value in (None, "") else int(value)


def _rows(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for item in manifest:
        samples = item.samples if item.samples >= 0 else None
        values = (item.id, os.path.abspath(item.path), samples, manifest.sample_rate, item.speaker, item.channel)
        yield dict(zip(_COLUMNS, values, strict=True))


def _rooted(manifest: Manifest) -> tuple[str, list[str]]:
    """Return an absolute root and paths relative to it; paths outside the root move it up to their common folder."""
    root = os.path.abspath(manifest.root or ".")
    if not any(os.path.isabs(path) or path.startswith("..") for path in manifest.paths):
        return root, list(manifest.paths)
    whole = [os.path.normpath(os.path.join(root, path)) for path in manifest.paths]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    return common, [os.path.relpath(path, common) for path in whole]


_READERS: dict[str, Callable[[Path, int], Manifest]] = {
    ".tsv": _read_tsv,
    ".scp": _read_scp,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
_WRITERS: dict[str, Callable[[Path, Manifest], None]] = {
    ".tsv": _write_tsv,
    ".scp": _write_scp,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
