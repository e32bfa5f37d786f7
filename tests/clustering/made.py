"""Frames that clusters can be found in."""

from __future__ import annotations

from collections.abc import Iterator

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
