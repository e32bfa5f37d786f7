"""Curves of trainings on one page, which needs nothing beside it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vocable.errors import InputError
from vocable.report.line_chart import line_chart
from vocable.report.training_report import Table, runs_in, training_report


def run_in(folder: Path, steps: int = 5, **more: float) -> Path:
    folder.mkdir(parents=True)
    lines = [
        {"split": "train", "step": step, "loss": 4.0 - step / 10, "loss_masked": 4.0 - step / 10, **more}
        for step in range(1, steps)
    ]
    lines.append({"split": "valid", "step": steps, "loss_masked": 3.9, "accuracy_masked": 0.25, "pnmi": None})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "settings.json").write_text('{"model": {"layers": "<6>"}}')
    return folder


def test_a_page_has_curves_settings_and_tables(tmp_path: Path) -> None:
    for name in ("iteration-2", "iteration-1"):
        run_in(tmp_path / name)
    page = training_report(
        "All <of it>", runs_in(tmp_path), [Table("Scores", ["frames", "pnmi"], [["a & b", 0.25]])], ["<svg></svg>"]
    )
    assert page.index("iteration-1") < page.index("iteration-2")
    for words in ("All &lt;of it&gt;", "Loss of masked frames", "Accuracy", "&lt;6&gt;", "a &amp; b", "0.25", "3.9"):
        assert words in page
    assert "PNMI" not in page
    assert "src=" not in page
    assert "href=" not in page


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no training"):
        runs_in(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        runs_in(tmp_path / "none")


def test_charts_are_whole_and_hold_all_points() -> None:
    many = [(step, 5 - step / 1000) for step in range(0, 3000, 10)]
    made = line_chart("Loss & more", "steps", {"train": many, "valid": [(1000, 4.5), (2000, 4.1)]}, marked=2000, from_zero=False)
    root = ElementTree.fromstring(made)
    lines = [item for item in root.iter() if item.tag.endswith("polyline")]
    assert [len(item.attrib["points"].split()) for item in lines] == [300, 2]
    heights = [float(point.split(",")[1]) for item in lines for point in item.attrib["points"].split()]
    assert min(heights) >= 48
    assert max(heights) <= 320 - 44
    assert max(heights) - min(heights) > 150  # they fill it
    assert len([item for item in root.iter() if item.tag.endswith("circle")]) == 2
    ElementTree.fromstring(line_chart("none", "steps", {"train": []}))
    ElementTree.fromstring(line_chart("one", "steps", {"train": [(3, 0.0)]}))
