"""Segments to units of two levels: k-means on what describes them, then Ward's linkage of its centroids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of
from vocable.artefacts.text import lines_of
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.clustering.kmeans import KMeans
from vocable.clustering.options import seed_of
from vocable.errors import InputError, TooFewFramesError
from vocable.execution.progress import progress
from vocable.recipes.stored_segments import StoredSegments
from vocable.recipes.workplace import Claim, open_workplace

_OPTIONS = {"clusters": "n-clusters", "n_init": "n-init", "max_iter": "max-iter"}


@dataclass(frozen=True, kw_only=True)
class TwoLevels:
    """How units are made of segments.

    Raises:
        InputError: a part is none.
    """

    clusters: int = 16384
    """Centroids of k-means."""
    groups: int | None = 4096
    """Units that these are put together to, by Ward's linkage."""
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    """minibatch is scikit-learn's MiniBatchKMeans with the settings of SD-HuBERT's code: many times slower, and no nearer."""
    n_init: int | None = None
    """Starts, of which the best is kept; 1 for lloyd, and 5 for minibatch, as in SD-HuBERT's code."""
    max_iter: int = 100
    """Passes over all segments at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clusters", "n_init", "max_iter"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"--{_OPTIONS.get(name, name)} {getattr(self, name)}: give 1 or more")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: give 0 or more")
        if self.groups is not None and not 1 <= self.groups <= self.clusters:
            raise InputError(f"{self.groups} groups of {self.clusters} clusters: give 1 to {self.clusters}")

    def estimator(self, workers: int, state: Path | None = None) -> KMeans:
        """Return what finds the centroids; `state` is a file for the progress of lloyd."""
        return KMeans(
            self.clusters,
            algorithm=self.algorithm,
            max_iter=self.max_iter,
            random_state=self.seed,
            n_init=self.n_init or (5 if self.algorithm == "minibatch" else 1),
            workers=workers,
            state=state,
            verbose=1,
        )


def cluster_segments(
    source: Path,
    out: Path,
    settings: TwoLevels,
    names: Sequence[str] | None = None,
    workers: int = 1,
    overwrite: bool = False,
) -> tuple[Codebook, bool]:
    """Fit a codebook of two levels to stored segments; return it, and whether it stood there already.

    Args:
        source: a folder of segments.
        out: the codebook.
        settings: of both levels.
        names: the utterances to fit to; by default all.
        workers: threads.
        overwrite: replace a codebook of something else.

    Raises:
        InputError: there are fewer segments than clusters, or a codebook of something else stands there.
    """
    if out.suffix != ".safetensors" or out.is_dir():
        raise InputError(f"--out {out}: a codebook is a file whose name ends in .safetensors")
    stored = StoredSegments(source)
    folder = open_workplace(out.parent)
    made_from = {**asdict(settings), "segments": stored.state, "names": None if names is None else digest_of(list(names))}
    claim = Claim.of(folder, f"syllables-{out.name}", made_from, [out])
    if claim.is_settled():
        return read_codebook(out), True
    claim.check(overwrite)
    state = folder / f"k-means-{claim.key[:32]}.state" if settings.algorithm == "lloyd" else None
    codebook = fitted_levels(_gathered(stored, names), settings, stored, workers, state)
    with claim.taken(overwrite) as staged:
        codebook.write(staged / out.name)
    if state is not None:
        state.unlink(missing_ok=True)
    return codebook, False


def names_listed(path: Path, segments: Path) -> list[str]:
    """Return the utterances in a list of audio files, such as SD-HuBERT's librispeech_train_10Ksubset.txt, that have segments.

    Raises:
        InputError: none has.
    """
    stored = StoredSegments(segments)
    if not path.is_file():
        raise InputError(f"{path}: there is no such list; give one of audio files, a line each")
    listed = list(dict.fromkeys(line.strip() for line in lines_of(path, path.read_bytes()) if line.strip()))
    found = [name for line in listed if (name := stored.name_of(line)) is not None]
    if not found:
        raise InputError(f"{path} lists no utterance that has segments in {segments}: give a list of their audio files")
    if len(found) < len(listed):
        print(f"{len(listed) - len(found):,} of {len(listed):,} utterances in {path} have no segments in {segments}")
    return found


def fitted_levels(
    features: list[NDArray[np.float32]],
    settings: TwoLevels,
    stored: StoredSegments | None = None,
    workers: int = 1,
    state: Path | None = None,
) -> Codebook:
    """Fit both levels; the segments are gone when the second begins.

    Args:
        features: of segments, in parts of shape (segments, dim); the list is emptied.
        settings: of both levels.
        stored: where they are from, if that says what they are.
        workers: threads.
        state: a file for the progress of the first, where it is lloyd.

    Raises:
        InputError: there are fewer segments than clusters, of several sizes, or an extra is missing.
    """
    if settings.groups is not None:
        _agglomerative()  # before the first level takes its time
    count = sum(map(len, features))
    if count < settings.clusters:
        raise InputError(f"{count:,} segments can't make {settings.clusters:,} clusters: give more audio, or fewer --n-clusters")
    if len(sizes := {part.shape[1] for part in features}) > 1:
        raise InputError(f"segments have {' and '.join(map(str, sorted(sizes)))} values: give those of one encoder")
    every = np.concatenate(features)
    features.clear()
    try:
        found = settings.estimator(workers, state).fit(every)
    except TooFewFramesError as error:
        raise InputError(f"{error}: give fewer --n-clusters") from error
    del every
    fit = {
        "frames": count, "inertia": float(found.inertia_), "passes": int(found.n_iter_),
        "settings": {"algorithm": settings.algorithm, "seed": seed_of(settings.seed)},
    }  # fmt: skip
    groups = None if settings.groups is None else grouped(found.cluster_centers_, settings.groups)
    return Codebook(found.cluster_centers_, None if stored is None else stored.spec, fit=fit, groups=groups)


def grouped(centroids: NDArray[np.floating], groups: int) -> NDArray[np.int64]:
    """Return which group each centroid belongs to, by Ward's linkage, numbered as scikit-learn numbers them.

    Raises:
        InputError: scikit-learn isn't there.
    """
    if len(centroids) == 1:  # which scikit-learn refuses
        return np.zeros(1, np.int64)
    labels: NDArray[np.int64] = _agglomerative()(n_clusters=groups, linkage="ward").fit_predict(centroids).astype(np.int64)
    return labels


def with_groups(codebook: Codebook, path: Path | None) -> Codebook:
    """Return a codebook with the groups in a file, such as SD-HuBERT's NAME_16384to4096.npy.

    Raises:
        InputError: it holds something else.
    """
    if path is None:
        return codebook
    try:
        groups = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is not a .npy file of whole numbers ({error}): give the reducer that goes with the k-means"
        ) from error
    try:
        return Codebook(codebook.centroids, codebook.spec, codebook.normalization, codebook.fit, groups)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _gathered(stored: StoredSegments, names: Sequence[str] | None) -> list[NDArray[np.float32]]:
    wanted = list(stored.ids if names is None else names)
    found: list[NDArray[np.float32]] = []
    with progress("segments", float(len(wanted)), "utterances") as shown:
        for item in stored.described(wanted):
            if item.features is not None and len(item.features):
                found.append(item.features)
            shown.advance(1)
    return found


def _agglomerative() -> type:
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError as error:
        raise InputError("for a second level the extra is needed: pip install 'vocable[syllables]'") from error
    kind: type = AgglomerativeClustering
    return kind
