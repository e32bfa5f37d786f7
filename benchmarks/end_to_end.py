"""From FLAC files to labels: `vocable prepare` as it is run, beside public pieces as they are run; wall time of the whole.

    python benchmarks/end_to_end.py [--speech DIR]

What counts is all from the first process to the last: starting, importing, the manifest, reading, cepstra, the fit, the labels
and the dictionary. The public pieces are in `public_pieces.py`. Their steps of two processes have one thread each, and their fit
has two threads; vocable is given no more than `--workers`. Files lie in the system's cache for all of them. The machine should
do nothing else: two threads that wait for each other take three times as long where only one core is free.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Benchmark, Clock, made_on

CLUSTERS = 100
SPEEDS = (1.0, 0.9, 1.1, 0.95, 1.05, 0.85)
"""At which speech is played, one after the other, for a corpus six times as long."""
CORES = 2
LONGER = "speech, played at six speeds"

_PIECES = str(Path(__file__).with_name("public_pieces.py"))
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_FIT_THREADS = {"OMP_NUM_THREADS": str(CORES), "OPENBLAS_NUM_THREADS": str(CORES)}
_UNSET = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FAISS_NUM_THREADS",
    "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
"""What users haven't set: libraries take the threads they like, and modules are compiled once."""


class WallTimes(Benchmark):
    """Contenders compared by wall time, since they use more than one core."""

    def table(self, result: dict[str, Any]) -> str:
        table = _table(self.title, self.baseline, result["cases"])
        return f"{table}\n{made_on(result, f'{CORES} cores')}\n"


benchmark = WallTimes("end_to_end", "From FLAC files to labels, K=100, whole runs, wall time", baseline="vocable, 2 workers")


@dataclass
class Job:
    """Processes of a run, one after the other or together."""

    case: dict[str, Any]
    clock: Clock
    peak_mib: float = 0.0
    """Of the process that had most."""

    def __post_init__(self) -> None:
        for path in Path(self.case["folder"]).rglob("*.flac"):  # into the system's cache
            path.read_bytes()

    def run(self, *commands: Sequence[str], **variables: str) -> float:
        """Run commands side by side; returns how many seconds it took."""
        environment = {key: value for key, value in os.environ.items() if key not in _UNSET} | variables
        before = self.clock.wall
        with self.clock.running():
            processes = [
                subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=environment) for command in commands
            ]
            for process in processes:
                self._wait(process)
        return self.clock.wall - before

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        _, status, usage = os.wait4(process.pid, 0)  # with the processes that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{process.args!r} failed")
        self.clock.cpu += usage.ru_utime + usage.ru_stime
        self.peak_mib = max(self.peak_mib, usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20))

    def figures(self, labels: Sequence[Path]) -> dict[str, Any]:
        """Return the figures of the run, after a look at its labels: there is a line for each file."""
        lines = [line for path in labels for line in path.read_text().splitlines()]
        if len(lines) != self.case["files"]:
            raise SystemExit(f"{len(lines)} lines of labels for {self.case['files']} files")
        frames = sum(len(line.split()) for line in lines)
        hours_an_hour = self.case["hours"] * 3600 / self.clock.wall
        return {"hours_an_hour": hours_an_hour, "lines": len(lines), "frames": frames, "peak_mib": self.peak_mib}


def _prepare(name: str, workers: int) -> None:
    """Register `vocable prepare` with so many workers as a contender."""

    @benchmark.contender(name)
    def vocable(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
        job = Job(case, clock)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            job.run((
                "-m", "vocable", "prepare", case["folder"], "--out", str(out), "--clusters", str(CLUSTERS),
                "--seed", str(seed), "--workers", str(workers),
            ))  # fmt: skip
            return job.figures([out / "train.km", out / "valid.km"])


_prepare("vocable, 2 workers", 2)
_prepare("vocable, 1 worker", 1)


@benchmark.contender("public pieces, 2 processes")
def public_pieces(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    job, shards = Job(case, clock), range(CORES)
    with tempfile.TemporaryDirectory() as out:
        steps = {
            "manifest": job.run((_PIECES, "manifest", case["folder"], out), **_ONE_THREAD),
            "features": job.run(*((_PIECES, "features", out, str(CORES), str(shard)) for shard in shards), **_ONE_THREAD),
            "k-means": job.run((_PIECES, "kmeans", out, str(CORES), str(CLUSTERS), str(seed)), **_FIT_THREADS),
            "labels": job.run(*((_PIECES, "labels", out, str(CORES), str(shard)) for shard in shards), **_ONE_THREAD),
        }
        whole, dictionary = Path(out) / "train.km", Path(out) / "dict.km.txt"
        with clock.running():
            whole.write_bytes(b"".join((Path(out) / f"train_{shard}_{CORES}.km").read_bytes() for shard in shards))
            dictionary.write_text("".join(f"{unit} 1\n" for unit in range(CLUSTERS)))
        return {**job.figures([whole]), "steps_s": steps}


def _table(title: str, baseline: str, cases: dict[str, Any]) -> str:
    lines = [title, ""]
    for case, runs in cases.items():
        base = _median(runs[baseline], "wall_s") if baseline in runs else None
        header = [
            "", "wall s, median (range)", f"× {baseline}", "CPU s", "hours of speech an hour", "lines of labels",
            "peak MiB of a process",
        ]  # fmt: skip
        lines += [f"**{case}**", "", "| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
        for contender, taken in runs.items():
            walls, median = [run["wall_s"] for run in taken], _median(taken, "wall_s")
            row = [
                contender, f"{median:.3g} ({min(walls):.3g} – {max(walls):.3g})", f"{median / base:.2f}" if base else "",
                f"{_median(taken, 'cpu_s'):.3g}", f"{_median(taken, 'hours_an_hour'):.0f}", f"{taken[-1]['lines']:,}",
                f"{_median(taken, 'peak_mib'):.0f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(row) + " |")
        counts = sorted({len(taken) for taken in runs.values()})
        lines += ["", f"{' or '.join(map(str, counts))} runs of each, interleaved. {_steps(runs)}".rstrip(), ""]
    return "\n".join(lines)


def _median(runs: list[dict[str, Any]], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def _steps(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return a sentence on where the public pieces spend their time."""
    steps = [run["steps_s"] for taken in runs.values() for run in taken if "steps_s" in run]
    if not steps:
        return ""
    medians = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    return "Wall s of the pieces' steps: " + ", ".join(f"{name} {seconds:.3g}" for name, seconds in medians.items()) + "."


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.speech is None:
        from front_ends import _made

        return dict([_case(_made(arguments.cache / "sweeps"), "made sound")])
    folder = arguments.speech.resolve()
    cases = dict([_case(folder, "speech")])
    if any(part in LONGER for part in arguments.case or [""]):  # which takes a while to make
        cases |= dict([_case(_at_speeds(folder, arguments.cache), LONGER)])
    return cases


def _case(folder: Path, kind: str) -> tuple[str, dict[str, Any]]:
    import soundfile

    lengths = [soundfile.info(path).duration for path in folder.rglob("*.flac")]
    hours = sum(lengths) / 3600
    name = f"{hours:.3g} hours of {kind}, {len(lengths):,} FLAC files"
    return name, {"folder": str(folder.resolve()), "files": len(lengths), "hours": hours}


def _at_speeds(folder: Path, cache: Path) -> Path:
    """Write a folder's speech at several speeds as FLAC files, unless it is there."""
    import frames
    import soundfile

    made = cache / f"{folder.name}-at-{len(SPEEDS)}-speeds"
    if not made.exists():
        print(f"making {made}", file=sys.stderr, flush=True)
        partial = made.with_suffix(".partial")
        for number, waveform in enumerate(frames.waveforms(folder, SPEEDS)):
            path = partial / f"{number // 100:03}" / f"{number:05}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.clip(waveform, -1, 1), 16000)
        partial.rename(made)
    return made


if __name__ == "__main__":
    benchmark.main(cases)
