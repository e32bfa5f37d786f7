"""Fitting and labelling on a GPU, beside torch's plain formulation and flash-kmeans (if it is installed).

    python benchmarks/gpu.py [--frames 10000000] [--device cuda]

On made frames of 768 values. Times are wall seconds with the device synchronised, medians of interleaved rounds; kernels are
compiled before. A fit is given frames in the host's memory, and what it takes to move them counts. Utilisation is the products
that all scores take by the textbook, 2 · frames · clusters · values, over time and over what the device reaches in a large
product of float16 matrices.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import RESULTS, versions

from vocable import KMeans
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.assignment_device import DeviceNearestCentroid
from vocable.clustering.device_frames import HalfFrames, moved

DIM, CLUSTERS, HELD_OUT, CHECKED = 768, (500, 2000), 200_000, 300_000
ITERATIONS = 25
ROUNDS = 3
_PIECE = 1 << 17
_MADE = 1 << 18


def mixture(count: int, device: str, seed: int) -> np.ndarray:
    """Make frames as `frames.mixture` does, but for neighbours: on the device, which takes seconds."""
    fixed = torch.Generator(device).manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, device=device, generator=fixed)  # noqa: E731
    spectrum = torch.arange(1, DIM + 1, device=device) ** -0.7
    turn = torch.linalg.qr(draw(DIM, DIM))[0]
    classes = draw(40, DIM)
    means = (classes[torch.randint(40, (3000,), device=device, generator=fixed)] + 0.7 * draw(3000, DIM)) * spectrum
    use = 1.0 / (10 + torch.randperm(3000, device=device, generator=fixed))
    drawn = torch.Generator(device).manual_seed(seed + 2)
    out = np.empty((count, DIM), np.float32)
    for first in range(0, count, _MADE):
        some = min(_MADE, count - first)
        labels = torch.multinomial(use, some, replacement=True, generator=drawn)
        noise = torch.randn(some, DIM, device=device, generator=drawn) * spectrum
        torch.from_numpy(out[first : first + some]).copy_((means[labels] + 0.5 * noise) @ turn)
    return out


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result


def peak(dtype: torch.dtype) -> float:
    """Return the operations a second of a large product."""
    left, right = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
    torch.mm(left, right)
    return 2 * 8192**3 * 10 / timed(lambda: [torch.mm(left, right) for _ in range(10)])[0]


def plain(frames: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Label frames as torch's users write it, in blocks."""
    bias = 0.5 * centroids.square().sum(dim=1)
    return torch.cat([torch.addmm(bias, piece, centroids.T, alpha=-1).argmin(dim=1) for piece in frames.split(_PIECE)])


def plain_fit(frames: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Fit as torch's users write it: random frames to start from, labels, sums, and so on."""
    there = moved(frames, "cuda")
    torch.manual_seed(seed)
    centroids = there[torch.randperm(len(there), device="cuda")[:clusters]].clone()
    for _ in range(ITERATIONS):
        labels = plain(there, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, labels, there)
        counts = torch.bincount(labels, minlength=clusters)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids.cpu().numpy()


def flash_fit(frames: np.ndarray, clusters: int, seed: int, dtype: torch.dtype) -> np.ndarray:
    from flash_kmeans import batch_kmeans_Euclid

    torch.manual_seed(seed)
    there = moved(frames, "cuda").to(dtype)[None]
    return batch_kmeans_Euclid(there, clusters, max_iters=ITERATIONS, tol=0.0)[1][0].float().cpu().numpy()


def flash_labels(frames: torch.Tensor, centroids: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    return euclid_assign_triton(frames[None], centroids.to(frames.dtype)[None], squares[None])[0]


def labelling(frames: np.ndarray, centroids: np.ndarray, rates: dict[str, float]) -> dict[str, Any]:
    """Time contenders that label frames on the device, and count their mistakes."""
    exact = NearestCentroid(centroids)(frames[:CHECKED])
    there, columns = moved(frames, "cuda"), torch.from_numpy(centroids).cuda()
    near = DeviceNearestCentroid(centroids, "cuda", frames[:CHECKED].mean(axis=0, dtype=np.float64))
    halves = HalfFrames(there, near.point)
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "vocable, frames rounded before (a pass of a fit)": lambda: near.label(halves),
        "vocable": lambda: torch.cat([near.label(HalfFrames(piece, near.point)) for piece in there.split(1 << 20)]),
        "vocable, from the host's memory": lambda: torch.from_numpy(near(frames)),
        "torch, float32": lambda: plain(there, columns),
        "torch, TF32": lambda: plain(there, columns),
    }
    if importlib.util.find_spec("flash_kmeans"):
        squares = torch.cat([piece.square().sum(dim=1) for piece in there.split(_PIECE)])
        runs["flash-kmeans, float32"] = lambda: flash_labels(there, columns, squares)
        half = there.half()
        runs["flash-kmeans, float16"] = lambda: flash_labels(half, columns, squares)
    figures: dict[str, Any] = {}
    for turn in range(ROUNDS + 1):
        for name, run in runs.items():
            torch.set_float32_matmul_precision("high" if "TF32" in name else "highest")
            taken, labels = timed(run)
            torch.set_float32_matmul_precision("highest")
            wrong = int((labels[:CHECKED].cpu().numpy() != exact).sum())
            if turn:  # the first compiles
                figures.setdefault(name, {"seconds": [], "wrong": wrong})["seconds"].append(taken)
    work = 2.0 * len(frames) * len(centroids) * DIM
    for figure in figures.values():
        figure["utilisation"] = work / statistics.median(figure["seconds"]) / rates["float16"]
    return figures


def fitting(frames: np.ndarray, held_out: np.ndarray, clusters: int) -> dict[str, Any]:
    """Time contenders that fit, and take the inertia of other frames."""
    runs: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "vocable": lambda frames, seed: KMeans(clusters, random_state=seed, device="cuda").fit(frames).cluster_centers_,
        f"torch, float32, {ITERATIONS} iterations": lambda frames, seed: plain_fit(frames, clusters, seed),
    }
    if importlib.util.find_spec("flash_kmeans"):
        for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
            runs[f"flash-kmeans, {name}, {ITERATIONS} iterations"] = lambda frames, seed, dtype=dtype: flash_fit(
                frames, clusters, seed, dtype
            )
    figures: dict[str, Any] = {}
    for run in runs.values():
        run(frames[:200_000], 0)  # compiles
    for seed in range(ROUNDS):
        for name, run in runs.items():
            taken, centroids = timed(lambda run=run, seed=seed: run(frames, seed))
            torch.cuda.empty_cache()
            near = NearestCentroid(np.ascontiguousarray(centroids, dtype=np.float32))
            label = DeviceNearestCentroid(near.centroids, "cuda")
            inertia = float(near.squared_distances(held_out, label(held_out)).mean())
            figure = figures.setdefault(name, {"seconds": [], "inertia": []})
            figure["seconds"].append(taken)
            figure["inertia"].append(inertia)
            print(clusters, name, f"{taken:.3f} s", inertia, file=sys.stderr, flush=True)
    return figures


def table(result: dict[str, Any]) -> str:
    lines = [f"On a GPU, {result['frames']:,} made frames of {DIM} values", ""]
    for case, figures in result["cases"].items():
        fit = "inertia" in next(iter(figures.values()))
        more = "held-out inertia a frame" if fit else f"of the float16 peak | wrong of {CHECKED:,}"
        lines += [
            f"**{case}**",
            "",
            f"| | wall s, median (range) | × vocable | {more} |",
            "|---|---:|---:|---:|" + "---:|" * (not fit),
        ]
        base = statistics.median(figures["vocable"]["seconds"])
        for name, figure in figures.items():
            taken = figure["seconds"]
            median = statistics.median(taken)
            last = f"{statistics.mean(figure['inertia']):.5g}" if fit else f"{figure['utilisation']:.0%} | {figure['wrong']}"
            lines.append(f"| {name} | {median:.3g} ({min(taken):.3g} – {max(taken):.3g}) | {median / base:.2f} | {last} |")
        lines += ["", f"{ROUNDS} rounds, interleaved{', seeds 0 to 2' if fit else ''}.", ""]
    rates = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in result["rates"].items())
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join([*lines, f"{result['device']}; products of 8192 × 8192 matrices, Tflop/s: {rates}. {packages}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000_000)
    arguments = parser.parse_args()
    rates = {"float16": peak(torch.float16), "float32": peak(torch.float32)}
    frames, held_out = mixture(arguments.frames, "cuda", 0), mixture(HELD_OUT, "cuda", 1)
    result: dict[str, Any] = {
        "frames": arguments.frames, "device": torch.cuda.get_device_name(), "rates": rates, "versions": gpu_versions(),
        "cases": {},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    for clusters in CLUSTERS:
        centroids = KMeans(clusters, random_state=0, max_iter=2, device="cuda").fit(frames[: 40 * clusters]).cluster_centers_
        result["cases"][f"Labelling frames on the device, K={clusters}"] = labelling(frames, centroids, rates)
        torch.cuda.empty_cache()
        result["cases"][f"Fitting frames in the host's memory, K={clusters}"] = fitting(frames, held_out, clusters)
        (RESULTS / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "gpu.md").write_text(table(result))
    print(table(result))


def gpu_versions() -> dict[str, str]:
    found = {name: version for name, version in versions().items() if name in ("python", "vocable", "numpy", "torch")}
    for name in ("triton", "flash-kmeans"):
        if importlib.util.find_spec(name.replace("-", "_")):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    main()
