"""A training, or several in turn, as one HTML page that opens anywhere: curves, settings, scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from vocable.errors import InputError
from vocable.report.line_chart import Line, line_chart
from vocable.report.page import page
from vocable.training.records import read_records

_CURVES = (
    ("Loss of masked frames, nats", ("loss_masked",), False),
    ("Accuracy", ("accuracy_masked", "accuracy_unmasked"), True),
    ("Phones: PNMI of a layer's units", ("pnmi",), False),
    ("What heads tell of speakers and pitch, accuracy", ("speaker_accuracy", "pitch_accuracy"), True),
    ("What heads tell of speakers and pitch, nats", ("speaker_loss", "pitch_loss"), True),
    ("Strength of the gradients' reversal", ("reversal",), True),
    ("Error of log-mel frames", ("mel_error",), True),
    ("Judged right by discriminators", ("accuracy_speech", "accuracy_made"), True),
    ("Norm of the gradients", ("gradient_norm",), True),
    ("Learning rate", ("learning_rate",), True),
    ("Audio-hours per hour", ("audio_per_second",), True),
    ("Most predicted label, part of the masked frames", ("commonest",), True),
    ("Penalty of the convolutions' values", ("penalty",), True),
)
"""Titles, names in the records, and whether a chart begins at 0."""


@dataclass(frozen=True)
class Table:
    """Rows under names of columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class TrainingRun:
    """One training, as its folder has it."""

    name: str
    records: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> TrainingRun:
        """Read a run's folder.

        Raises:
            InputError: it is none.
        """
        path = folder / "metrics.jsonl"
        if not path.is_file():
            raise InputError(f"{folder} is no folder of a training: it lacks metrics.jsonl")
        settings = folder / "settings.json"
        return cls(folder.name, read_records(path), json.loads(settings.read_bytes()) if settings.is_file() else {})

    def curve(self, split: str, name: str) -> Line:
        """Return steps and values of what was recorded."""
        return [(item["step"], item[name]) for item in self.records if item["split"] == split and item.get(name) is not None]


def runs_in(folder: Path) -> list[TrainingRun]:
    """Return the trainings in a folder: it is one, or holds some.

    Raises:
        InputError: neither.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the one that 'vocable train' or 'vocable pretrain' wrote")
    if (folder / "metrics.jsonl").is_file():
        return [TrainingRun.read(folder)]
    found = [TrainingRun.read(item) for item in sorted(folder.iterdir()) if (item / "metrics.jsonl").is_file()]
    if not found:
        raise InputError(f"{folder} holds no training: give the folder that 'vocable train' or 'vocable pretrain' wrote")
    return found


def training_report(title: str, runs: Sequence[TrainingRun], tables: Sequence[Table] = (), pictures: Sequence[str] = ()) -> str:
    """Return a page, HTML, that needs nothing beside it.

    Args:
        title: above it.
        runs: one after another.
        tables: before them.
        pictures: SVG, behind the tables.
    """
    parts = list(map(_table, tables))
    if pictures:
        parts.append(f'<div class="charts">{"".join(pictures)}</div>')
    for run in runs:
        parts += [] if [run.name] == [title] else [f"<h2>{escape(run.name)}</h2>"]
        parts += [_summary(run), f'<div class="charts">{"".join(_charts(run))}</div>']
        if run.settings:
            settings = escape(json.dumps(run.settings, indent=2, ensure_ascii=False))
            parts.append(f"<details><summary>settings</summary><pre>{settings}</pre></details>")
    return page(title, parts)


def _charts(run: TrainingRun) -> list[str]:
    made = []
    for title, names, from_zero in _CURVES:
        lines = {}
        for name in names:
            for split in ("train", "valid"):
                if curve := run.curve(split, name):
                    label = name.removeprefix("accuracy_").replace("_", " ") if len(names) > 1 else ""
                    lines[f"{split} {label}".strip()] = curve
        if lines:
            made.append(line_chart(title, "steps", lines, from_zero=from_zero))
    return made


def _summary(run: TrainingRun) -> str:
    last = {split: next((item for item in reversed(run.records) if item["split"] == split), None) for split in ("train", "valid")}
    rows = [
        [name.replace("_", " "), *(_shown((last[split] or {}).get(name)) for split in last)]
        for name in dict.fromkeys(name for item in last.values() if item for name in item)
        if name not in ("split", "step")
    ]
    steps = max((item["step"] for item in run.records), default=0)
    return _table(Table(f"After {steps:,} steps", ["", *last], rows))


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row) + "</tr>" for row in table.rows)
    return f"<h3>{escape(table.title)}</h3><table><tr>{head}</tr>{body}</table>"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
