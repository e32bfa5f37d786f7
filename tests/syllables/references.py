"""SD-HuBERT's algorithms as its authors describe them, slow and plain; and weights that its golden files were made with."""

from __future__ import annotations

import ast
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def slow_minimum_cut(similarity: NDArray[np.floating], pieces: int, longest: int | None = None) -> tuple[float, list[int]]:
    """Return least cost and boundaries: a block sum for each pair of frames, and all ways tried at each."""
    size, states = len(similarity), pieces + 1
    matrix = similarity.astype(np.float64)
    costs = np.full((size, states), np.inf)
    back = np.ones((size, states), dtype=int)
    costs[0, 0] = 0.0
    for i in range(1, size):
        for j in range(i):
            if longest is not None and i - j > longest:
                continue
            within = matrix[j:i, j:i].sum()
            cut = matrix[j:i, :j].sum() + matrix[j:i, i:].sum()
            cost = cut / (cut + within / 2)
            for k in range(1, states):
                if costs[j, k - 1] + cost < costs[i, k]:
                    costs[i, k], back[i, k] = costs[j, k - 1] + cost, j
    at, boundaries = size - 1, [size - 1]
    for k in range(pieces, 0, -1):
        at = int(back[at, k])
        boundaries.append(at)
    return float(costs[size - 1, pieces]), boundaries[::-1]


def cost_of(similarity: NDArray[np.floating], boundaries: list[int]) -> float:
    """Return what a cut costs in all."""
    matrix, total = similarity.astype(np.float64), 0.0
    for j, i in pairwise(boundaries):
        within = matrix[j:i, j:i].sum()
        cut = matrix[j:i].sum() - within
        total += cut / (cut + within / 2)
    return total


def slow_merged(frames: NDArray[np.floating], pieces: list[tuple[int, int]], threshold: float) -> list[tuple[int, int]]:
    """Merge the likeliest neighbours again and again, with means made anew from frames each time."""
    pieces = list(pieces)
    while len(pieces) >= 2:
        means = [frames[first:last].mean(axis=0) for first, last in pieces]
        norms = [np.linalg.norm(mean) for mean in means]
        alike = [means[at] @ means[at + 1] / (norms[at] * norms[at + 1]) for at in range(len(means) - 1)]
        at = int(np.argmax(alike))
        if alike[at] < threshold:
            break
        pieces[at : at + 2] = [(pieces[at][0], pieces[at + 1][1])]
    return pieces


def slow_greedy(frames: NDArray[np.floating], threshold: float) -> list[tuple[int, int]]:
    """Gather frames from left to right, then look at each boundary once more, without anything kept between."""

    def alike(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
        return float(one @ other / (np.sqrt(one @ one + 1e-8) * np.sqrt(other @ other + 1e-8)))

    frames = frames.astype(np.float64)
    segments = [[0, 1]]
    for at in range(1, len(frames)):
        first, last = segments[-1]
        if alike(frames[first:last].mean(axis=0), frames[at]) >= threshold:
            segments[-1][1] = at + 1
        else:
            segments.append([at, at + 1])
    settled = [segments[0]]
    for other in segments[1:]:
        own = settled[-1]
        left, right = frames[own[0] : own[1]].mean(axis=0), frames[other[0] : other[1]].mean(axis=0)
        if alike(left, right) >= threshold:
            own[1] = other[1]
            continue
        boundary = other[0]
        begin = max(own[0], boundary - max(1, (own[1] - own[0]) // 2))
        end = min(other[1], boundary + max(1, (other[1] - other[0]) // 2))
        scores = [
            sum(alike(left, frames[at]) for at in range(begin, split)) + sum(alike(right, frames[at]) for at in range(split, end))
            for split in range(begin, end + 1)
        ]
        split = begin + int(np.argmax(scores))
        own[1] = other[0] = split
        settled.append(other)
    return [(first, last) for first, last in settled]


def golden_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors that the golden files were made with, by the names of the authors' code (golden/README.md)."""
    fixed = {"temp_s": [0.2], "temp_t": [0.05], "center": [0.0] * 2048, "center_momentum_": 0.0}
    found: dict[str, Tensor] = {}
    for line in (folder / "state_dict_keys.txt").read_text().splitlines():
        name, shape_text, _ = line.split("\t")
        shape = ast.literal_eval(shape_text)
        if name in fixed:
            found[name] = torch.tensor(fixed[name])
            continue
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        last = name.rsplit(".", 1)[-1]
        is_norm = "layer_norm" in name or "layernorm" in name or name == "final_proj.5.weight"
        if is_norm and last == "weight":
            value = 1 + 0.1 * drawn
        elif last == "bias":
            value = 0.05 * drawn
        elif last == "original0":
            value = abs(1 + 0.1 * drawn)
        elif len(shape) >= 2:
            value = drawn / np.sqrt(np.prod(shape[1:]))
        else:
            value = drawn / np.sqrt(shape[0])
        found[name] = torch.from_numpy(np.asarray(value, np.float32))
    return found
