"""What two levels of units take at full size: 16,384 clusters in 4,096 groups, of 200,000 segments of 768 values.

    python benchmarks/two_levels.py [--segments N]

Segments are made: 5,000 kinds of syllables, few of them frequent, most rare, each said in ways that differ along 64 directions
and a little along all. The whole is one run in a process of its own, with all cores, whose peak memory is that of segments, both
levels and everything loaded; units are compared with those of scikit-learn's k-means on the same centroids.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np
from harness import RESULTS, machine, peak_mib, versions
from numpy.typing import NDArray

_KINDS, _DIRECTIONS, _DIM = 5000, 64, 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=200_000)
    parser.add_argument("--clusters", type=int, default=16_384)
    parser.add_argument("--groups", type=int, default=4_096)
    arguments = parser.parse_args()
    from vocable.recipes.syllable_clusters import TwoLevels, fitted_levels

    parts = _made(arguments.segments)
    held_out = _made(20_000, seed=1)[0]
    begun, cpu = time.perf_counter(), time.process_time()
    workers = len(os.sched_getaffinity(0))
    made = fitted_levels(parts, TwoLevels(clusters=arguments.clusters, groups=arguments.groups), workers=workers)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    peak = peak_mib()
    result: dict[str, Any] = {
        "machine": machine(), "versions": versions(), "segments": arguments.segments, "clusters": len(made),
        "groups": made.n_groups, "wall_s": wall, "cpu_s": cpu, "peak_mib": peak, "workers": workers,
        "units_equal": _equal(made, held_out),
    }  # fmt: skip
    (RESULTS / "two_levels.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "two_levels.md").write_text(_table(result))
    print(_table(result))


def _made(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Return segments in parts of 20,000."""
    world = np.random.default_rng(7)
    centres = world.standard_normal((_KINDS, _DIM)).astype(np.float32)
    directions = world.standard_normal((_DIRECTIONS, _DIM)).astype(np.float32)
    frequencies = 1 / (np.arange(_KINDS) + 10)
    drawn = np.random.default_rng(seed)
    parts = []
    for first in range(0, count, 20_000):
        size = min(20_000, count - first)
        kinds = drawn.choice(_KINDS, size, p=frequencies / frequencies.sum())
        ways = 0.15 * drawn.standard_normal((size, _DIRECTIONS), dtype=np.float32) @ directions
        parts.append(centres[kinds] + ways + 0.3 * drawn.standard_normal((size, _DIM), dtype=np.float32))
    return parts


def _equal(made: Any, segments: NDArray[np.float32]) -> float:
    """Return the part of segments whose units of both levels are those of scikit-learn's k-means with these centroids."""
    from sklearn.cluster import MiniBatchKMeans

    theirs = MiniBatchKMeans(len(made), init=made.centroids[: len(made)], n_init=1, max_iter=1)
    theirs.cluster_centers_, theirs._n_threads = made.centroids, 1  # noqa: SLF001 (what a fit sets, without one)
    theirs.n_features_in_ = made.centroids.shape[1]
    expected = theirs.predict(segments)
    found = made.predict(segments)
    return float(((found == expected) & (made.groups[found] == made.groups[expected])).mean())


def _table(result: dict[str, Any]) -> str:
    rows = [
        ("segments of 768 values", f"{result['segments']:,}"),
        ("clusters, groups", f"{result['clusters']:,}, {result['groups']:,}"),
        ("time, minutes", f"{result['wall_s'] / 60:.1f}, threads: {result['workers']}"),
        ("CPU time, minutes", f"{result['cpu_s'] / 60:.1f}"),
        ("peak memory, GiB", f"{result['peak_mib'] / 1024:.2f}"),
        ("units as scikit-learn's on 20,000 others", f"{result['units_equal']:.4%}"),
    ]
    lines = [f"Two levels of units, on {result['machine']['processor']}", "", "| | |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


if __name__ == "__main__":
    main()
