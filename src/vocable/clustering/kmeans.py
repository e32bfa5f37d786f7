"""`KMeans`: scikit-learn's contract, exact labels, and frames that may be larger than memory."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.clustering import minibatch
from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.fit_state import FitState
from vocable.clustering.labellers import labeller_for
from vocable.clustering.lloyd import LloydSettings, fit_lloyd
from vocable.clustering.seeding import Seeding, seed_centroids, seeding_for
from vocable.clustering.sources import ArraySource, FrameSource, RowSource, check_finite, survey
from vocable.clustering.validation import check_frames, check_is_fitted, check_weights
from vocable.errors import InputError
from vocable.execution.progress import Progress

FAIRSEQ_MINIBATCH: dict[str, Any] = {
    "batch_size": 10000,
    "max_iter": 100,
    "tol": 0.0,
    "max_no_improvement": 100,
    "n_init": 20,
    "reassignment_ratio": 0.0,
}
"""Defaults of fairseq's learn_kmeans."""


class KMeans:
    """k-means clustering of frames.

    The parameters and attributes are scikit-learn's, and the estimator works in its pipelines, `clone` and searches. `fit`
    also takes a stream: any object whose `blocks()` yields arrays of frames, afresh each time it is called.

    Args:
        n_clusters: how many.
        init: `k-means++` (greedy; k-means|| above 2048 clusters), `random`, or centroids of shape (clusters, dim).
        n_init: starts, of which the one with the lowest inertia is kept; "auto" is 1.
        max_iter: passes over all frames; with `minibatch`, counted in batches.
        tol: `lloyd` ends when a pass lowers the inertia by less than this part of it; `minibatch` as in scikit-learn.
        random_state: seed.
        algorithm: `lloyd`, on growing samples and then all frames; or `minibatch`, scikit-learn's MiniBatchKMeans.
        batch_size: frames in a batch; this and the rest of the mini-batch options mean what they do in scikit-learn.
        max_no_improvement: batches without improvement that end the run.
        reassignment_ratio: part of the largest cluster below which one starts anew.
        init_size: frames that seeding sees, for `minibatch`.
        workers: threads; the result doesn't depend on them.
        device: `cpu`, or a torch device for labelling frames.
        memory: bytes of frames that a stream may bring into memory; larger streams are gone through once a pass.
        state: a file for the progress of `lloyd`, from which a killed fit of the same frames goes on; removed at the end.
        verbose: 1 prints a line every thirty seconds; a function is called with a line after each pass.

    Attributes:
        cluster_centers_: shape (clusters, dim), in the frames' type.
        labels_: of the frames, shape (frames,); None after a stream larger than memory.
        inertia_: sum of squared distances of frames from their centroids.
        n_iter_: passes over all frames.
        n_frames_: frames it was fitted to.
        seeding_: what the centroids started from.

    References:
        Lloyd, "Least squares quantization in PCM", 1982. Arthur and Vassilvitskii, "k-means++", 2007. Bahmani et al.,
        "Scalable k-means++", 2012. Sculley, "Web-scale k-means clustering", 2010.
    """

    cluster_centers_: Array
    labels_: Labels | None
    inertia_: float
    n_iter_: int
    n_frames_: int
    n_features_in_: int
    seeding_: Seeding

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | Literal["auto"] = "auto",
        max_iter: int = 300,
        tol: float = 3e-4,
        random_state: Any = None,
        algorithm: Literal["lloyd", "minibatch"] = "lloyd",
        batch_size: int = 10000,
        max_no_improvement: int | None = 100,
        reassignment_ratio: float = 0.0,
        init_size: int | None = None,
        workers: int = 1,
        device: str = "cpu",
        memory: int = 4 << 30,
        state: Any = None,
        verbose: int | Callable[[str], None] = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.algorithm = algorithm
        self.batch_size = batch_size
        self.max_no_improvement = max_no_improvement
        self.reassignment_ratio = reassignment_ratio
        self.init_size = init_size
        self.workers = workers
        self.device = device
        self.memory = memory
        self.state = state
        self.verbose = verbose

    def fit(self, X: ArrayLike | FrameSource, y: object = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Cluster frames.

        Args:
            X: frames of shape (frames, dim), or a stream of blocks of them.
            y: ignored.
            sample_weight: of the frames, shape (frames,); for arrays only.

        Raises:
            InputError: fewer frames than clusters, values that aren't finite, or an option out of range.
        """
        self._check_options()
        if isinstance(X, FrameSource):
            if sample_weight is not None:
                raise InputError("sample_weight goes with an array of frames, not with a stream")
            count, source = survey(X, self.memory)
            weights = None
        else:
            frames = check_frames(X)
            weights = check_weights(sample_weight, frames)
            count, source = len(frames), ArraySource(frames)
        if count < self.n_clusters:
            raise InputError(f"n_samples={count} should be >= n_clusters={self.n_clusters}.")
        self.n_frames_ = count
        if self.algorithm == "minibatch":
            self._fit_minibatch(source, weights)
        else:
            self._fit_lloyd(source, count, weights)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Move the centroids towards one more batch of frames; the first batch seeds them."""
        self._check_options()
        frames = check_frames(X, None if not hasattr(self, "n_features_in_") else self)
        weights = check_weights(sample_weight, frames)
        each = np.ones(len(frames)) if weights is None else weights
        if not hasattr(self, "cluster_centers_"):
            if len(frames) < self.n_clusters:
                raise InputError(f"n_samples={len(frames)} should be >= n_clusters={self.n_clusters}.")
            generator = np.random.default_rng(self._seed())
            self.seeding_ = self._seeding()
            given = self._given(frames)
            self.cluster_centers_ = (
                given if given is not None else seed_centroids(frames, self.n_clusters, self.seeding_, generator, weights)
            )
            self.n_features_in_ = frames.shape[1]
            self._gathered = np.zeros(self.n_clusters)
            self.n_iter_ = 0
        centroids = self.cluster_centers_.astype(frames.dtype)
        self.inertia_ = minibatch.update(frames, each, centroids, self._gathered)
        self.cluster_centers_ = centroids
        self.labels_ = NearestCentroid(centroids)(frames)
        self.n_iter_ += 1
        return self

    def predict(self, X: ArrayLike) -> Labels:  # noqa: N803
        """Return the nearest centroid of each frame, shape (frames,)."""
        check_is_fitted(self)
        frames = check_frames(X, self)
        return labeller_for(self.device)(self.cluster_centers_.astype(frames.dtype, copy=False))(frames)

    def fit_predict(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Labels:  # noqa: N803
        """Fit, and return the label of each frame."""
        labels = self.fit(X, sample_weight=sample_weight).labels_
        assert labels is not None
        return labels

    def transform(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the distance of each frame from each centroid, shape (frames, clusters)."""
        check_is_fitted(self)
        frames = check_frames(X, self)
        out = np.empty((len(frames), len(self.cluster_centers_)), dtype=frames.dtype)
        for at, centroid in enumerate(self.cluster_centers_):
            out[:, at] = np.sqrt(((frames - centroid).astype(np.float64) ** 2).sum(axis=1))
        return out

    def fit_transform(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> NDArray[Any]:  # noqa: N803
        """Fit, and return the distance of each frame from each centroid."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return minus the inertia of frames."""
        check_is_fitted(self)
        frames = check_frames(X, self)
        weights = check_weights(sample_weight, frames)
        nearest = NearestCentroid(self.cluster_centers_.astype(frames.dtype, copy=False))
        distances = nearest.squared_distances(frames, nearest(frames))
        return -float(distances.sum() if weights is None else distances @ weights)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments.

        Raises:
            InputError: there is none of that name.
        """
        for name, value in params.items():
            if name not in self._names():
                raise InputError(f"Invalid parameter {name!r} for estimator {self!r}: there are {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns that `transform` makes."""
        check_is_fitted(self)
        return np.array([f"kmeans{at}" for at in range(len(self.cluster_centers_))], dtype=object)

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={getattr(self, name)!r}" for name in self._names() if getattr(self, name) is not defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cluster_centers_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what this is; only it calls this, so it is there to import from."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags, TransformerTags  # noqa: F401

        return Tags(
            estimator_type="clusterer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def _fit_lloyd(self, source: FrameSource, count: int, weights: NDArray[np.float64] | None) -> None:
        first = next(iter(source.blocks()))
        given = self._given(first)
        settings = LloydSettings(
            n_clusters=self.n_clusters,
            seeding=self._seeding(),
            n_init=1 if self.n_init == "auto" else self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self._seed(),
            workers=self.workers,
            labeller=labeller_for(self.device),
            state=None if self.state is None else FitState(Path(self.state)),
            report=self.verbose
            if callable(self.verbose)
            else Progress("k-means", 0, "", sys.stderr).note
            if self.verbose
            else None,
        )
        fit = fit_lloyd(source, count, settings, weights, given)
        self.cluster_centers_, self.labels_, self.inertia_ = fit.centroids, fit.labels, fit.inertia
        self.n_iter_, self.seeding_, self.n_features_in_ = max(1, fit.passes - 1), settings.seeding, fit.centroids.shape[1]
        self.history_ = fit.history
        self._gathered = fit.weights

    def _fit_minibatch(self, source: FrameSource, weights: NDArray[np.float64] | None) -> None:
        if not isinstance(source, RowSource):
            raise InputError(
                f"mini-batches are drawn from frames in memory or in files, and these take more than {self.memory >> 20} MiB: "
                "sample them, or use algorithm='lloyd'"
            )
        settings = minibatch.MiniBatchSettings(
            n_clusters=self.n_clusters,
            seeding=self._seeding(),
            n_init=1 if self.n_init == "auto" else self.n_init,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            tol=self.tol,
            max_no_improvement=self.max_no_improvement,
            reassignment_ratio=self.reassignment_ratio,
            init_size=self.init_size,
            seed=self._seed(),
        )
        fit = minibatch.fit_minibatch(source, settings, weights, self._given(source.take(np.arange(1))))
        self.cluster_centers_, self.seeding_, self.n_features_in_ = fit.centroids, settings.seeding, fit.centroids.shape[1]
        self.labels_, self.inertia_ = self._labels_and_inertia(source, fit.centroids, weights)
        self.n_iter_ = max(1, -(-fit.steps * min(self.batch_size, len(source)) // len(source)))
        self._gathered = fit.weights

    def _labels_and_inertia(
        self, source: FrameSource, centroids: Array, weights: NDArray[np.float64] | None
    ) -> tuple[Labels | None, float]:
        label, nearest = labeller_for(self.device)(centroids), NearestCentroid(centroids)
        labels, inertia, first = [], 0.0, 0
        for block in source.blocks():
            labels.append(label(block))
            distances = nearest.squared_distances(block, labels[-1])
            inertia += float(distances.sum() if weights is None else distances @ weights[first : first + len(block)])
            first += len(block)
        return (np.concatenate(labels) if isinstance(source, ArraySource) else None), inertia

    def _check_options(self) -> None:
        if isinstance(self.n_clusters, bool) or not isinstance(self.n_clusters, (int, np.integer)) or self.n_clusters < 1:
            raise InputError(f"n_clusters={self.n_clusters!r} should be a whole number of at least 1")
        if self.n_init != "auto" and (not isinstance(self.n_init, (int, np.integer)) or self.n_init < 1):
            raise InputError(f"n_init={self.n_init!r} should be 'auto' or a whole number of at least 1")
        if isinstance(self.init, str) and self.init not in ("k-means++", "random"):
            raise InputError(f"init={self.init!r} should be 'k-means++', 'random' or an array of centroids")
        if self.algorithm not in ("lloyd", "minibatch"):
            raise InputError(f"algorithm={self.algorithm!r} should be 'lloyd' or 'minibatch'")
        for name, least in (("max_iter", 1), ("batch_size", 1), ("workers", 1), ("tol", 0), ("reassignment_ratio", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)!r} should be at least {least}")

    def _report(self) -> Callable[[str], None] | None:
        if callable(self.verbose):
            return self.verbose
        return Progress("k-means", 0, "", sys.stderr).note if self.verbose else None

    def _seeding(self) -> Seeding:
        return seeding_for(self.init, self.n_clusters) if isinstance(self.init, str) else "given"

    def _given(self, frames: Array) -> Array | None:
        if isinstance(self.init, str):
            return None
        given = np.array(self.init, dtype=frames.dtype)
        if given.shape != (self.n_clusters, frames.shape[1]):
            raise InputError(
                f"init has shape {given.shape}, but {self.n_clusters} centroids of {frames.shape[1]} values are asked for"
            )
        check_finite(given)
        return given

    def _seed(self) -> int:
        """Return the seed as a number; scikit-learn's generators give one from their stream."""
        if self.random_state is None:
            return int(np.random.default_rng().integers(1 << 31))
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(1 << 31))
        if isinstance(self.random_state, np.random.Generator):
            return int(self.random_state.integers(1 << 31))
        return int(self.random_state)
