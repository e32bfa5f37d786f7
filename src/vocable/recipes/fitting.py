"""Fitting a codebook: on frames straight from audio, or on frames that were dumped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, digest_of
from vocable.audio.faults import Skipped, count_lost
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.clustering.assignment import Labels
from vocable.clustering.codebook import Codebook
from vocable.clustering.kmeans import FAIRSEQ_MINIBATCH, KMeans
from vocable.clustering.sources import FrameSource
from vocable.errors import InputError, MismatchError, NotInMemoryError, TooFewFramesError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline
from vocable.features.store import StoredFrames
from vocable.recipes.corpus import require_some
from vocable.recipes.dumped import Origin, joined_normalization, joined_rows, origin_of, require_one_manifest
from vocable.recipes.fit_sources import AudioFrames, StoredSample
from vocable.units.labelling import labels_payload
from vocable.units.units import MOST_CLUSTERS

_SAMPLE_BYTES = 256 << 20
_SAMPLE_FRAMES = 512  # for each centroid, where that is more
MINIBATCH_ONLY = ("batch_size", "max_no_improvement", "reassignment_ratio")


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How centroids are found."""

    clusters: int = 100
    """Number of units."""
    seed: int = 0
    """Of the samples, the starts, and of the split where there is one; the same seed gives the same codebook."""
    fraction: float | None = None
    """Part of the utterances to fit on; by default as many as fill 256 MiB of frames, or 512 frames a cluster."""
    memory: float = 4.0
    """GiB of frames that a fit may bring into memory; of more, passes are made where the frames are, by the workers."""
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    """lloyd: on growing samples, then all frames; minibatch: scikit-learn's MiniBatchKMeans with fairseq's settings."""
    n_init: int | None = None
    """Starts, of which the best is kept; 1 for lloyd, 20 for minibatch."""
    max_iter: int | None = None
    """Passes over the frames at most; 300 for lloyd, 100 for minibatch."""
    tol: float | None = None
    """lloyd ends when a pass lowers the inertia by less than this part, 0.0005 or less; minibatch as scikit-learn, 0."""
    init: Literal["k-means++", "random"] = "k-means++"
    """How centroids start."""
    batch_size: int = 10000
    """minibatch only: frames in a mini-batch."""
    max_no_improvement: int = 100
    """minibatch only: mini-batches without improvement that end the fit."""
    reassignment_ratio: float = 0.0
    """minibatch only: part of the largest cluster's weight below which a mini-batch cluster starts anew."""

    def __post_init__(self) -> None:
        for name, least in (
            ("clusters", 1),
            ("seed", 0),
            ("n_init", 1),
            ("max_iter", 1),
            ("batch_size", 1),
            ("max_no_improvement", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name.replace('_', '-')} {value}: at least {least} is needed")
        if self.clusters > MOST_CLUSTERS:
            raise InputError(f"--clusters {self.clusters}: no more than {MOST_CLUSTERS:,} can be told apart in label files")
        if self.seed >= 1 << 63:
            raise InputError(f"--seed {self.seed}: take a smaller number")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(f"--fraction {self.fraction}: a part of the utterances lies above 0 and at most at 1")
        if self.tol is not None and not 0 <= self.tol < math.inf:
            raise InputError(f"--tol {self.tol}: a part of the inertia, 0 or more")
        if not 0 < self.memory < math.inf:
            raise InputError(f"--memory {self.memory:g}: give GiB above 0")
        if not 0 <= self.reassignment_ratio <= 1:
            raise InputError(f"--reassignment-ratio {self.reassignment_ratio}: a part of the largest weight lies between 0 and 1")
        if self.algorithm == "lloyd":
            for item in fields(self):
                if item.name in MINIBATCH_ONLY and getattr(self, item.name) != item.default:
                    raise InputError(
                        f"--{item.name.replace('_', '-')} goes with --algorithm minibatch: give that, or leave it out"
                    )

    @property
    def recorded(self) -> Header:
        """What the codebook depends on."""
        return {name: value for name, value in asdict(self).items() if name != "memory"}

    def estimator(self, workers: int, device: str, state: Path, report: Callable[[str], None]) -> KMeans:
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
            memory=int(self.memory * (1 << 30)),
            state=state,
            verbose=report,
            **given,
        )


@dataclass(frozen=True)
class NewFit:
    """A codebook that is written nowhere yet."""

    codebook: Codebook
    skipped: list[Skipped]
    """Utterances of the sample that couldn't be used."""
    _state: Path
    labels: dict[str, Payload] = field(default_factory=dict)
    """Those of the blocks of audio it was fitted to, by content, as far as the fit had their frames at hand."""

    def forget_passes(self) -> None:
        """Remove what a killed fit would go on from, now that the codebook is written."""
        self._state.unlink(missing_ok=True)


def fit_on_audio(
    manifest: Manifest,
    pipeline: FramePipeline,
    settings: FitSettings,
    engine: Engine,
    folder: Path,
) -> NewFit:
    """Fit a codebook to the frames of a sample of a manifest's utterances; no frame touches the disk.

    A fit that was killed goes on after the last pass that `folder` knows of; the sample's frames are computed again for that.

    Args:
        manifest: to draw the sample from.
        pipeline: makes the frames.
        settings: of the fit.
        engine: runs the work.
        folder: the work folder.
    """
    chosen = manifest.select(sampled_rows(manifest, pipeline.spec, settings))
    about = {"manifest": manifest.digest, "utterances": len(chosen)}
    skipped: list[Skipped] = []
    with progress("k-means", chosen.seconds) as shown:
        source = AudioFrames(chosen, pipeline, engine, shown.advance, skipped)
        state = _state(folder, digest_of([[block.content for block in source.cut], settings.recorded, pipeline.key]))
        try:
            fitted, found = _fit(source, settings, engine, pipeline.spec, pipeline.normalization, about, state, shown.note)
        except InputError:
            require_some(len(chosen) - len(skipped), skipped, chosen.root or "the sample to fit to")
            raise
    lost = count_lost(skipped)
    used = {"utterances": len(chosen) - len(skipped), **({"lost": lost} if lost else {})}
    labels = {} if found is None else _by_block(found, settings.clusters, source)
    return NewFit(replace(fitted, fit={**fitted.fit, **used}), skipped, state, labels)


def _by_block(found: Labels, clusters: int, source: AudioFrames) -> dict[str, Payload]:
    """Return the labels that a fit found, by the content of the block that they are of."""
    labels, first = {}, 0
    for block, made in source.made:
        count = sum(made.lengths)
        labels[block.content] = labels_payload(found[first : first + count], clusters, made)
        first += count
    return labels


def fit_on_store(stores: list[StoredFrames], settings: FitSettings, engine: Engine, folder: Path) -> NewFit:
    """Fit a codebook to a sample of the utterances of dumped frames.

    Raises:
        MismatchError: the shards hold frames of different kinds.
    """
    origins = [origin_of(store.path) for store in stores]
    spec, normalization = _common_spec(stores, origins), joined_normalization(stores, origins)
    chosen = sampled_utterances(stores, settings)
    about = {"utterances": len(chosen)}
    state = _state(folder, digest_of([[store.content for store in stores], settings.recorded]))
    with progress("k-means", 0.0, "frames") as shown:
        source = StoredSample(stores, chosen, engine)
        try:
            fitted, _ = _fit(source, settings, engine, spec, normalization, about, state, shown.note)
        except InputError as error:
            raise InputError(f"the frames in {stores[0].path.parent}: {error}") from error
    return NewFit(fitted, [], state)


def sampled_rows(manifest: Manifest, spec: FeatureSpec, settings: FitSettings) -> list[int]:
    """Return the rows to fit on: those whose hash of seed and id lies below the fraction, so that samples are nested.

    Raises:
        InputError: there are none.
    """
    frames = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    return _sampled(manifest.ids, frames, spec.dim, settings)


def sampled_utterances(stores: Sequence[StoredFrames], settings: FitSettings) -> list[int]:
    """Return which utterances of dumped frames to fit on: those of their audio, if manifests beside them tell ids.

    Otherwise an utterance's place in the whole serves as its id.

    Raises:
        InputError: there are none.
        MismatchError: a manifest beside them was changed since.
    """
    rows = joined_rows(stores, [origin_of(store.path) for store in stores])
    names = rows.ids if rows is not None else tuple(map(str, range(sum(map(len, stores)))))
    return _sampled(names, sum(len(store.array) for store in stores), stores[0].dim, settings)


def _sampled(names: tuple[str, ...], frames: int, dim: int, settings: FitSettings) -> list[int]:
    fraction = settings.fraction or _default_fraction(frames, dim, settings.clusters)
    chosen = [at for at, name in enumerate(names) if fraction >= 1 or hash_fraction(settings.seed, name) < fraction]
    if names and not chosen:
        raise InputError(f"a fraction of {fraction:g} of {len(names)} utterances leaves none to fit on: take a larger one")
    return chosen


def _default_fraction(frames: int, dim: int, clusters: int) -> float:
    return min(1.0, max(_SAMPLE_BYTES // (4 * dim), _SAMPLE_FRAMES * clusters) / max(frames, 1))


def _state(folder: Path, key: str) -> Path:
    return folder / f"k-means-{key[:32]}.safetensors"


def _common_spec(stores: Sequence[StoredFrames], origins: Sequence[Origin]) -> FeatureSpec | None:
    require_one_manifest(stores, origins)
    first, *others = zip(stores, origins, strict=True)
    for store, origin in others:
        if store.dim != first[0].dim:
            raise MismatchError(
                f"{store.path} has {store.dim} values a frame, {first[0].path} has {first[0].dim}: dump all shards alike"
            )
        if origin.spec is not None and first[1].spec is not None:
            first[1].spec.require_equal(origin.spec, str(first[0].path), str(store.path))
    return first[1].spec


def require_frames_for(frames: int, clusters: int) -> None:
    """Refuse to fit more clusters than there are frames.

    Raises:
        InputError: says how many there are.
    """
    if frames < clusters:
        raise InputError(f"{frames} frames can't make {clusters} clusters: take fewer clusters, or more audio")


def _fit(
    source: FrameSource,
    settings: FitSettings,
    engine: Engine,
    spec: FeatureSpec | None,
    normalization: Normalization,
    about: Header,
    state: Path,
    report: Callable[[str], None],
) -> tuple[Codebook, Labels | None]:
    """Return the codebook, and the labels of the source's frames if it finds them."""
    try:
        model = settings.estimator(engine.work.here, engine.work.device_here, state, report).fit(source)
    except TooFewFramesError as error:
        require_frames_for(error.count, error.clusters)
        raise
    except NotInMemoryError as error:
        raise InputError("the sample is too large for mini-batches: take a smaller --fraction, or --algorithm lloyd") from error
    fit: Header = {
        **about,
        "settings": settings.recorded,
        "seeding": model.seeding_,
        "passes": model.n_iter_,
        "frames": model.n_frames_,
        "inertia": model.inertia_,
    }
    labels = model.labels_ if model.cluster_centers_.dtype == np.float32 else None
    return Codebook(model.cluster_centers_.astype(np.float32), spec, normalization, fit), labels
