"""`Codebook`: centroids, and the frames they are for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, digest_of, digest_of_array
from vocable.artefacts.tensors import is_safetensors, read_tensors, write_tensors
from vocable.checkpoints.kmeans_pickle import read_kmeans_pickle
from vocable.clustering.assignment import Labels, NearestCentroid
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.features.normalization import Normalization

FORMAT = "vocable.codebook/1"


@dataclass(frozen=True)
class Codebook:
    """Turns frames into units.

    Args:
        centroids: float32, shape (clusters, dim).
        spec: what frames it is for; None for centroids imported without one.
        normalization: what the frames' spec says of normalisation, with the corpus's statistics if it is by corpus.
        fit: how it was made, for `inspect`.
    """

    centroids: Frames
    spec: FeatureSpec | None = None
    normalization: Normalization = field(default_factory=Normalization)
    fit: Header = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spec is not None and self.spec.dim != self.centroids.shape[1]:
            raise InputError(f"centroids of {self.centroids.shape[1]} values don't go with frames of {self.spec.dim}")

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def digest(self) -> str:
        """SHA-256 of the centroids and the identity of the frames: what decides units."""
        return digest_of([digest_of_array(self.centroids), None if self.spec is None else self.spec.identity()])

    def assign(self, frames: Frames, spec: FeatureSpec | None = None) -> Labels:
        """Return the unit of each frame of shape (frames, dim).

        Args:
            frames: to label.
            spec: what they are; checked against the codebook's.

        Raises:
            MismatchError: they are of another kind than the codebook's.
        """
        if spec is not None and self.spec is not None:
            self.spec.require_equal(spec, "the codebook's frames", "these frames")
        return self._nearest(frames)

    def lookup(self, units: NDArray[np.integer[Any]]) -> Frames:
        """Return the centroid of each unit, shape (units, dim).

        Raises:
            InputError: a unit is not one of the codebook's.
        """
        if len(units) and not 0 <= int(units.min()) <= int(units.max()) < len(self):
            raise InputError(f"units from {units.min()} to {units.max()} don't all lie in a codebook of {len(self)}")
        found: Frames = self.centroids[units]
        return found

    @cached_property
    def _nearest(self) -> NearestCentroid:
        return NearestCentroid(self.centroids)

    def write(self, path: Path) -> None:
        """Write one `.safetensors` file, whatever its name."""
        tensors = {"centroids": self.centroids}
        if self.normalization.corpus is not None:
            tensors["mean"], tensors["std"] = self.normalization.corpus
        header = {
            "format": FORMAT,
            "features": None if self.spec is None else self.spec.to_json(),
            "normalization": self.normalization.scope,
            "fit": self.fit,
        }
        write_tensors(path, tensors, header)


def read_codebook(path: Path) -> Codebook:
    """Read a codebook of ours, a scikit-learn model (pickle or joblib), or centroids in a `.npy`; the content says which.

    Raises:
        InputError: the file is none of them.
        UnsafeFileError: it asks for code to be run.
    """
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: give a codebook, such as vocable kmeans writes")
    if is_safetensors(path):
        return _read_own(path)
    if path.read_bytes()[:6] == b"\x93NUMPY":
        return Codebook(_checked(path, _read_npy(path)), fit={"imported": "npy"})
    return Codebook(_checked(path, read_kmeans_pickle(path)), fit={"imported": "scikit-learn"})


def _read_own(path: Path) -> Codebook:
    tensors, header = read_tensors(path, FORMAT)
    spec = None if header["features"] is None else FeatureSpec.from_json(header["features"])
    corpus = (tensors["mean"], tensors["std"]) if "mean" in tensors else None
    return Codebook(_checked(path, tensors["centroids"]), spec, Normalization(header["normalization"], corpus), header["fit"])


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a whole .npy file of numbers ({error}): make it again") from error
    return array


def _checked(path: Path, centroids: NDArray[Any]) -> Frames:
    if centroids.ndim != 2 or 0 in centroids.shape or centroids.dtype.kind != "f":
        raise InputError(
            f"{path} should hold centroids of shape (clusters, dim), but holds {centroids.dtype} of shape {centroids.shape}"
        )
    if not np.isfinite(centroids).all():
        raise InputError(f"{path} holds centroids that are NaN or infinite: fit it again")
    return centroids.astype(np.float32, copy=False)
