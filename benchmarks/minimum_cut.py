"""How long a minimum cut takes: a table of sums and states on a path, against the authors' way.

    python benchmarks/minimum_cut.py

Theirs, rebuilt from its description: three NumPy block sums for every pair of frames, and dynamic programming over Python's
lists. Its time at 1,000 frames has to be about 11 times that at 500, or the baseline is not theirs.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np
from harness import Benchmark, Clock, peak_mib

SIZES = {500: 100, 1000: 200, 2000: 400, 3000: 600, 4000: 800}
"""Pieces by frames: ten a second, as SD-HuBERT's command cuts before merging."""

benchmark = Benchmark(
    "minimum_cut", "A stretch of frames cut into pieces of a tenth of a second, single-threaded",
    baseline="table of sums (vocable)", figures=("cost",), usual_rounds=3,
)  # fmt: skip


def _matrix(frames: int, seed: int) -> np.ndarray:
    """Return how alike frames are that drift, as speech does."""
    walk = np.cumsum(np.random.default_rng(seed).standard_normal((frames, 64)), axis=0).astype(np.float32)
    products = walk @ walk.T
    made: np.ndarray = products - products.min() + np.float32(1e-7)
    return made


def _cost(matrix: np.ndarray, boundaries: list[int]) -> float:
    total = 0.0
    for first, last in pairwise(boundaries):
        within = float(matrix[first:last, first:last].sum(dtype=np.float64))
        cut = float(matrix[first:last].sum(dtype=np.float64)) - within
        total += cut / (cut + within / 2)
    return total


@benchmark.contender("table of sums (vocable)")
def ours(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable.syllables.minimum_cut import minimum_cut

    minimum_cut(_matrix(20, 0), 4)
    matrix = _matrix(case["frames"], seed)
    before = peak_mib()
    with clock.running():
        found = minimum_cut(matrix, case["pieces"])
    return {"frames": case["frames"], "cost": round(_cost(matrix, found.boundaries.tolist()), 6), "more_mib": peak_mib() - before}


@benchmark.contender("block sums and lists (SD-HuBERT's authors)", rounds=1)
def theirs(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    matrix, states = _matrix(case["frames"], seed), case["pieces"] + 1
    before = peak_mib()
    with clock.running():
        boundaries = _listed_cut(matrix, states)
    return {"frames": case["frames"], "cost": round(_cost(matrix, boundaries), 6), "more_mib": peak_mib() - before}


def _listed_cut(matrix: np.ndarray, states: int) -> list[int]:
    size = len(matrix)
    far = float(np.finfo(np.float64).max)
    costs = [[far] * states for _ in range(size)]
    back = [[1] * states for _ in range(size)]
    costs[0][0] = 0.0
    for i in range(1, size):
        own = []
        for j in range(i):
            cut = matrix[j:i, :j].sum() + matrix[j:i, i:].sum()
            within = matrix[j:i, j:i].sum()
            own.append(float(cut / (cut + within / 2)))
        for k in range(1, states):
            least, at = far, 1
            for j in range(i):
                cost = costs[j][k - 1] + own[j]
                if cost < least:
                    least, at = cost, j
            costs[i][k], back[i][k] = least, at
    at, boundaries = size - 1, [size - 1]
    for k in range(states - 1, 0, -1):
        at = back[at][k]
        boundaries.append(at)
    return boundaries[::-1]


def cases(_: argparse.Namespace) -> dict[str, Any]:
    """Return the sizes; the authors' way would take twenty minutes and more beyond 1,000 frames."""
    others = ["block sums and lists (SD-HuBERT's authors)"]
    return {
        f"{frames:,} frames, {pieces} pieces": {"frames": frames, "pieces": pieces, "without": others if frames > 1000 else []}
        for frames, pieces in SIZES.items()
    }


if __name__ == "__main__":
    benchmark.main(cases)
