"""`Codebook`: centroids, and the frames they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import NUMBER, OBJECT, TEXT, Header, Kind, digest_of, digest_of_array, naming, read_field, whole
from vocable.artefacts.tensors import is_safetensors, read_tensors, read_vector, require_array, write_tensors
from vocable.audio.decoding import Waveform
from vocable.checkpoints.centroid_matrix import checked_centroids
from vocable.checkpoints.centroids import read_centroids
from vocable.clustering.assignment import Labels, NearestCentroid
from vocable.clustering.labellers import labeller_for
from vocable.clustering.sources import as_frames, check_finite
from vocable.errors import InputError, MismatchError
from vocable.features.extractors import FeatureExtractor
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization, Scope
from vocable.features.pipeline import FramePipeline
from vocable.features.speaker_statistics import speaker_tensors, speakers_in

FORMAT = "vocable.codebook/1"
_MANY_FRAMES = 1 << 16  # worth choosing how to label them


@dataclass(frozen=True)
class Codebook:
    """Turns speech, or frames of it, into units.

    Args:
        centroids: shape (clusters, dim); kept as float32.
        spec: what frames it is for; None for centroids imported without one.
        normalization: what the frames' spec says of normalisation, with the statistics of the corpus or of speakers if it is by
            them; other speakers' frames are normalised by their own utterances.
        fit: how it was made, for `inspect`; its keys are free, but those that `inspect` reads hold what it expects.
        groups: of a codebook of two levels, the coarser unit that each centroid belongs to, of shape (clusters,).

    Raises:
        InputError: the centroids are no finite matrix, they or the normalisation don't go with the spec, or `fit` is wrong.
    """

    centroids: Frames
    spec: FeatureSpec | None = None
    normalization: Normalization = field(default_factory=Normalization)
    fit: Header = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "centroids", _matrix(self.centroids))
        if self.groups is not None:
            object.__setattr__(self, "groups", _groups(self.groups, len(self.centroids)))
        if self.spec is not None:
            _check_belonging(self.centroids, self.spec, self.normalization)
        _check_fit(self.fit)

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def digest(self) -> str:
        """SHA-256 of the centroids and the identity of the frames: what decides units."""
        own = [digest_of_array(self.centroids), None if self.spec is None else self.spec.identity()]
        if self.normalization.speakers_digest is not None:
            own.append({"speakers": self.normalization.speakers_digest})
        return digest_of(own if self.groups is None else [*own, digest_of_array(self.groups)])

    @property
    def n_groups(self) -> int:
        """How many coarser units there are; without a second level, as many as centroids."""
        return len(self) if self.groups is None else int(self.groups.max()) + 1

    def predict(self, frames: ArrayLike) -> Labels:
        """Return the unit of each row of shape (rows, dim), as scikit-learn's k-means does: of the finer level."""
        return self._labels(_single(as_frames(frames)))

    def assign(self, frames: Frames, spec: FeatureSpec | None = None) -> Labels:
        """Return the unit of each frame of shape (frames, dim).

        Args:
            frames: to label.
            spec: what they are; checked against the codebook's. It may be left out for frames as an extractor makes them.

        Raises:
            InputError: they aren't finite as float32, or of another dimension.
            MismatchError: they are of another kind than the codebook's, or may be: it takes normalised or stacked ones.
        """
        if spec is not None and self.spec is not None:
            self.spec.require_equal(spec, "the codebook's frames", "these frames")
        elif self.spec is not None and self.spec != self.spec.base:
            raise MismatchError(
                f"the codebook is for finished frames (normalisation: {self.normalization.scope}; neighbours on each side: "
                f"{self.spec.context}): say what these are with spec=, or use label() on waveforms"
            )
        return self._labels(_single(frames))

    def label(
        self,
        waveforms: Sequence[Waveform],
        extractor: FeatureExtractor | None = None,
        speakers: Sequence[str | None] | None = None,
    ) -> list[Labels]:
        """Return the units of utterances.

        Args:
            waveforms: each of shape (samples,), mono, at the sample rate of `spec`.
            extractor: makes the frames that the codebook is for, before normalisation and context; needed where they are an
                encoder's.
            speakers: who speaks in each, or None; needed where frames are normalised by speaker.

        Raises:
            InputError: they aren't finite.
            MismatchError: the codebook doesn't say what frames it is for, they aren't the extractor's, or they are normalised by
                speakers that nobody names or the codebook has no statistics of.
        """
        if self.spec is None:
            raise MismatchError("the codebook doesn't say what frames it is for: make them, and use assign()")
        if self.normalization.by_speaker and not self.normalization.speakers:
            raise MismatchError("the codebook is for frames normalised per speaker: label a manifest that has speakers instead")
        if self.normalization.by_speaker and speakers is None:
            raise MismatchError(
                "the codebook is for frames normalised per speaker: say who speaks with speakers=, None if unknown"
            )
        pipeline = FramePipeline(self.spec.base, self.normalization, self.spec.context)
        labels = []
        if extractor is not None:
            self.spec.base.require_equal(extractor.spec, "the codebook's frames", "the extractor's")
        for frames in pipeline.frames_of(waveforms, extractor, speakers):
            check_finite(frames)
            labels.append(self._labels(frames))
        return labels

    def lookup(self, units: NDArray[np.integer[Any]]) -> Frames:
        """Return the centroid of each unit, shape (units, dim).

        Raises:
            InputError: a unit is not one of the codebook's.
        """
        if len(units) and not 0 <= int(units.min()) <= int(units.max()) < len(self):
            raise InputError(f"units from {units.min()} to {units.max()} don't all lie in a codebook of {len(self)}")
        found: Frames = self.centroids[units]
        return found

    def _labels(self, frames: Frames) -> Labels:
        many = len(frames) >= _MANY_FRAMES
        return (labeller_for("cpu", len(frames))(self.centroids) if many else self._nearest)(frames)

    @cached_property
    def _nearest(self) -> NearestCentroid:
        return NearestCentroid(self.centroids)

    def write(self, path: str | Path) -> None:
        """Write one `.safetensors` file, whatever its name."""
        path = Path(path)
        tensors: dict[str, NDArray[Any]] = {"centroids": self.centroids}
        if self.normalization.corpus is not None:
            tensors["mean"], tensors["std"] = self.normalization.corpus
        tensors |= speaker_tensors(self.normalization.speakers)
        if self.groups is not None:
            tensors["groups"] = self.groups
        header = {
            "format": FORMAT,
            "features": None if self.spec is None else self.spec.to_json(),
            "normalization": self.normalization.scope,
            "fit": self.fit,
        }
        write_tensors(path, tensors, header)


def read_codebook(path: str | Path) -> Codebook:
    """Read a codebook of ours, a scikit-learn model (pickle or joblib), or centroids in a `.npy`; the content says which.

    Raises:
        InputError: the file is none of them, or a part of it is missing or wrong.
        UnsafeFileError: it asks for code to be run.
    """
    path = Path(path)
    if path.is_file() and is_safetensors(path):
        return _read_own(path)
    foreign = read_centroids(path)
    return Codebook(foreign.centroids, fit={"imported": foreign.origin})


def _read_own(path: Path) -> Codebook:
    tensors, header = read_tensors(path, FORMAT)
    features = read_field(path, header, "features", OBJECT.or_null())
    scope = cast("Scope", read_field(path, header, "normalization", TEXT))
    fit = read_field(path, header, "fit", OBJECT)
    centroids = checked_centroids(path, require_array(path, tensors, "centroids"))
    corpus, speakers = _corpus_statistics(path, tensors), speakers_in(path, tensors)
    groups = tensors.get("groups")
    with naming(path):
        spec = None if features is None else FeatureSpec.from_json(features)
        return Codebook(centroids, spec, Normalization(scope, corpus, speakers), fit, groups)


def _corpus_statistics(path: Path, tensors: dict[str, NDArray[Any]]) -> tuple[Frames, Frames] | None:
    """Return a corpus's mean and standard deviation, each of shape (dim,), or None if there are none."""
    if not {"mean", "std"} & set(tensors):
        return None
    mean, std = (read_vector(path, tensors, name, ("float32", "float64")) for name in ("mean", "std"))
    if len(mean) != len(std) or not np.isfinite([mean, std]).all() or not (std > 0).all():
        raise InputError(
            f"{path} holds a mean and std of frames that can't be: numbers, and std above 0, are needed; fit it again"
        )
    return mean, std


def _check_belonging(centroids: Frames, spec: FeatureSpec, normalization: Normalization) -> None:
    """Refuse centroids or a normalisation of other frames than a spec's."""
    if spec.dim != centroids.shape[1]:
        raise InputError(
            f"centroids of {centroids.shape[1]} values don't go with frames of {spec.dim}: give the spec that they were fitted on"
        )
    if spec.frame_normalization != normalization.name:
        raise InputError(
            f"the codebook's frames are normalised by {spec.frame_normalization}, but {normalization.name} is given: "
            "give the normalisation that their spec names"
        )
    known = [*normalization.speakers.values(), *([] if normalization.corpus is None else [normalization.corpus])]
    if any(part.shape != (spec.base.dim,) for moments in known for part in moments):
        raise InputError(
            f"the mean and std that frames are normalised by should have the {spec.base.dim} values of frames not yet stacked: "
            "fit the codebook again"
        )


# What `inspect` reads.
_FIT: dict[str, Kind[Any]] = {
    "imported": TEXT,
    "frames": whole(1),
    "utterances": whole(0),
    "lost": whole(0),
    "passes": whole(0),
    "inertia": NUMBER,
    "seeding": TEXT,
    "settings": OBJECT,
}
_SETTINGS: dict[str, Kind[Any]] = {"algorithm": TEXT, "seed": whole(0)}


def _check_fit(fit: Header) -> None:
    for name, kind in _FIT.items():
        if name in fit:
            read_field("the codebook's fit", fit, name, kind)
    settings = fit.get("settings", {})
    for name, kind in _SETTINGS.items():
        if name in settings:
            read_field("the settings of the codebook's fit", settings, name, kind)


def _single(frames: Frames) -> Frames:
    """Return finite frames as float32, in which they are labelled."""
    given = as_frames(frames)
    check_finite(given)
    with np.errstate(over="ignore"):
        single = given.astype(np.float32, copy=False)
    if single is not given and not np.isfinite(single).all():  # 1e39 is finite as float64 only
        raise InputError("frames hold values that are infinite as float32: leave such frames out")
    return single


def _groups(groups: ArrayLike, clusters: int) -> NDArray[np.int64]:
    """Return the groups of centroids as whole numbers of shape (clusters,)."""
    values = np.asarray(groups)
    if (
        values.shape != (clusters,)
        or not np.issubdtype(values.dtype, np.integer)
        or not 0 <= values.min() <= values.max() < clusters
    ):
        raise InputError(
            f"groups should be a whole number from 0 to {clusters - 1} for each of {clusters} centroids, but have the shape "
            f"{values.shape} and the type {values.dtype}, or others"
        )
    return values.astype(np.int64)


def _matrix(centroids: ArrayLike) -> Frames:
    """Return centroids as float32 of shape (clusters, dim)."""
    values = as_frames(centroids)
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(values, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise InputError(f"centroids should be finite numbers of shape (clusters, dim), but have shape {values.shape}")
    return matrix
