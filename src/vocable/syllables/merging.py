"""Pieces of speech that sound alike become one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vocable.syllables.minimum_cut import Frames

Segments = NDArray[np.int64]
"""Of shape (segments, 2): the first frame of each, and the first behind it."""


def merged(frames: Frames, pieces: Segments, threshold: float, least: int = 2) -> Segments:
    """Merge the two neighbours whose means are most alike, as long as any are alike enough.

    The authors' code makes all means anew from frames each time; here sums are kept, of which a merger changes one. Pieces
    without direction, whose frames add up to nothing, are like no other; there they end all merging.

    Args:
        frames: of shape (frames, dim).
        pieces: one after another, though not all need touch.
        threshold: least cosine of the means of pieces that become one; of several as much alike the first do.
        least: where there are fewer pieces, none become one.
    """
    starts, ends = pieces[:, 0].tolist(), pieces[:, 1].tolist()
    sums = [frames[first:last].sum(axis=0, dtype=np.float64) for first, last in zip(starts, ends, strict=True)]
    norms = [float(np.linalg.norm(each)) for each in sums]
    alike = np.array([_cosine(sums, norms, at) for at in range(len(sums) - 1)])
    while len(starts) >= max(2, least) and alike[at := int(alike.argmax())] >= threshold:
        ends[at] = ends.pop(at + 1)
        sums[at] = sums[at] + sums.pop(at + 1)
        del starts[at + 1], norms[at + 1]
        norms[at] = float(np.linalg.norm(sums[at]))
        alike = np.delete(alike, at)
        for beside in (at - 1, at):
            if 0 <= beside < len(alike):
                alike[beside] = _cosine(sums, norms, beside)
    return np.array([starts, ends], dtype=np.int64).T.reshape(-1, 2)


def _cosine(sums: list[NDArray[np.float64]], norms: list[float], at: int) -> float:
    scale = norms[at] * norms[at + 1]
    return float(sums[at] @ sums[at + 1]) / scale if scale > 0 else -np.inf
