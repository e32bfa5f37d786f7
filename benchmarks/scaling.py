"""How the time and the memory of a fit grow with the frames and with the clusters.

    python benchmarks/scaling.py

One run of each point, on made frames, a process each. Memory is the most the process had, with the frames and the libraries.
vocable loads torch by itself where it reckons that this saves time; the loading counts. `--case` and `--add` measure some points
alone and keep the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from typing import Any

import frames
import numpy as np
from harness import Benchmark, Clock, made_on, peak_mib
from peers import ITERATIONS, faiss_centroids

COUNTS = (10**4, 10**5, 10**6, 10**7)
COUNTS_DIM, COUNTS_CLUSTERS = 39, 100
CLUSTERS = (100, 400, 1000, 2000, 4096, 8192, 16384)
CLUSTERS_DIM, CLUSTERS_COUNT = 256, 200_000
HELD_OUT = 50_000

FAISS = f"faiss, {ITERATIONS} iterations"
LIMIT = 5e13
"""Operations on floats in a run of faiss, above which it is left out: ten minutes at 80 thousand million a second."""

GROWTHS = {"frames": "Frames grow", "clusters": "Clusters grow"}
"""What grows, and the heading of its table; the names of cases begin with the heading."""

INERTIA = "held-out inertia a frame"


class Curves(Benchmark):
    """Points of one run each: a table and a plot for each of the things that grow."""

    def table(self, result: dict[str, Any]) -> str:
        table = _table(self.title, list(self.contenders), result["cases"])
        return f"{table}\n{made_on(result, 'one thread')}\n"

    def _write(self, cases: dict[str, Any]) -> None:
        super()._write(cases)
        if importlib.util.find_spec("matplotlib") is None:
            print("no plots: they want matplotlib", file=sys.stderr)
            return
        import plots

        plots.scaling()


benchmark = Curves("scaling", "How a fit grows, single-threaded", figures=(INERTIA,), usual_rounds=1)


def _data(case: dict[str, Any]) -> np.ndarray:
    """Return the first frames of a file, read and not mapped: mapped pages would count as memory."""
    header = np.load(case["train"], mmap_mode="r")
    count, dim = case["count"], header.shape[1]
    return np.fromfile(case["train"], np.float32, count * dim, offset=header.offset).reshape(count, dim)


def _scored(centroids: np.ndarray, case: dict[str, Any]) -> dict[str, float]:
    """Return how much memory the fit took, then how good it is on other draws."""
    from vocable import Codebook

    peak = peak_mib()
    held_out, centroids = np.load(case["held_out"]), np.ascontiguousarray(centroids, dtype=np.float32)
    differences = held_out - centroids[Codebook(centroids).assign(held_out)]
    inertia = float(np.square(differences).sum(1, dtype=np.float64).mean())
    return {"peak_mib": peak, INERTIA: inertia, **{key: case[key] for key in ("grows", "dim", "count", "clusters")}}


@benchmark.contender("vocable")
def vocable(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable import KMeans

    data = _data(case)
    KMeans(4, random_state=0).fit(data[:500])
    with clock.running():
        model = KMeans(case["clusters"], random_state=seed).fit(data)
    return _scored(model.cluster_centers_, case)


@benchmark.contender(FAISS)
def faiss(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    return _scored(faiss_centroids(_data(case), case["clusters"], seed, clock), case)


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    def frames_of(dim: int, count: int, seed: int) -> str:
        path = arguments.cache / f"made-frames-{dim}-{count}-{seed}.npy"
        return str(frames.kept(path, lambda: frames.mixture(count, dim, seed)))

    made: dict[str, Any] = {}
    for grows, dim, points in (
        ("frames", COUNTS_DIM, [(count, COUNTS_CLUSTERS) for count in COUNTS]),
        ("clusters", CLUSTERS_DIM, [(CLUSTERS_COUNT, clusters) for clusters in CLUSTERS]),
    ):
        names = [f"{GROWTHS[grows]}: D={dim} K={clusters} N={count:,}" for count, clusters in points]
        if not any(part in name for name in names for part in arguments.case or [""]):
            continue  # frames of cases that aren't run aren't made
        most = max(count for count, _ in points)
        files = {"train": frames_of(dim, most, 0), "held_out": frames_of(dim, HELD_OUT, 1)}
        for name, (count, clusters) in zip(names, points, strict=True):
            without = [FAISS] if _takes_too_long(count, clusters, dim) else []
            made[name] = {**files, "grows": grows, "dim": dim, "count": count, "clusters": clusters, "without": without}
    return made


def _takes_too_long(count: int, clusters: int, dim: int) -> bool:
    """Tell whether faiss would."""
    return ITERATIONS * 2.0 * count * clusters * dim > LIMIT


def _table(title: str, contenders: list[str], cases: dict[str, Any]) -> str:
    lines = [title, ""]
    for heading in GROWTHS.values():
        rows = {name: runs for name, runs in cases.items() if name.startswith(heading)}
        if not rows:
            continue
        header = ["", *(f"{name}: {figure}" for name in contenders for figure in ("CPU s", "peak MiB", INERTIA))]
        lines += [f"**{heading}**", "", "| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
        for name, runs in rows.items():
            cells = [cell for contender in contenders for cell in _cells(runs.get(contender, []))]
            lines.append("| " + " | ".join([name.removeprefix(f"{heading}: "), *cells]) + " |")
        lines.append("")
    most = max(len(taken) for runs in cases.values() for taken in runs.values())
    lines += [
        f"{most} run{'s' * (most > 1)} of each point. faiss was told the processor with OPENBLAS_CORETYPE where it has AVX-512.",
        "",
    ]
    points = [taken[0] for runs in cases.values() for taken in runs.values()]
    if any(_takes_too_long(point["count"], point["clusters"], point["dim"]) for point in points):
        lines += ["Where there is no figure of faiss, a run would take more than about ten minutes.", ""]
    return "\n".join(lines)


def _cells(taken: list[dict[str, Any]]) -> list[str]:
    if not taken:
        return ["–"] * 3
    cpu, peak, inertia = (statistics.median(run[figure] for run in taken) for figure in ("cpu_s", "peak_mib", INERTIA))
    return [f"{cpu:.3g}", f"{peak:.0f}", f"{inertia:.5g}"]


if __name__ == "__main__":
    benchmark.main(cases)
