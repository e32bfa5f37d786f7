"""`KMeans`: scikit-learn's contract, exact labels, and frames that may be larger than memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.estimator import Estimator
from vocable.clustering.labellers import labeller_for
from vocable.clustering.lloyd import LloydSettings, fit_lloyd
from vocable.clustering.minibatch import MiniBatches, MiniBatchSettings, fit_minibatch
from vocable.clustering.options import check_options, given_centroids, seed_of
from vocable.clustering.seeding import Seeding, seed_centroids, seeding_for
from vocable.clustering.sources import ArraySource, FrameSource, RowSource, Surveyed, check_finite, survey
from vocable.clustering.spread import SpreadSource, survey_spread
from vocable.clustering.validation import as_matrix, check_frames, check_is_fitted, check_weights
from vocable.errors import InputError, NotInMemoryError, TooFewFramesError
from vocable.execution.progress import Progress

_EXPECTED_PASSES = 10  # over all frames, or as much over samples; 7 to 11 over 200,000 frames of 768 values

FAIRSEQ_MINIBATCH: dict[str, Any] = {
    "batch_size": 10000,
    "max_iter": 100,
    "tol": 0.0,
    "max_no_improvement": 100,
    "n_init": 20,
    "reassignment_ratio": 0.0,
}
"""Defaults of fairseq's learn_kmeans."""


class KMeans(Estimator):
    """k-means clustering of frames.

    The parameters and attributes are scikit-learn's, and the estimator works in its pipelines, `clone` and searches. `fit`
    also takes a stream: any object whose `blocks()` yields arrays of frames, afresh each time it is called.

    Args:
        n_clusters: how many.
        init: `k-means++` (greedy; k-means|| above 2048 clusters), `random`, or centroids of shape (clusters, dim).
        n_init: starts, of which the one with the lowest inertia is kept; "auto" is 1.
        max_iter: passes over all frames; with `minibatch`, counted in batches.
        tol: `lloyd` ends when a pass lowers the inertia by less than this part of it, by default 0.0005, or less where passes are
            quick; `minibatch` as in scikit-learn, by default 0.
        random_state: seed.
        algorithm: `lloyd`, on growing samples and then all frames; or `minibatch`, scikit-learn's MiniBatchKMeans.
        batch_size: frames in a batch; this and the rest of the mini-batch options mean what they do in scikit-learn.
        max_no_improvement: batches without improvement that end the run.
        reassignment_ratio: part of the largest cluster below which one starts anew.
        init_size: frames that seeding sees, for `minibatch`.
        workers: threads; the result doesn't depend on them.
        device: `cpu`, or a torch device. Labels and sums are the same there; seeding on a GPU may draw other frames.
        memory: bytes of frames that a stream may bring into memory; larger streams are gone through once a pass.
        state: a file for the progress of `lloyd`, from which a killed fit of the same frames goes on; whoever keeps what the
            fit found removes it.
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
        tol: float | None = None,
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
            sample_weight: of the frames, shape (frames,); for arrays only. Those of weight 0 only get labels.

        Raises:
            InputError: fewer frames than clusters, values that aren't finite, or an option out of range.
        """
        check_options(self)
        if isinstance(X, FrameSource):
            if sample_weight is not None:
                raise InputError("sample_weight goes with an array of frames, not with a stream")
            if isinstance(X, SpreadSource) and X.expected_bytes > self.memory:
                self._fit(survey_spread(X), None)
            else:
                self._fit(survey(X, self.memory, self._placed), None)
            return self
        frames = as_matrix(X)
        self._check_enough(len(frames))
        weights = check_weights(sample_weight, frames)
        if weights is None:
            self._fit(survey(self._placed(frames), self.memory), None)
        elif weights.all():
            self._fit(survey(ArraySource(frames), self.memory), weights)
        else:
            check_finite(frames)
            self._fit(survey(ArraySource(frames[weights > 0]), self.memory), weights[weights > 0])
            self.labels_ = self.predict(frames)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Move the centroids towards one more batch of frames; the first batch seeds them."""
        check_options(self)
        frames = check_frames(X, None if not hasattr(self, "n_features_in_") else self)
        weights = check_weights(sample_weight, frames)
        if not hasattr(self, "cluster_centers_"):
            self._check_enough(len(frames))
            generator = np.random.default_rng(seed_of(self.random_state))
            given = given_centroids(self.init, self.n_clusters, frames.shape[1], frames.dtype)
            self.seeding_ = self._seeding()
            self.cluster_centers_ = (
                given if given is not None else seed_centroids(frames, self.n_clusters, self.seeding_, generator, weights)
            )
            self.n_features_in_ = frames.shape[1]
            self.n_iter_ = 0
            self._batches = MiniBatches(np.zeros(self.n_clusters), self.reassignment_ratio, generator)
        centroids = self.cluster_centers_.astype(frames.dtype)
        self.inertia_ = self._batches.update(frames, np.ones(len(frames)) if weights is None else weights, centroids)
        self.cluster_centers_ = centroids
        self.labels_ = NearestCentroid(centroids)(frames)
        self.n_iter_ += 1
        return self

    def predict(self, X: ArrayLike) -> Labels:  # noqa: N803
        """Return the nearest centroid of each frame, shape (frames,)."""
        check_is_fitted(self)
        frames = check_frames(X, self)
        return self._nearest(frames)(frames)

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
        nearest = self._nearest(frames)
        distances = nearest.squared_distances(frames, nearest(frames))
        return -float(distances.sum() if weights is None else distances @ weights)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns that `transform` makes."""
        check_is_fitted(self)
        return np.array([f"kmeans{at}" for at in range(len(self.cluster_centers_))], dtype=object)

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

    def _fit(self, surveyed: Surveyed, weights: NDArray[np.float64] | None) -> None:
        if weights is None:
            self._check_enough(surveyed.count)
        self.n_frames_, self.n_features_in_, self.seeding_ = surveyed.count, surveyed.dim, self._seeding()
        given = given_centroids(self.init, self.n_clusters, surveyed.dim, surveyed.dtype)
        seed = seed_of(self.random_state)
        if self.algorithm == "minibatch":
            gathered = self._fit_minibatch(surveyed.source, weights, given, seed)
        else:
            gathered = self._fit_lloyd(surveyed, weights, given, seed)
        self._batches = MiniBatches(gathered, self.reassignment_ratio, np.random.default_rng(seed))

    def _fit_lloyd(
        self, surveyed: Surveyed, weights: NDArray[np.float64] | None, given: Array | None, seed: int
    ) -> NDArray[np.float64]:
        settings = LloydSettings(
            n_clusters=self.n_clusters,
            seeding=self.seeding_,
            n_init=1 if self.n_init == "auto" else self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=seed,
            workers=self.workers,
            memory=self.memory,
            labeller=labeller_for(self.device, _EXPECTED_PASSES * surveyed.count),
            state=None if self.state is None else Path(self.state),
            report=self._report(),
        )
        fit = fit_lloyd(surveyed, settings, weights, given)
        self.cluster_centers_, self.labels_, self.inertia_ = fit.centroids, fit.labels, fit.inertia
        self.n_iter_, self.history_ = max(1, fit.passes - 1), fit.history
        return fit.weights

    def _fit_minibatch(
        self, source: FrameSource, weights: NDArray[np.float64] | None, given: Array | None, seed: int
    ) -> NDArray[np.float64]:
        if not isinstance(source, RowSource):
            raise NotInMemoryError(
                f"mini-batches are drawn from frames in memory or in files, and these take more than {self.memory >> 20} MiB: "
                "sample them, or use algorithm='lloyd'"
            )
        settings = MiniBatchSettings(
            n_clusters=self.n_clusters,
            seeding=self.seeding_,
            n_init=1 if self.n_init == "auto" else self.n_init,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            tol=self.tol or 0.0,
            max_no_improvement=self.max_no_improvement,
            reassignment_ratio=self.reassignment_ratio,
            init_size=self.init_size,
            seed=seed,
        )
        fit = fit_minibatch(source, settings, weights, given)
        self.cluster_centers_ = fit.centroids
        self.labels_, self.inertia_ = self._labels_and_inertia(source, weights)
        self.n_iter_ = max(1, -(-fit.steps * min(self.batch_size, len(source)) // len(source)))
        return fit.weights

    def _labels_and_inertia(self, source: FrameSource, weights: NDArray[np.float64] | None) -> tuple[Labels | None, float]:
        nearest = labeller_for(self.device, self.n_frames_)(self.cluster_centers_)
        labels, inertia, first = [], 0.0, 0
        for block in source.blocks():
            found = nearest(block)
            distances = nearest.squared_distances(block, found)
            inertia += float(distances.sum() if weights is None else distances @ weights[first : first + len(block)])
            first += len(block)
            if isinstance(source, ArraySource):
                labels.append(found)
        return (np.concatenate(labels) if labels else None), inertia

    def _nearest(self, frames: Array) -> NearestCentroid:
        """Return what labels frames, in the finer of the frames' type and the centroids'."""
        dtype = np.result_type(frames, self.cluster_centers_)
        return labeller_for(self.device, len(frames))(self.cluster_centers_.astype(dtype, copy=False))

    def _placed(self, frames: Array) -> ArraySource:
        """Return frames as a source; on the device, if passes go over all of them."""
        return ArraySource(frames) if self.algorithm == "minibatch" else labeller_for(self.device).placed(frames)

    def _check_enough(self, count: int) -> None:
        if count < self.n_clusters:
            raise TooFewFramesError(count, self.n_clusters)

    def _seeding(self) -> Seeding:
        return seeding_for(self.init, self.n_clusters) if isinstance(self.init, str) else "given"

    def _report(self) -> Callable[[str], None] | None:
        if callable(self.verbose):
            return self.verbose
        return Progress("k-means", 0, "", sys.stderr).note if self.verbose else None
