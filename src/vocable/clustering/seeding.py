"""Where centroids start: greedy k-means++ on a sample, k-means|| for many clusters, or random frames."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.assignment import Array
from vocable.execution.threads import single_threaded

Seeding = Literal["greedy k-means++", "k-means||", "random", "given"]

GREEDY_MAX_CLUSTERS = 2048
"""Above this, choosing one centroid after another takes too long, and k-means|| chooses many at a time."""

_ROUNDS = 4  # of k-means||: Bahmani et al. (2012) found five enough with any oversampling
_PIECE_BYTES = 1 << 22


def seeding_for(init: str, n_clusters: int) -> Seeding:
    """Return what `init` means at a number of clusters."""
    if init == "random":
        return "random"
    return "greedy k-means++" if n_clusters <= GREEDY_MAX_CLUSTERS else "k-means||"


def seed_centroids(
    frames: Array, n_clusters: int, seeding: Seeding, generator: np.random.Generator, weights: NDArray[np.float64] | None = None
) -> Array:
    """Return `n_clusters` of the frames, shape (clusters, dim); some repeated if fewer are distinct.

    Args:
        frames: a sample, shape (frames, dim).
        n_clusters: how many.
        seeding: the method.
        generator: of random numbers.
        weights: of the frames, shape (frames,).
    """
    rows, each = _distinct(frames, np.ones(len(frames)) if weights is None else weights)
    if len(rows) <= n_clusters:
        return frames[np.resize(rows, n_clusters)]  # each at least once; the rest will be empty clusters
    frames = frames[rows]
    with single_threaded():  # a distance that rounds otherwise could draw another frame
        if seeding == "random":
            chosen = generator.choice(len(frames), n_clusters, replace=False, p=each / each.sum())
        elif seeding == "k-means||":
            chosen = _parallel(frames, each, n_clusters, generator)
        else:
            chosen = _plus_plus(frames, each, n_clusters, generator, trials=2 + int(np.log(n_clusters)))
    return frames[chosen]


def _distinct(frames: Array, weights: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return one row of each distinct frame with the weight of all its equals, in an order that follows from their values.

    So a start depends neither on the order of the frames nor on whether a frame is repeated or weighs more.
    """
    words = np.ascontiguousarray(frames + 0.0).view(np.uint32)  # + 0.0 makes -0 and 0 equal
    mixed = np.zeros(len(frames), dtype=np.uint64)
    for column in words.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    order = order[weights[order] > 0]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (frames[order[1:]] != frames[order[:-1]]).any(axis=1)
    firsts = np.flatnonzero(new)
    return order[firsts], np.add.reduceat(weights[order], firsts)


def _plus_plus(
    frames: Array, weights: NDArray[np.float64], n_clusters: int, generator: np.random.Generator, trials: int
) -> NDArray[np.intp]:
    """Choose frames with probability ∝ squared distance from those chosen (Arthur and Vassilvitskii, 2007).

    Of several drawn at each step, the one that lowers the sum of distances most is kept, as scikit-learn does.
    """
    centred, norms = _centred(frames)
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = generator.choice(len(frames), p=weights / weights.sum())
    nearest = _distances(centred, norms, chosen[:1])[0]
    for at in range(1, n_clusters):
        mass = np.cumsum(weights * nearest)
        drawn = np.searchsorted(mass, generator.random(trials) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(frames) - 1)
        updated = np.minimum(nearest, _distances(centred, norms, drawn))
        best = int((updated @ weights).argmin())
        chosen[at], nearest = drawn[best], updated[best]
    return chosen


def _parallel(frames: Array, weights: NDArray[np.float64], n_clusters: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw about n_clusters/2 frames in each of a few rounds, weigh them by the frames they stand for, and choose among them.

    This is k-means|| (Bahmani et al., 2012) with oversampling 1/2 and further rounds until there are enough candidates.
    """
    centred, norms = _centred(frames)
    candidates = generator.choice(len(frames), 1, p=weights / weights.sum())
    nearest = _distances(centred, norms, candidates)[0]
    owner = np.zeros(len(frames), dtype=np.intp)
    turn = 0
    while turn < _ROUNDS or len(candidates) < 1.5 * n_clusters:
        turn += 1
        mass = weights * nearest
        if np.count_nonzero(mass) <= n_clusters:  # hardly more frames than clusters are left: take them all
            new = np.flatnonzero(mass)
            _take_over(centred, norms, new, len(candidates), nearest, owner)
            candidates = np.concatenate([candidates, new])
            break
        new = np.flatnonzero(generator.random(len(frames)) * mass.sum() < 0.5 * n_clusters * mass)
        if len(new):
            _take_over(centred, norms, new, len(candidates), nearest, owner)
            candidates = np.concatenate([candidates, new])
    stands_for = np.bincount(owner, weights, len(candidates)).astype(np.float64)
    return candidates[_plus_plus(frames[candidates], stands_for, n_clusters, generator, trials=1)]


def _centred(frames: Array) -> tuple[Array, Array]:
    """Return frames around their mean, by a power of two at which squares neither overflow nor vanish, and squared norms."""
    mean = frames.mean(axis=0, dtype=np.float64)
    largest = max(float((frames.max(axis=0) - mean).max()), float((mean - frames.min(axis=0)).max()))
    scale = np.ldexp(1.0, int(np.clip(-np.frexp(largest)[1], -120, 120)))
    centred = frames * frames.dtype.type(scale)
    centred -= (mean * scale).astype(frames.dtype)
    return centred, np.einsum("ij,ij->i", centred, centred)


def _take_over(centred: Array, norms: Array, new: NDArray[np.intp], first: int, nearest: Array, owner: NDArray[np.intp]) -> None:
    """Give each frame to the nearest of the new candidates, numbered from `first`, where that is nearer than its owner."""
    rows = max(1, _PIECE_BYTES // (centred.itemsize * len(new)))
    for at in range(0, len(centred), rows):
        piece = slice(at, at + rows)
        distances = norms[piece, None] + norms[new] - 2 * (centred[piece] @ centred[new].T)
        best = distances.argmin(axis=1)
        distance = np.maximum(distances[np.arange(len(best)), best], 0)
        nearer = distance < nearest[piece]
        nearest[piece][nearer] = distance[nearer]
        owner[piece][nearer] = first + best[nearer]


def _distances(centred: Array, norms: Array, chosen: NDArray[np.intp]) -> Array:
    """Return squared distances of all frames from some of them, shape (chosen, frames)."""
    distances = norms + norms[chosen, None] - 2 * (centred[chosen] @ centred.T)
    distances[np.arange(len(chosen)), chosen] = 0
    return np.maximum(distances, 0, out=distances)
