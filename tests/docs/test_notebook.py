"""The notebook of syllables runs, and says what it says of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "syllables.ipynb"


def test_the_notebook_runs_from_top_to_bottom_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.gcf().axes)))
    monkeypatch.delenv("SDHUBERT", raising=False)
    names: dict[str, Any] = {}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    plt.close("all")
    said = capsys.readouterr().out
    assert shown == [4]
    assert said.count(" | ") > 10
    assert {"minimum cut", "greedy", "norms"} <= set(re.findall(r"^([a-z ]+?):", said, re.MULTILINE))
    scores = {
        name.strip(): float(value) for name, value in re.findall(r"^(\S[a-z ]+?) +precision .* F1 (\d\.\d\d)", said, re.MULTILINE)
    }
    assert len(scores) == 3
    assert all(0 < value <= 1 for value in scores.values())
