"""Fitting a codebook: on frames straight from audio, or on frames that were dumped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, digest_of
from vocable.audio.blocks import blocks_of
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.clustering.codebook import Codebook
from vocable.clustering.kmeans import FAIRSEQ_MINIBATCH, KMeans
from vocable.clustering.sources import FrameSource
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline
from vocable.features.store import StoredFrames
from vocable.recipes.feature_dump import Origin, origin_of

_SAMPLE_BYTES = 256 << 20
_SAMPLE_FRAMES = 512  # for each centroid, where that is more


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How centroids are found."""

    clusters: int = 100
    """Number of units."""
    seed: int = 0
    """Of the split, the samples and the starts; the same seed gives the same codebook."""
    fraction: float | None = None
    """Part of the utterances to fit on; by default as many as fill 256 MiB of frames, or 512 frames a cluster."""
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    """lloyd: on growing samples, then all frames; minibatch: scikit-learn's MiniBatchKMeans with fairseq's settings."""
    n_init: int | None = None
    """Starts, of which the best is kept; 1 for lloyd, 20 for minibatch."""
    max_iter: int | None = None
    """Passes over the frames at most; 300 for lloyd, 100 for minibatch."""
    tol: float | None = None
    """lloyd ends when a pass lowers the inertia by less than this part, 0.0003; minibatch as scikit-learn, 0."""
    init: Literal["k-means++", "random"] = "k-means++"
    """How centroids start."""
    batch_size: int = 10000
    """Frames in a mini-batch."""
    max_no_improvement: int = 100
    """Mini-batches without improvement that end the fit."""
    reassignment_ratio: float = 0.0
    """Part of the largest cluster's weight below which a mini-batch cluster starts anew."""

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise InputError(f"--clusters {self.clusters}: at least 1 is needed")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(f"--fraction {self.fraction}: a part of the utterances lies above 0 and at most at 1")

    def estimator(self, workers: int, device: str, state: Path | None, report: Callable[[str], None]) -> KMeans:
        """Return the estimator that fits as these settings say."""
        chosen = {"n_init": self.n_init, "max_iter": self.max_iter, "tol": self.tol}
        defaults = FAIRSEQ_MINIBATCH if self.algorithm == "minibatch" else {}
        given: dict[str, Any] = {**defaults, **{name: value for name, value in chosen.items() if value is not None}}
        given |= {
            "batch_size": self.batch_size,
            "max_no_improvement": self.max_no_improvement,
            "reassignment_ratio": self.reassignment_ratio,
        }
        return KMeans(
            self.clusters,
            init=self.init,
            random_state=self.seed,
            algorithm=self.algorithm,
            workers=workers,
            device=device,
            state=state,
            verbose=report,
            **given,
        )


def fit_on_audio(manifest: Manifest, pipeline: FramePipeline, settings: FitSettings, engine: Engine, folder: Path) -> Codebook:
    """Fit a codebook to the frames of a sample of a manifest's utterances; no frame touches the disk.

    A fit that was killed goes on after the last pass that `folder` knows of; the sample's frames are computed again for that.
    """
    rows = sampled_rows(manifest, pipeline.spec, settings)
    chosen = manifest.select(rows)
    about = {"manifest": manifest.digest, "utterances": len(chosen)}
    with progress("k-means", chosen.seconds) as shown:
        source = AudioFrames(chosen, pipeline, engine, shown.advance)
        state = folder / f"k-means-{digest_of([about, asdict(settings), pipeline.spec.identity()])[:16]}.safetensors"
        return _fit(source, settings, engine, pipeline.spec, pipeline.normalization, about, state, shown.note)


def fit_on_store(stores: list[StoredFrames], settings: FitSettings, engine: Engine) -> Codebook:
    """Fit a codebook to a sample of the utterances of dumped frames; an utterance's name is its place in the whole.

    Raises:
        MismatchError: the shards hold frames of different kinds.
    """
    origin = _common_origin(stores)
    lengths = np.concatenate([store.lengths for store in stores])
    fraction = settings.fraction or _default_fraction(int(lengths.sum()), stores[0].dim, settings.clusters)
    chosen = [at for at in range(len(lengths)) if fraction >= 1 or hash_fraction(settings.seed, str(at)) < fraction]
    if not chosen:
        raise InputError(f"a fraction of {fraction:g} of {len(lengths)} utterances leaves none to fit on: take a larger one")
    about = {"utterances": len(chosen)}
    with progress("k-means", 0.0, "frames") as shown:
        return _fit(_StoredSample(stores, chosen), settings, engine, origin.spec, origin.normalization, about, None, shown.note)


def _common_origin(stores: list[StoredFrames]) -> Origin:
    first, *others = [(store, origin_of(store.path)) for store in stores]
    for store, origin in others:
        if store.dim != first[0].dim:
            raise MismatchError(
                f"{store.path} has {store.dim} values a frame, {first[0].path} has {first[0].dim}: dump all shards alike"
            )
        if origin.spec is not None and first[1].spec is not None:
            first[1].spec.require_equal(origin.spec, str(first[0].path), str(store.path))
    return first[1]


def sampled_rows(manifest: Manifest, spec: FeatureSpec, settings: FitSettings) -> list[int]:
    """Return the rows to fit on: those whose hash of seed and id lies below the fraction, so that samples are nested."""
    frames = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    fraction = settings.fraction or _default_fraction(frames, spec.dim, settings.clusters)
    rows = [row for row, name in enumerate(manifest.ids) if fraction >= 1 or hash_fraction(settings.seed, name) < fraction]
    if not rows:
        raise InputError(f"a fraction of {fraction:g} of {len(manifest)} utterances leaves none to fit on: take a larger one")
    return rows


def _default_fraction(frames: int, dim: int, clusters: int) -> float:
    return min(1.0, max(_SAMPLE_BYTES // (4 * dim), _SAMPLE_FRAMES * clusters) / max(frames, 1))


@dataclass(frozen=True)
class AudioFrames:
    """A stream of frames made anew from audio each time it is gone through."""

    manifest: Manifest
    pipeline: FramePipeline
    engine: Engine
    advance: Callable[[float], None]

    def blocks(self) -> Iterator[Frames]:
        """Yield the frames of each block; utterances that can't be used are passed over, and named when labels are made."""
        for outcome in self.engine.run_shards(self.pipeline, blocks_of(self.manifest)):
            self.advance(outcome.shard.size)
            if outcome.result is not None and outcome.result.frames:
                yield np.concatenate(outcome.result.frames)


class _StoredSample:
    """Some utterances of memory-mapped stores, as one source of frames that needn't fit into memory."""

    def __init__(self, stores: list[StoredFrames], chosen: list[int]) -> None:
        firsts = np.cumsum([0, *(len(store) for store in stores)])
        self._parts = [self._locate(stores, firsts, at) for at in chosen]
        self._ends = np.cumsum([last - first for _, first, last in self._parts])

    @staticmethod
    def _locate(stores: list[StoredFrames], firsts: NDArray[np.int64], at: int) -> tuple[StoredFrames, int, int]:
        which = int(np.searchsorted(firsts, at, side="right")) - 1
        first, last = stores[which].span(at - int(firsts[which]))
        return stores[which], first, last

    def __len__(self) -> int:
        return int(self._ends[-1])

    def blocks(self) -> Iterator[Frames]:
        """Yield the frames of each utterance."""
        return (store.array[first:last] for store, first, last in self._parts)

    def take(self, rows: NDArray[np.integer[Any]]) -> Frames:
        """Return the frames of the given numbers."""
        which = np.searchsorted(self._ends, rows, side="right")
        out = np.empty((len(rows), self._parts[0][0].dim), dtype=np.float32)
        # In the order of the file, so that a disk is read forwards.
        for at in np.argsort(rows, kind="stable").tolist():
            store, _, last = self._parts[which[at]]
            out[at] = store.array[last - (int(self._ends[which[at]]) - int(rows[at]))]
        return out


def _fit(
    source: FrameSource,
    settings: FitSettings,
    engine: Engine,
    spec: FeatureSpec | None,
    normalization: Normalization,
    about: Header,
    state: Path | None,
    report: Callable[[str], None],
) -> Codebook:
    try:
        model = settings.estimator(engine.work.workers, engine.work.devices[0], state, report).fit(source)
    except InputError as error:
        if "should be >= n_clusters" in str(error):
            raise InputError(f"there are fewer frames than clusters ({error}): take fewer --clusters, or more audio") from error
        raise
    fit: Header = {
        **about,
        "settings": asdict(settings),
        "seeding": model.seeding_,
        "passes": model.n_iter_,
        "frames": model.n_frames_,
        "inertia": model.inertia_,
    }
    return Codebook(model.cluster_centers_.astype(np.float32), spec, normalization, fit)
