"""Frames that clusters can be found in, and such that are hard to tell the nearest centroid of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray


def mixture(count: int, dim: int = 8, clusters: int = 12, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = 6 * rng.standard_normal((clusters, dim))
    return (centres[rng.integers(0, clusters, count)] + rng.standard_normal((count, dim))).astype(np.float32)


class Stream:
    """Frames in blocks of random sizes, made anew each time."""

    def __init__(self, frames: NDArray[np.float32], seed: int = 0) -> None:
        self.frames, self.seed, self.passes = frames, seed, 0

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        self.passes += 1
        rng, at = np.random.default_rng(self.seed), 0
        while at < len(self.frames):
            size = int(rng.integers(1, 5000))
            yield self.frames[at : at + size]
            at += size


def brute_force(frames: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    """The argmin of float64 distances, the lowest id on ties."""
    wide = centroids.astype(np.float64)
    return np.array([((frame.astype(np.float64) - wide) ** 2).sum(axis=1).argmin() for frame in frames], dtype=np.intp)


Values = NDArray[np.float64]


def _between(frames: Values, centroids: Values, rng: np.random.Generator, off: float) -> tuple[Values, Values]:
    """Frames between two centroids, as near as rounding puts them, or a little off."""
    pairs = rng.integers(0, len(centroids), (2, len(frames)))
    middle = (centroids[pairs[0]] + centroids[pairs[1]]) / 2
    return middle + off * rng.standard_normal(frames.shape), centroids


def _one_far(frames: Values, centroids: Values, rng: np.random.Generator) -> tuple[Values, Values]:
    return frames, np.concatenate([1e4 * centroids[:1], centroids[1:]])


KINDS: dict[str, Callable[[Values, Values, np.random.Generator], tuple[Values, Values]]] = {
    "normal": lambda frames, centroids, rng: (frames, centroids),
    "exact ties": lambda frames, centroids, rng: (rng.integers(-1, 2, frames.shape), rng.integers(-1, 2, centroids.shape)),
    "far": lambda frames, centroids, rng: (frames + 1e4, centroids + 1e4),
    "one far": _one_far,
    "huge": lambda frames, centroids, rng: (frames * 1e25, centroids * 1e25),
    "some products overflow": lambda frames, centroids, rng: (frames * 1e19 * rng.random(), centroids * 1e19),
    "far longer than centroids": lambda frames, centroids, rng: (frames * 1e21, centroids * 1e19),
    "far longer, most": lambda frames, centroids, rng: (
        np.where(rng.random((len(frames), 1)) < 0.6, 1e19, 1) * frames,
        centroids,
    ),
    "tiny": lambda frames, centroids, rng: (frames * 1e-25, centroids * 1e-25),
    "smallest": lambda frames, centroids, rng: (frames * 1e-38, centroids * 1e-38),
    "copies": lambda frames, centroids, rng: (frames, centroids[rng.integers(0, len(centroids), len(centroids))]),
    "close": lambda frames, centroids, rng: (frames, centroids[:1] + 1e-7 * rng.standard_normal(centroids.shape)),
    "middle": lambda frames, centroids, rng: _between(frames, centroids, rng, 0),
    "off middle": lambda frames, centroids, rng: _between(frames, centroids, rng, 1e-6),
    "lengths far above what tells centroids apart": lambda frames, centroids, rng: (
        1e3 * frames,
        1e3 * centroids[:1] + rng.standard_normal(centroids.shape),
    ),
}
