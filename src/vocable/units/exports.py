"""Units in the forms that other programs read: JSON lines, Parquet, RTTM, TextGrids. They are written, and not read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.writing import replacing, write_text
from vocable.errors import InputError
from vocable.timelines.rttm import rttm_lines
from vocable.timelines.textgrid import write_textgrid
from vocable.timelines.timeline import Timeline
from vocable.units.units import Sequence, UnitsHeader, run_lengths

EXPORTS = (".units.jsonl", ".units.parquet", ".rttm", ".TextGrid")
_TIER = "units"


@dataclass(frozen=True)
class NamedUnits:
    """An utterance's units."""

    id: str
    seconds: float
    """Of audio."""
    units: Sequence


def export_files(folder: Path, name: str, form: str, ids: Iterable[str]) -> list[Path]:
    """Return the files of a form; of TextGrids, one for each utterance.

    Raises:
        InputError: two utterances would have one file.
    """
    if form != ".TextGrid":
        return [folder / f"{name}{form}"]
    owners: dict[Path, str] = {}
    for item in ids:
        path = _textgrid(folder, item)
        if path in owners:
            raise InputError(
                f"the utterances {owners[path]!r} and {item!r} would both be written to {path.name}: take another form"
            )
        owners[path] = item
    return list(owners)


def write_export(folder: Path, name: str, form: str, header: UnitsHeader, rows: Iterable[NamedUnits], runs: bool) -> None:
    """Write units in one of the forms.

    Args:
        folder: for the files.
        name: of the file.
        form: one of `EXPORTS`.
        header: what made the units; times follow from it.
        rows: utterance by utterance.
        runs: in JSON lines and Parquet, a unit for each run, and the frames of each, in place of a unit for each frame.

    Raises:
        InputError: the header doesn't say how many units a second has, which times need.
    """
    writers: dict[str, Callable[[], None]] = {
        ".units.jsonl": lambda: _write_jsonl(folder / f"{name}{form}", header, rows, runs),
        ".units.parquet": lambda: _write_parquet(folder / f"{name}{form}", header, rows, runs),
        ".rttm": lambda: _write_rttm(folder / f"{name}{form}", header, rows),
        ".TextGrid": lambda: _write_textgrids(folder, header, rows),
    }
    writers[form]()


def timeline_of(units: Sequence, header: UnitsHeader) -> Timeline:
    """Return the runs of units as intervals; a frame stands for the time around the centre of its window.

    Raises:
        InputError: the header doesn't say how many units a second has.
    """
    if header.rate is None:
        raise InputError("the units don't say how many there are in a second, which times need: take --form km or jsonl")
    values, durations = run_lengths(units)
    ends = np.cumsum(durations)
    firsts, lasts, half = ends - durations, ends - 1, 0.5 / header.rate
    if header.features:
        times = FeatureSpec.from_json({**header.features, "recorded": {}}).frame_times
        starts, stops = times(firsts) - half, times(lasts) + half
    else:
        starts, stops = firsts / header.rate, ends / header.rate
    stops[:-1] = np.minimum(stops[:-1], starts[1:])  # they differ in their last bits, where no frame is missing between
    return Timeline(np.maximum(starts, 0.0), stops, tuple(map(str, values.tolist())))


def _entry(row: NamedUnits, header: UnitsHeader, runs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": row.id, "rate": header.rate}
    if not runs:
        return {**entry, "units": row.units.tolist()}
    units, durations = run_lengths(row.units)
    return {**entry, "units": units.tolist(), "durations": durations.tolist()}


def _write_jsonl(path: Path, header: UnitsHeader, rows: Iterable[NamedUnits], runs: bool) -> None:
    with replacing(path) as file:
        for row in rows:
            line = json.dumps(_entry(row, header, runs), ensure_ascii=False, separators=(",", ":"))
            file.write(line.encode("utf-8", "surrogateescape") + b"\n")


_ROWS, _UNITS = 4096, 1 << 22  # at most, of a Parquet row group


def pyarrow_for(path: Path) -> Any:
    """Return pyarrow, to write a file with.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'vocable[parquet]'") from error
    return pyarrow


def _write_parquet(path: Path, header: UnitsHeader, rows: Iterable[NamedUnits], runs: bool) -> None:
    pyarrow = pyarrow_for(path)
    listed = pyarrow.list_(pyarrow.uint32())
    fields = [
        ("id", pyarrow.string()),
        ("rate", pyarrow.float64()),
        ("units", listed),
        *([("durations", listed)] if runs else []),
    ]
    with replacing(path) as file, pyarrow.parquet.ParquetWriter(file, schema := pyarrow.schema(fields)) as writer:
        for group in _grouped(rows):
            writer.write_table(pyarrow.Table.from_pylist([_entry(row, header, runs) for row in group], schema=schema))


def _write_rttm(path: Path, header: UnitsHeader, rows: Iterable[NamedUnits]) -> None:
    with replacing(path) as file:
        for row in rows:
            _put(file, rttm_lines(row.id, timeline_of(row.units, header)))


def _write_textgrids(folder: Path, header: UnitsHeader, rows: Iterable[NamedUnits]) -> None:
    for row in rows:
        write_text(_textgrid(folder, row.id), write_textgrid(timeline_of(row.units, header), row.seconds, _TIER))


def _textgrid(folder: Path, utterance: str) -> Path:
    return folder / f"{utterance.replace('/', '-')}.TextGrid"


def _put(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8", "surrogateescape"))


def _grouped(rows: Iterable[NamedUnits]) -> Iterator[list[NamedUnits]]:
    group, held = list[NamedUnits](), 0
    for row in rows:
        group.append(row)
        held += len(row.units)
        if len(group) == _ROWS or held >= _UNITS:
            yield group
            group, held = [], 0
    if group:
        yield group


def named(ids: Iterable[str], seconds: Iterable[float], sequences: Iterable[Sequence]) -> Iterator[NamedUnits]:
    """Return utterances with their units, one after another."""
    return (NamedUnits(*row) for row in zip(ids, seconds, sequences, strict=True))
