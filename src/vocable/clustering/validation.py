"""What scikit-learn's estimators check of their input, with its messages, without importing it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.clustering.assignment import Array
from vocable.clustering.sources import check_finite
from vocable.errors import InputError


def check_frames(X: ArrayLike, fitted: Any = None) -> Array:  # noqa: N803
    """Return frames as `as_matrix` does, and refuse NaN and infinity.

    Raises:
        InputError: as there, or such values.
    """
    array = as_matrix(X, fitted)
    check_finite(array)
    return array


def as_matrix(X: ArrayLike, fitted: Any = None) -> Array:  # noqa: N803
    """Return frames as a C-ordered float32 or float64 matrix.

    Args:
        X: array-like of shape (frames, dim).
        fitted: an estimator whose `n_features_in_` the frames must have.

    Raises:
        InputError: another shape, no frames, or complex values.
        TypeError: a sparse matrix.
        ValueError: values that are no numbers.
    """
    if hasattr(X, "tocsr"):
        raise TypeError("Sparse data was passed, but dense data is required: use .toarray()")
    array = np.asarray(X)
    if np.iscomplexobj(array):
        raise InputError("Complex data not supported")
    if array.ndim != 2:
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead. Reshape your data: array.reshape(-1, 1) for a single feature, "
            "array.reshape(1, -1) for a single sample."
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)  # raises ValueError or TypeError where values are no numbers
    if array.shape[0] == 0:
        raise InputError(f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required by KMeans.")
    if array.shape[1] == 0:
        raise InputError(f"Found array with 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    if fitted is not None and array.shape[1] != fitted.n_features_in_:
        raise InputError(f"X has {array.shape[1]} features, but KMeans is expecting {fitted.n_features_in_} features as input.")
    return np.ascontiguousarray(array)


def check_weights(sample_weight: ArrayLike | None, frames: Array) -> NDArray[np.float64] | None:
    """Return weights as float64 of shape (frames,), or None.

    Raises:
        InputError: another shape, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(len(frames), float(weights))
    if weights.ndim != 1:
        raise InputError("Sample weights must be 1D array or scalar")
    if weights.shape != (len(frames),):
        raise InputError(f"sample_weight.shape == {weights.shape}, expected {(len(frames),)}!")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InputError("sample_weight should hold finite numbers, none negative and not all zero: no weight would be left")
    return weights


def check_is_fitted(estimator: Any) -> None:
    """Raise scikit-learn's NotFittedError if it is there, else a ValueError, unless `fit` was called."""
    if hasattr(estimator, "cluster_centers_"):
        return
    message = f"This {type(estimator).__name__} instance is not fitted yet. "
    message += "Call 'fit' with appropriate arguments before using this estimator."
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        raise InputError(message) from None
    raise NotFittedError(message)
