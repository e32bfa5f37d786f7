"""The page of a training, or of several iterations, out of what lies in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vocable.report.training_report import Table, runs_in, training_report

SCORES = "scores.json"
"""What frames before and behind each iteration are worth."""
_COLUMNS = ("pnmi", "pnmi_least", "pnmi_most", "phone_purity", "probe_accuracy")


def report_of(folder: Path) -> str:
    """Return the page that tells of a training, or of several iterations, HTML.

    Raises:
        InputError: there is none in the folder.
    """
    runs = runs_in(folder)
    scores = folder / SCORES
    tables = [_table(json.loads(scores.read_bytes()))] if scores.is_file() else []
    pictures = [path.read_text() for path in sorted(folder.glob("layers-*.svg"))]
    return training_report(folder.resolve().name, runs, tables, pictures)


def _table(scores: dict[str, Any]) -> Table:
    first: dict[str, Any] = next(iter(scores.values()), {})
    title = (
        f"{first.get('clusters')} units fitted on train and scored on valid, means of {first.get('seeds')} fits; "
        f"one frame every {first.get('period', 0):g} ms"
    )
    others = list(first.get("also", {}))
    rows = [
        [name, *(row[column] for column in _COLUMNS), *(row["also"][count]["pnmi"] for count in others)]
        for name, row in sorted(scores.items(), key=lambda item: item[1]["place"])
    ]
    named = [*(column.replace("_", " ") for column in _COLUMNS), *(f"pnmi of {count} units" for count in others)]
    return Table(title, ["frames", *named], rows)
