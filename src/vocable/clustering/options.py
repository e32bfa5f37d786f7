"""What the options of `KMeans` may be, and what they mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vocable.clustering.assignment import Array
from vocable.clustering.sources import check_finite
from vocable.errors import InputError

if TYPE_CHECKING:
    from vocable.clustering.kmeans import KMeans

_WHOLE = {"n_clusters": 1, "max_iter": 1, "batch_size": 1, "workers": 1, "memory": 0}
_WHOLE_OR_NONE = {"init_size": 1, "max_no_improvement": 0}


def check_options(model: KMeans) -> None:
    """Refuse options that mean nothing.

    Raises:
        InputError: names the first of them.
    """
    for name, least in _WHOLE.items():
        _check_whole(model, name, least)
    for name, least in _WHOLE_OR_NONE.items():
        if getattr(model, name) is not None:
            _check_whole(model, name, least)
    if model.n_init != "auto":
        _check_whole(model, "n_init", 1, "'auto' or ")
    for name in ("tol", "reassignment_ratio"):
        value = getattr(model, name)
        if not (name == "tol" and value is None) and not 0 <= value < math.inf:
            raise InputError(f"{name}={value!r} should be a number of at least 0")
    if callable(model.init) or (isinstance(model.init, str) and model.init not in ("k-means++", "random")):
        raise InputError(f"init={model.init!r} should be 'k-means++', 'random' or an array of centroids")
    if model.algorithm not in ("lloyd", "minibatch"):
        raise InputError(f"algorithm={model.algorithm!r} should be 'lloyd' or 'minibatch'")


def seed_of(random_state: Any) -> int:
    """Return a seed as a number; NumPy's generators give one from their stream.

    Raises:
        InputError: it is neither a seed nor a generator.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(1 << 31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(1 << 31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(1 << 31))
    if _is_whole(random_state) and 0 <= random_state < 1 << 63:
        return int(random_state)
    raise InputError(f"random_state={random_state!r} should be a whole number of at least 0, a NumPy generator or None")


def given_centroids(init: Any, n_clusters: int, dim: int, dtype: np.dtype[Any]) -> Array | None:
    """Return the centroids that `init` gives, or None if it names a method.

    Raises:
        InputError: they are of another number or dimension, or not finite.
    """
    if isinstance(init, str):
        return None
    given = np.array(init, dtype=dtype)
    if given.shape != (n_clusters, dim):
        raise InputError(f"init has shape {given.shape}, but {n_clusters} centroids of {dim} values are asked for")
    check_finite(given)
    return given


def _check_whole(model: KMeans, name: str, least: int, otherwise: str = "") -> None:
    value = getattr(model, name)
    if not _is_whole(value) or value < least:
        raise InputError(f"{name}={value!r} should be {otherwise}a whole number of at least {least}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
