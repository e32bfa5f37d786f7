"""Contenders measured beside each other: each run in a process of its own, one thread, CPU time, interleaved.

A benchmark is a file that registers contenders and cases and calls `main`. Its runs go round by round, all contenders of a case
in each round, so that whatever else the machine does meets all of them alike; the figure of a contender is its median, and what
is compared are ratios of medians. Seeds are 0, 1, 2, 0, 1, … over the rounds. What a contender does before the clock starts
(imports, reading data, a first small call) isn't counted, except in benchmarks of just that.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SEEDS = 3
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FAISS_NUM_THREADS")
_PACKAGES = (
    "vocable", "numpy", "torch", "scikit-learn", "faiss-cpu", "superkmeans", "librosa", "kaldi-native-fbank", "soundfile",
)  # fmt: skip
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "avx512_fp16")


@dataclass
class Clock:
    """What a contender's work took."""

    cpu: float = 0.0
    """Seconds of all threads."""
    wall: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall


Contender = Callable[[Any, int, Clock], dict[str, Any]]
"""Does a case with a seed, the clock running while it does what is measured; returns other figures, such as an inertia."""


@dataclass
class Benchmark:
    """Contenders and cases.

    Args:
        name: of the results.
        title: a line above the tables.
        baseline: the contender that others are compared with.
        figures: names of the other figures that contenders return, in the order of their columns.
    """

    name: str
    title: str
    baseline: str = "vocable"
    figures: Sequence[str] = ()
    contenders: dict[str, Contender] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    """Of contenders that take too long for as many as the others."""
    usual_rounds: int = 5

    def contender(self, name: str, rounds: int | None = None) -> Callable[[Contender], Contender]:
        """Register a function as a contender."""

        def register(function: Contender) -> Contender:
            self.contenders[name] = function
            if rounds is not None:
                self.rounds[name] = rounds
            return function

        return register

    def main(self, cases: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
        """Run as a command.

        Args:
            cases: makes, of the command's options, the cases by name; each must be JSON.
        """
        arguments = _parsed(self.title, list(self.contenders), self.usual_rounds)
        if arguments.one is not None:
            self._one(*arguments.one)
            return
        made = cases(arguments)
        chosen = {name: case for name, case in made.items() if any(part in name for part in arguments.case or [""])}
        results = self._stored() if arguments.add else {}
        for name, case in chosen.items():
            results[name] = {**results.get(name, {}), **self._run(name, case, arguments)}
            self._write(results)
        print((RESULTS / f"{self.name}.md").read_text())

    def table(self, result: dict[str, Any]) -> str:
        """Return a result, as it is written, as Markdown."""
        return table_of(result)

    def _one(self, contender: str, case: str, seed: str) -> None:
        """Run one contender once, in this process, and print what it took."""
        clock = Clock()
        figures = self.contenders[contender](json.loads(case), int(seed), clock)
        print(json.dumps({"cpu_s": clock.cpu, "wall_s": clock.wall, "peak_mib": peak_mib(), **figures}))

    def _run(self, name: str, case: Any, arguments: argparse.Namespace) -> dict[str, Any]:
        runs: dict[str, list[dict[str, Any]]] = {}
        for turn in range(arguments.rounds):
            for contender in self.contenders:
                if (arguments.only and contender not in arguments.only) or contender in (case.get("without") or ()):
                    continue
                if turn >= self.rounds.get(contender, turn + 1):
                    continue
                run = _child(contender, case, turn % SEEDS)
                runs.setdefault(contender, []).append(run)
                print(f"{self.name} · {name} · round {turn + 1} · {contender}: {run}", file=sys.stderr, flush=True)
        return runs

    def _stored(self) -> dict[str, Any]:
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text())["cases"] if path.exists() else {}

    def _write(self, cases: dict[str, Any]) -> None:
        RESULTS.mkdir(exist_ok=True)
        result = {
            "name": self.name, "title": self.title, "baseline": self.baseline, "figures": list(self.figures),
            "machine": machine(), "versions": versions(), "cases": cases,
        }  # fmt: skip
        (RESULTS / f"{self.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{self.name}.md").write_text(self.table(result))


def _parsed(title: str, contenders: list[str], rounds: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"runs of each contender (default {rounds})")
    parser.add_argument("--speech", type=Path, help="a folder of real speech; without it, made data alone")
    parser.add_argument("--cache", type=Path, default=Path("build/benchmarks"), help="where data are kept between runs")
    parser.add_argument("--only", nargs="+", choices=contenders, help="these contenders alone")
    parser.add_argument("--case", nargs="+", help="cases whose name contains one of these alone")
    parser.add_argument("--add", action="store_true", help="keep the results that stand for other cases and contenders")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _child(contender: str, case: Any, seed: int) -> dict[str, Any]:
    command = [sys.executable, sys.argv[0], "--one", contender, json.dumps(case), str(seed)]
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), **(case.get("environment") or {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed on {case}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def peak_mib() -> float:
    """Return the most memory that this process has had so far, in MiB; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")  # getrusage would count what the parent had when it forked
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def machine() -> dict[str, Any]:
    """Return what the processor is."""
    model, flags = platform.processor(), set[str]()
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model Name"):
                model = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    return {"processor": model, "flags": [flag for flag in _CPU_FLAGS if flag in flags], "cores": os.cpu_count()}


def versions() -> dict[str, str]:
    """Return the versions of vocable and of its peers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table_of(result: dict[str, Any]) -> str:
    """Return results as Markdown: a table for each case, the baseline first."""
    lines = [f"{result['title']}", ""]
    for case, runs in result["cases"].items():
        base = statistics.median(run["cpu_s"] for run in runs[result["baseline"]]) if result["baseline"] in runs else None
        header = ["", "CPU s, median (range)", f"× {result['baseline']}", *result["figures"], "peak MiB"]
        lines += [f"**{case}**", "", "| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
        for contender, taken in runs.items():
            seconds = sorted(run["cpu_s"] for run in taken)
            median = statistics.median(seconds)
            ratio = f"{median / base:.2f}" if base else ""
            figures = [_figure(taken, name) for name in result["figures"]]
            row = [contender, f"{median:.3g} ({seconds[0]:.3g} – {seconds[-1]:.3g})", ratio, *figures]
            lines.append("| " + " | ".join([*row, f"{statistics.median(run['peak_mib'] for run in taken):.0f}"]) + " |")
        counts = sorted({len(taken) for taken in runs.values()})
        lines += ["", f"{' or '.join(map(str, counts))} runs of each, interleaved.", ""]
    return "\n".join([*lines, made_on(result, "one thread")]) + "\n"


def made_on(result: dict[str, Any], threads: str) -> str:
    """Return a line that says on what a result was made."""
    machine, named = result["machine"], result["versions"]
    flags = ", ".join(machine["flags"])
    return f"{machine['processor']} ({flags}), {threads}. " + ", ".join(f"{key} {value}" for key, value in named.items())


def _figure(taken: list[dict[str, Any]], name: str) -> str:
    """Return the mean of a figure over seeds, each seed counting once."""
    by_seed = {turn % SEEDS: run[name] for turn, run in enumerate(taken) if name in run}
    if not by_seed:
        return ""
    values = list(by_seed.values())
    return values[0] if isinstance(values[0], str) else f"{statistics.fmean(values):.6g}"
