"""Many codebooks: how long it takes to have them at hand, and to look up each frame in one that is drawn for it.

    python benchmarks/fleets.py [--codebooks 1165]

A fleet of 1,165 codebooks of 1,024 centroids of 1,024 values (5 GB) is made, and 50 files as SEF-MK has them: scikit-learn's
MiniBatchKMeans, dumped with joblib. Loading all of such files is extrapolated from these. Frames are 30 s at 50 a second, each
looked up in a codebook of its own; beside that is a call of scikit-learn's `predict` for each, as in SEF-MK's code. Everything
runs in a process of its own, with one thread, by turns; figures are medians of 3.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, machine, versions

CLUSTERS, DIM, FRAMES, FILES, ROUNDS = 1024, 1024, 1500, 50, 3
_LOOPED = (20, 118)  # codebooks for which the peer's loop is run: more have to be loaded first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codebooks", type=int, default=1165)
    parser.add_argument("--cache", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(_WORK[arguments.one[0]](arguments.cache, int(arguments.one[1]))))
        return
    arguments.cache.mkdir(parents=True, exist_ok=True)
    sizes = (*_LOOPED, arguments.codebooks)
    for size in sizes:
        _make(arguments.cache, size)
    tasks = [("open", arguments.codebooks), ("joblib", FILES)]
    tasks += [("ours", size) for size in sizes] + [("loop", size) for size in _LOOPED]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {task: [] for task in tasks}
    for _ in range(ROUNDS):
        for name, size in tasks:
            found[name, size].append(_child(arguments.cache, name, size))
    result = {
        "machine": machine(),
        "versions": versions(),
        "codebooks": arguments.codebooks,
        **_figures(found, arguments.codebooks),
    }
    (RESULTS / "fleets.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "fleets.md").write_text(_table(result))
    print(_table(result))


def _centroids(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((CLUSTERS, DIM), dtype=np.float32)


def _make(cache: Path, size: int) -> None:
    """Write a fleet, and files of joblib's with the same centroids, unless they are there."""
    import joblib
    from sklearn.cluster import MiniBatchKMeans

    from vocable.clustering.fleets import Member, write_fleet

    path = cache / f"fleet-{size}.safetensors"
    if not path.exists():
        names = [f"speaker-{number}" for number in range(size)]
        members: Iterator[Member] = (Member(name, _centroids(number), (name,)) for number, name in enumerate(names))
        write_fleet(path, members, names, CLUSTERS, DIM)
    for number in range(min(size, max(FILES, *_LOOPED))):
        file = cache / f"kmeans-{number}.pt"
        if not file.exists():
            model = MiniBatchKMeans(CLUSTERS, n_init=1)
            model.cluster_centers_ = _centroids(number).astype(np.float64)
            model._n_threads, model.n_features_in_ = 1, DIM  # noqa: SLF001 (what a fit sets, without one)
            joblib.dump(model, file)


def _child(cache: Path, name: str, size: int) -> dict[str, Any]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--cache", str(cache), "--one", name, str(size)]
    done = subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _resident() -> float:
    """Return MB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _open(cache: Path, size: int) -> dict[str, Any]:
    from vocable.clustering.fleets import read_fleet

    read_fleet(cache / f"fleet-{_LOOPED[0]}.safetensors")  # what is imported
    before, begun = _resident(), time.perf_counter()
    fleet = read_fleet(cache / f"fleet-{size}.safetensors")
    return {"wall": time.perf_counter() - begun, "mb": _resident() - before, "codebooks": len(fleet)}


def _joblib(cache: Path, size: int) -> dict[str, Any]:
    import joblib
    import sklearn.cluster  # noqa: F401

    joblib.load(cache / "kmeans-0.pt")
    before, begun = _resident(), time.perf_counter()
    held = [joblib.load(cache / f"kmeans-{number}.pt") for number in range(size)]
    return {"wall": time.perf_counter() - begun, "mb": _resident() - before, "codebooks": len(held)}


def _drawn(size: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(5)
    return drawn.standard_normal((FRAMES, DIM), dtype=np.float32), drawn.integers(0, size, FRAMES)


def _ours(cache: Path, size: int) -> dict[str, Any]:
    from vocable.clustering.fleets import read_fleet

    fleet = read_fleet(cache / f"fleet-{size}.safetensors")
    frames, plan = _drawn(size)
    fleet.tokens(frames[:10], plan[:10])
    begun, cpu = time.perf_counter(), time.process_time()
    tokens = fleet.tokens(frames, plan)
    taken = {"wall": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    fleet.lookup(tokens, plan)
    return {**taken, "tokens": tokens[:, 0].tolist()}


def _loop(cache: Path, size: int) -> dict[str, Any]:
    import joblib

    models = [joblib.load(cache / f"kmeans-{number}.pt") for number in range(size)]
    frames, plan = _drawn(size)
    models[0].predict(frames[:1].astype(np.float64))
    begun, cpu = time.perf_counter(), time.process_time()
    tokens = [int(models[plan[at]].predict(frames[at : at + 1].astype(np.float64))[0]) for at in range(FRAMES)]
    return {"wall": time.perf_counter() - begun, "cpu": time.process_time() - cpu, "tokens": tokens}


_WORK = {"open": _open, "joblib": _joblib, "ours": _ours, "loop": _loop}


def _figures(found: dict[tuple[str, int], list[dict[str, Any]]], size: int) -> dict[str, Any]:
    def middle(task: tuple[str, int], name: str) -> float:
        return statistics.median(item[name] for item in found[task])

    loaded = middle(("joblib", FILES), "wall") * size / FILES
    looked_up: dict[str, Any] = {}
    for count in (*_LOOPED, size):
        row: dict[str, Any] = {"cpu": middle(("ours", count), "cpu"), "wall": middle(("ours", count), "wall")}
        if ("loop", count) in found:
            row["loop_cpu"] = middle(("loop", count), "cpu")
            row["same"] = float(np.mean(np.array(found["ours", count][0]["tokens"]) == found["loop", count][0]["tokens"]))
        looked_up[str(count)] = row
    return {
        "open_s": middle(("open", size), "wall"), "open_mb": middle(("open", size), "mb"), "joblib_s": loaded,
        "joblib_mb": middle(("joblib", FILES), "mb") * size / FILES, "looked_up": looked_up,
    }  # fmt: skip


def _table(result: dict[str, Any]) -> str:
    where = result["machine"]["processor"]
    lines = [
        f"{result['codebooks']:,} codebooks of 1,024 centroids of 1,024 values, on {where}, one thread", "",
        "| to have them at hand | s | MB resident |", "|---|---:|---:|",
        f"| a fleet, opened | {result['open_s']:.4f} | {result['open_mb']:.0f} |",
        f"| joblib's files, extrapolated from {FILES} | {result['joblib_s']:.1f} | {result['joblib_mb']:,.0f} |",
        f"| ratio | {result['joblib_s'] / result['open_s']:,.0f} | |", "",
        "| 30 s, a codebook for each frame, of | CPU s | wall s | `predict` for each frame, CPU s | ratio | same tokens |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for count, row in result["looked_up"].items():
        beside = [""] * 3
        if "same" in row:
            beside = [f"{row['loop_cpu']:.2f}", f"{row['loop_cpu'] / row['cpu']:.1f}", f"{row['same']:.2%}"]
        lines.append(f"| {int(count):,} codebooks | {row['cpu']:.3f} | {row['wall']:.3f} | {' | '.join(beside)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
