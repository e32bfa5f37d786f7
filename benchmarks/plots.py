"""Plots of results, as SVG files beside them.

python benchmarks/plots.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from harness import RESULTS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

Run = dict[str, Any]

AXES = {"frames": "count", "clusters": "clusters"}
"""What may grow, which is how the axis is called and the file ends, and the entry of a run that says how large it was."""

_LINES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"))  # of Okabe and Ito's colours, which the colour-blind tell apart
_QUIET = "#767676"
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "vocable", "font.family": "sans-serif", "font.size": 9.5, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _QUIET, "xtick.color": _QUIET, "ytick.color": _QUIET,
    "xtick.labelcolor": "black", "ytick.labelcolor": "black", "lines.linewidth": 1.6, "lines.markersize": 4.5,
}  # fmt: skip


def scaling() -> None:
    """Plot the time and the memory of fits against what grows, both axes logarithmic."""
    cases = json.loads((RESULTS / "scaling.json").read_text())["cases"].values()
    contenders = list(dict.fromkeys(name for case in cases for name in case))
    for grows, size in AXES.items():
        runs = {name: [run for case in cases for run in case.get(name, []) if run["grows"] == grows] for name in contenders}
        if not any(runs.values()):
            continue
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(7.6, 3.1), layout="constrained")
            left, right = figure.subplots(1, 2)
            _lines(left, runs, size, lambda run: run["cpu_s"])
            _lines(right, runs, size, lambda run: run["peak_mib"])
            _line_of_frames(right, [run for taken in runs.values() for run in taken], size)
            for axes, title in ((left, "Fit, CPU s"), (right, "Peak memory of the process, MiB")):
                _finish(axes, title, f"{grows}, {_fixed(grows, next(filter(None, runs.values()))[0])}")
            handles, names = right.get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper left", ncols=len(names), frameon=False, handlelength=1.8)
            figure.savefig(RESULTS / f"scaling-{grows}.svg", metadata={"Date": None})


def cuts() -> None:
    """Plot the time and the memory of minimum cuts against the frames that are cut, both axes logarithmic."""
    cases = json.loads((RESULTS / "minimum_cut.json").read_text())["cases"].values()
    contenders = list(dict.fromkeys(name for case in cases for name in case))
    runs = {name: [run for case in cases for run in case.get(name, [])] for name in contenders}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        _lines(left, runs, "frames", lambda run: run["cpu_s"])
        _lines(right, runs, "frames", lambda run: run["peak_mib"])
        for axes, title in ((left, "Minimum cut, CPU s"), (right, "Peak memory of the process, MiB")):
            _finish(axes, title, "frames, ten pieces a second")
        handles, names = right.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=len(names), frameon=False, handlelength=1.8)
        figure.savefig(RESULTS / "minimum_cut.svg", metadata={"Date": None})


def _lines(axes: Axes, runs: dict[str, list[Run]], size: str, figure: Callable[[Run], float]) -> None:
    """Draw a line for each contender, of medians over its runs."""
    for (name, taken), (colour, marker) in zip(runs.items(), _LINES, strict=False):
        sizes = sorted({run[size] for run in taken})
        medians = [statistics.median(figure(run) for run in taken if run[size] == at) for at in sizes]
        axes.plot(sizes, medians, color=colour, marker=marker, label=name)


def _line_of_frames(axes: Axes, runs: list[Run], size: str) -> None:
    """Draw how much the frames themselves take."""
    taken = {run[size]: run["count"] * run["dim"] * 4 / 2**20 for run in runs}
    axes.plot(sorted(taken), [taken[at] for at in sorted(taken)], color=_QUIET, linestyle="--", linewidth=1, label="the frames")


def _finish(axes: Axes, title: str, size: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=size)
    axes.set_title(title, loc="left")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _fixed(grows: str, run: Run) -> str:
    """Return in words what doesn't grow."""
    other = f"{run['clusters']:,} clusters" if grows == "frames" else f"{run['count']:,} frames"
    return f"of {run['dim']} values, {other}"


if __name__ == "__main__":
    scaling()
    cuts()
