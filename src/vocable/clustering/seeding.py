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
_HASHED_WORDS = 1 << 15
_TRIALS = 16  # drawn at each step: more than scikit-learn's 2 + ln K, and worth their time
_PIECE_BYTES = 1 << 22
_MANY_VALUES = 128
_DIRECTIONS = 96
_FRAMES_FOR_DIRECTIONS = 8  # to a value


def seeding_for(init: str, n_clusters: int) -> Seeding:
    """Return what `init` means at a number of clusters."""
    if init == "random":
        return "random"
    return "greedy k-means++" if n_clusters <= GREEDY_MAX_CLUSTERS else "k-means||"


def seed_centroids(
    frames: Array,
    n_clusters: int,
    seeding: Seeding,
    generator: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
    device: str | None = None,
) -> Array:
    """Return `n_clusters` of the frames, shape (clusters, dim); some repeated if fewer are distinct.

    Args:
        frames: a sample, shape (frames, dim).
        n_clusters: how many.
        seeding: the method.
        generator: of random numbers.
        weights: of the frames, shape (frames,).
        device: a torch device for greedy k-means++. Its sums may round otherwise, and so draw other frames.
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
            chosen = _plus_plus(frames, each, n_clusters, generator, _TRIALS, device)
    return frames[chosen]


def _distinct(frames: Array, weights: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return one row of each distinct frame with the weight of all its equals, in an order that follows from their values.

    So a start depends neither on the order of the frames nor on whether a frame is repeated or weighs more.
    """
    mixed = np.empty(len(frames), dtype=np.uint64)
    words = frames.shape[1] * frames.itemsize // 4
    factors = np.random.default_rng(0).integers(1 << 63, size=words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    rows = max(1, _HASHED_WORDS // words)
    for first in range(0, len(frames), rows):
        piece = np.ascontiguousarray(frames[first : first + rows] + 0.0)  # + 0.0 makes -0 and 0 equal
        mixed[first : first + rows] = (piece.view(np.uint32) * factors).sum(axis=1, dtype=np.uint64)
    order = np.argsort(mixed, kind="stable")
    order = order[weights[order] > 0]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (frames[order[1:]] != frames[order[:-1]]).any(axis=1)
    firsts = np.flatnonzero(new)
    return order[firsts], np.add.reduceat(weights[order], firsts)


def _plus_plus(
    frames: Array,
    weights: NDArray[np.float64],
    n_clusters: int,
    generator: np.random.Generator,
    trials: int,
    device: str | None = None,
) -> NDArray[np.intp]:
    """Choose frames with probability ∝ squared distance from those chosen (Arthur and Vassilvitskii, 2007).

    Of several drawn at each step, the one that lowers the sum of distances most is kept, as scikit-learn does.
    """
    space = _Space(frames, generator)
    each = weights.astype(frames.dtype)
    first = int(generator.choice(len(frames), p=weights / weights.sum()))
    if device is not None:
        from vocable.clustering.seeding_device import chosen_on

        return chosen_on(device, space.frames, space.chosen, each, first, generator.random((n_clusters - 1, trials)))
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = first
    nearest = space.distances(chosen[:1])[0]
    updated = np.empty((trials, len(frames)), dtype=frames.dtype)
    for at in range(1, n_clusters):
        mass = np.cumsum(each * nearest, dtype=np.float64)
        drawn = np.searchsorted(mass, generator.random(trials) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(frames) - 1)
        np.minimum(space.distances(drawn, updated), nearest, out=updated)
        best = int((updated @ each).argmin())
        chosen[at] = drawn[best]
        nearest[:] = updated[best]
    return chosen


def _parallel(frames: Array, weights: NDArray[np.float64], n_clusters: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw about n_clusters/2 frames in each of a few rounds, weigh them by the frames they stand for, and choose among them.

    This is k-means|| (Bahmani et al., 2012) with oversampling 1/2 and further rounds until there are enough candidates.
    """
    space = _Space(frames, generator)
    candidates = generator.choice(len(frames), 1, p=weights / weights.sum())
    nearest = space.distances(candidates)[0]
    owner = np.zeros(len(frames), dtype=np.intp)
    turn = 0
    while turn < _ROUNDS or len(candidates) < 1.5 * n_clusters:
        turn += 1
        mass = weights * nearest
        if np.count_nonzero(mass) <= n_clusters:  # hardly more frames than clusters are left: take them all
            new = np.flatnonzero(mass)
            space.take_over(new, len(candidates), nearest, owner)
            candidates = np.concatenate([candidates, new])
            break
        new = np.flatnonzero(generator.random(len(frames)) * mass.sum() < 0.5 * n_clusters * mass)
        if len(new):
            space.take_over(new, len(candidates), nearest, owner)
            candidates = np.concatenate([candidates, new])
    stands_for = np.bincount(owner, weights, len(candidates)).astype(np.float64)
    return candidates[_plus_plus(frames[candidates], stands_for, n_clusters, generator, trials=1)]


class _Space:
    """Frames in which distances are taken: around their mean, and of many values only along the directions they spread most.

    What is left out adds to a distance what it adds to both frames' norms; how it varies together is passed over. A draw that
    only seeds passes needs no more, and a step then reads an eighth of the values.

    Args:
        frames: shape (frames, dim).
        generator: of random numbers.
    """

    def __init__(self, frames: Array, generator: np.random.Generator) -> None:
        centred = _centred(frames)
        norms = np.einsum("ij,ij->i", centred, centred)
        if centred.shape[1] > _MANY_VALUES:
            centred = centred @ _principal(centred, generator)
        ones = np.ones_like(norms)
        # One product gives |x|² + |c|² - 2 x·c.
        self.frames = np.ascontiguousarray(np.column_stack([centred, norms, ones]).T)
        self.chosen = np.column_stack([-2 * centred, ones, norms])

    def distances(self, chosen: NDArray[np.intp], out: Array | None = None) -> Array:
        """Return squared distances of all frames from some of them, shape (chosen, frames)."""
        distances: Array = np.matmul(self.chosen[chosen], self.frames, out=out)
        np.maximum(distances, 0, out=distances)
        distances[np.arange(len(chosen)), chosen] = 0
        return distances

    def take_over(self, new: NDArray[np.intp], first: int, nearest: Array, owner: NDArray[np.intp]) -> None:
        """Give each frame to the nearest of the new candidates, numbered from `first`, where that is nearer than its owner."""
        candidates = self.chosen[new].T
        rows = max(1, _PIECE_BYTES // (candidates.itemsize * len(new)))
        for at in range(0, len(nearest), rows):
            piece = slice(at, at + rows)
            distances = self.frames[:, piece].T @ candidates
            best = distances.argmin(axis=1)
            distance = np.maximum(distances[np.arange(len(best)), best], 0)
            nearer = distance < nearest[piece]
            nearest[piece][nearer] = distance[nearer]
            owner[piece][nearer] = first + best[nearer]
        nearest[new] = 0


def _centred(frames: Array) -> Array:
    """Return frames around their mean, by a power of two at which squares neither overflow nor vanish."""
    mean = frames.mean(axis=0, dtype=np.float64)
    largest = max(float((frames.max(axis=0) - mean).max()), float((mean - frames.min(axis=0)).max()))
    scale = np.ldexp(1.0, int(np.clip(-np.frexp(largest)[1], -120, 120)))
    centred = frames * frames.dtype.type(scale)
    centred -= (mean * scale).astype(frames.dtype)
    return centred


def _principal(centred: Array, generator: np.random.Generator) -> Array:
    """Return directions along which frames spread most, shape (dim, directions), by power iterations on some of the frames.

    Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, algorithm 4.4.
    """
    some = centred[:: max(1, len(centred) // (_FRAMES_FOR_DIRECTIONS * centred.shape[1]))]
    found = generator.standard_normal((centred.shape[1], _DIRECTIONS), dtype=np.float32).astype(centred.dtype)
    for _ in range(3):
        found = np.linalg.qr(some.T @ (some @ found))[0]
    return found
