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
from vocable.audio.decoding import HIGHEST_RATE, LOWEST_RATE, resampled_length
from vocable.audio.faults import printable
from vocable.audio.kaldi_scp import parse_scp_line
from vocable.audio.manifest import Manifest, Utterance, id_of
from vocable.errors import InputError

_COLUMNS = ("id", "path", "samples", "sample_rate", "speaker", "channel")


def is_manifest(path: Path) -> bool:
    """Tell by its suffix whether a path names a manifest that `read_manifest` reads."""
    return path.suffix.lower() in _READERS


def read_manifest(path: str | Path, sample_rate: int = 16000) -> Manifest:
    """Read a manifest of any form; its suffix says which.

    Lengths that the file gives at another rate are converted; where it gives none, `samples` is -1. A `.tsv` doesn't say
    its rate: its counts are taken to be at `sample_rate`.

    Raises:
        InputError: names the file, the line and what it should hold.
    """
    path = Path(path)
    root, rows = read_rows(path, sample_rate)
    try:
        return Manifest.of(rows, root, sample_rate)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_rows(path: Path, sample_rate: int = 16000) -> tuple[str, list[Utterance]]:
    """Return the root and the rows of a manifest as they stand, be there ids that stand twice.

    Raises:
        InputError: names the file, the line and what it should hold.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no manifest: their names end in {', '.join(_READERS)}")
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: give a manifest, or a folder of audio")
    try:
        root, rows = reader(path, sample_rate)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    _require_text_root(path, os.path.abspath(root), rows)
    return root, rows


def _require_text_root(path: Path, root: str, rows: Iterable[Utterance]) -> None:
    """Refuse a root that can't be written, now rather than after the work: results name their audio by it."""
    try:
        root.encode()
    except UnicodeEncodeError as error:
        if not all(os.path.isabs(row.path) for row in rows):
            raise InputError(
                f"{printable(str(path))}: its paths start from {printable(root)}, a name that is not UTF-8: rename the folder, "
                "or give whole paths"
            ) from error


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write a manifest in the form its suffix names: `.tsv`, `.scp`, `.csv`, `.jsonl` or `.parquet`.

    Raises:
        InputError: the form can't carry what the manifest holds.
    """
    path = Path(path)
    check_form(path)
    try:
        _WRITERS[path.suffix.lower()](path, manifest)
    except UnicodeEncodeError as error:
        line = error.object[error.object.rfind("\n", 0, error.start) + 1 :].partition("\n")[0]
        raise InputError(f"{printable(line)}: a name in this is not UTF-8, which no manifest can carry: rename it") from error


def check_form(path: Path) -> None:
    """Refuse a name that says no form.

    Raises:
        InputError: lists the endings there are.
    """
    if path.suffix.lower() not in _WRITERS or path.is_dir():
        raise InputError(f"{path}: a manifest is a file whose name ends in {', '.join(_WRITERS)}")


def require_plain(path: str) -> None:
    """Refuse a path that no line of a manifest can carry.

    Raises:
        InputError: it holds a tab or a line break.
    """
    if {"\t", "\n", "\r"} & set(path):
        raise InputError(f"{path!r} holds a tab or a line break, which no manifest can carry: rename it")


def tsv_lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a fairseq manifest: the root, then `path<TAB>samples`."""
    root, paths = _rooted(manifest)
    yield root
    for name, samples in zip(paths, manifest.samples.tolist(), strict=True):
        yield f"{name}\t{samples}"


def _read_tsv(path: Path, sample_rate: int) -> tuple[str, list[Utterance]]:
    lines = _text(path).split("\n")
    if not lines[0].strip() or "\t" in lines[0]:
        raise InputError(f"{path} line 1 should be the folder that the paths below it start from, but reads {lines[0]!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        fields = line.rstrip().split("\t")
        if len(fields) != 2 or not _is_count(fields[1]):
            raise InputError(f"{path} line {number} should be a path, one tab and a number of samples, but reads {line!r}")
        rows.append((fields[0], int(fields[1])))
    ids = numbered_ids(name for name, _ in rows)
    return lines[0].rstrip(), [Utterance(name, *row) for name, row in zip(ids, rows, strict=True)]


def numbered_ids(paths: Iterable[str]) -> list[str]:
    """Return the ids of a `.tsv`'s rows, which has none of its own; rows that are repeated, to weigh more, get a number."""
    seen: Counter[str] = Counter()
    ids = []
    for name in map(id_of, paths):
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return ids


def keeps_ids(manifest: Manifest) -> bool:
    """Tell whether a `.tsv` gives a manifest's ids back when it is read."""
    return tuple(numbered_ids(_rooted(manifest)[1])) == manifest.ids


def _write_tsv(path: Path, manifest: Manifest) -> None:
    if manifest.channels:
        raise InputError(f"{path}: a .tsv can't say which channel to take; write a .csv or .jsonl")
    if (manifest.samples < 0).any():
        raise InputError(f"{path}: a .tsv takes the length of each file; 'vocable manifest' looks them up")
    root, *lines = tsv_lines(manifest)
    for name in (root, *manifest.paths):
        require_plain(name)
    write_text(path, "".join(line + "\n" for line in (root, *lines)))


def _read_scp(path: Path, sample_rate: int) -> tuple[str, list[Utterance]]:
    rows = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                rows.append(parse_scp_line(line))
            except InputError as error:
                raise InputError(f"{path} line {number}: {error}") from error
    return str(path.parent), rows


def _write_scp(path: Path, manifest: Manifest) -> None:
    if manifest.channels or any(set(name) & set(" \t") for name in manifest.ids):
        raise InputError(f"{path}: a .scp can't carry channels or ids with blanks; write a .csv or .jsonl")
    write_text(path, "".join(f"{item.id} {os.path.abspath(manifest.where(item))}\n" for item in manifest))


def _read_csv(path: Path, sample_rate: int) -> tuple[str, list[Utterance]]:
    reader = csv.DictReader(io.StringIO(_text(path)))
    try:
        if "path" not in (reader.fieldnames or []):
            raise InputError(f"{path} line 1 should name the columns, among them path, but reads {reader.fieldnames}")
        return _of_rows(path, _csv_rows(path, reader), sample_rate)
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV ({error})") from error


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in reader:
        if None in row:
            columns = len(reader.fieldnames or ())
            raise InputError(f"{path} line {reader.line_num} has more cells than the {columns} columns: quote what holds a comma")
        yield reader.line_num, row


def _write_csv(path: Path, manifest: Manifest) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(manifest))
    write_text(path, text.getvalue())


def _read_jsonl(path: Path, sample_rate: int) -> tuple[str, list[Utterance]]:
    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{path} line {number} is not JSON ({error}): write one object a line") from error
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


def _read_parquet(path: Path, sample_rate: int) -> tuple[str, list[Utterance]]:
    parquet = _pyarrow_parquet(path)
    try:
        table = parquet.read_table(path)
        columns, rows = table.column_names, table.to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's errors are these, and damaged names and cells are not UTF-8
        raise InputError(f"{path} is not a whole Parquet file ({error}): make it again") from error
    if "path" not in columns:
        raise InputError(f"{path} should have a column path, but has {', '.join(columns)}")
    return _of_rows(path, enumerate(rows, 1), sample_rate)


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


def _of_rows(path: Path, rows: Iterable[tuple[int, dict[str, Any]]], sample_rate: int) -> tuple[str, list[Utterance]]:
    """Make utterances of rows by column name, each with its line number."""
    utterances = []
    for number, row in rows:
        try:
            utterances.append(_utterance(row, sample_rate))
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"{path} line {number} should have a path, whole numbers for samples, sample_rate "
                f"({LOWEST_RATE} to {HIGHEST_RATE}) and channel, and no line breaks in id and speaker, but reads {row}"
            ) from error
    return str(path.parent), utterances


def _utterance(row: dict[str, Any], sample_rate: int) -> Utterance:
    name = row["path"]
    if not isinstance(name, str) or not name:
        raise ValueError("no path")
    samples, rate = _integer(row.get("samples"), -1), _integer(row.get("sample_rate"), sample_rate)
    if rate != sample_rate and not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError("no rate")
    channel = _integer(row.get("channel"), 0)
    if channel < 0:
        raise ValueError("no channel")
    speaker = row.get("speaker")
    utterance = Utterance(
        str(row.get("id") or id_of(name)),
        name,
        samples if samples < 0 or rate == sample_rate else resampled_length(samples, rate, sample_rate),
        None if speaker in (None, "") else str(speaker),
        channel or None,
    )
    for text in (utterance.id, utterance.speaker or "", utterance.path):
        text.encode()  # lone surrogates, which JSON can spell, are no text
        if "\n" in text:
            raise ValueError("a line break")
    return utterance


def _integer(value: Any, default: int) -> int:
    """Return a whole number below 2^53, which is more samples than there ever were."""
    if value in (None, ""):
        return default
    number = float(value)
    if not number.is_integer() or not -1 <= number < 1 << 53:
        raise ValueError("no count")
    return int(number)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


def _text(path: Path) -> str:
    """Return a file's text. Lines end at newlines alone: names may hold what str.splitlines takes for line ends."""
    return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")


def _rows(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for item in manifest:
        samples = item.samples if item.samples >= 0 else None
        values = (item.id, os.path.abspath(manifest.where(item)), samples, manifest.sample_rate, item.speaker, item.channel)
        yield dict(zip(_COLUMNS, values, strict=True))


def _rooted(manifest: Manifest) -> tuple[str, list[str]]:
    """Return an absolute root and paths relative to it; paths outside the root move it up to their common folder."""
    root = os.path.abspath(manifest.root or ".")
    if not any(os.path.isabs(path) or path.startswith("..") for path in manifest.paths):
        return root, list(manifest.paths)
    whole = [os.path.normpath(os.path.join(root, path)) for path in manifest.paths]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    return common, [os.path.relpath(path, common) for path in whole]


_READERS: dict[str, Callable[[Path, int], tuple[str, list[Utterance]]]] = {
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
