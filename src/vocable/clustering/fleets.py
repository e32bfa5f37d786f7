"""`Fleet`: codebooks of many speakers in one file, which is opened at once however large it is.

A codebook of a fleet may be a product of small ones: its values are cut into groups, and each group has centroids of its own.
Frames may each go to another codebook; those that go to one are labelled together, so that each codebook is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import LIST, OBJECT, TEXT, Header, digest_of, digest_of_array, naming, read_field
from vocable.artefacts.mapped_tensors import map_tensors, write_in_parts
from vocable.artefacts.writing import part_beside, space_checked
from vocable.clustering.assignment import Array
from vocable.errors import InputError, MismatchError
from vocable.execution.threads import single_threaded
from vocable.features.kaldi import Frames

FORMAT = "vocable.fleet/1"
Groups = tuple[tuple[int, int], ...]
Tokens = NDArray[np.int32]
_UNIT = float(np.finfo(np.float32).eps) / 2
_SAMPLED = 8  # codebooks of which a row is checked when a fleet is opened
_SCORES = 1 << 20  # at once


@dataclass(frozen=True)
class Member:
    """A codebook of a fleet."""

    name: str
    centroids: Array
    """Of shape (clusters, dim); of a product, column ranges are centroids of their own."""
    speakers: tuple[str, ...] = ()
    """Whose frames it was fitted to; () where nobody says."""
    statistics: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of these frames, by name, each of one shape in all members."""


@dataclass(frozen=True)
class Fleet:
    """Codebooks of many speakers.

    Args:
        codebooks: of shape (codebooks, clusters, dim), float32 or float16, zeros behind the last cluster of smaller ones.
        norms: squared lengths, of shape (codebooks, groups, clusters), float32; infinite behind the last.
        names: of the codebooks.
        speakers: whose frames each was fitted to.
        digests: of the codebooks' own centroids.
        spec: what frames they are for.
        groups: first and last column, not included, of each group of a product.
        statistics: arrays of shape (codebooks, …).
        note: what the speakers agreed to, or the licence of their recordings.

    Raises:
        InputError: these don't go together.
    """

    codebooks: NDArray[Any]
    norms: NDArray[np.float32]
    names: tuple[str, ...]
    speakers: tuple[tuple[str, ...], ...]
    digests: tuple[str, ...]
    spec: FeatureSpec | None = None
    groups: Groups = ()
    statistics: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if self.codebooks.ndim != 3 or 0 in self.codebooks.shape or self.codebooks.dtype.name not in ("float32", "float16"):
            raise InputError(f"codebooks have shape {self.codebooks.shape} and type {self.codebooks.dtype}: make the fleet again")
        count, clusters, dim = self.codebooks.shape
        if not self.groups:
            object.__setattr__(self, "groups", ((0, dim),))
        edges = [0, *(last for _, last in self.groups)]
        if [first for first, _ in self.groups] != edges[:-1] or edges[-1] != dim or edges != sorted(set(edges)):
            raise InputError(f"groups {list(self.groups)} don't cut {dim} values into parts: make the fleet again")
        if self.norms.shape != (count, len(self.groups), clusters) or self.norms.dtype != np.float32:
            raise InputError(
                f"norms have shape {self.norms.shape} beside codebooks of {self.codebooks.shape}: make the fleet again"
            )
        if not len(self.names) == len(self.speakers) == len(self.digests) == count or len(set(self.names)) != count:
            raise InputError(f"{count} codebooks need {count} different names, their speakers and digests: make the fleet again")
        if self.spec is not None and self.spec.dim != dim:
            raise InputError(f"codebooks of {dim} values don't go with frames of {self.spec.dim}: make the fleet again")
        if any(len(values) != count or not np.isfinite(values).all() for values in self.statistics.values()):
            raise InputError(f"each of a fleet's statistics needs {count} rows of finite numbers: make it again")
        whole = np.isfinite(self.norms)
        if not whole[:, :, 0].all() or (np.diff(whole.astype(np.int8), axis=2) > 0).any() or not _are_norms(self):
            raise InputError("norms aren't those of the codebooks, or these aren't finite: make the fleet again")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dim(self) -> int:
        """Values of a centroid."""
        return int(self.codebooks.shape[2])

    @property
    def digest(self) -> str:
        """SHA-256 of what decides tokens and what they are looked up as."""
        spec = None if self.spec is None else self.spec.identity()
        own = {name: digest_of_array(values) for name, values in self.statistics.items()}
        return digest_of([list(self.digests), str(self.codebooks.dtype), spec, [list(group) for group in self.groups], own])

    def clusters(self, codebook: int) -> int:
        """Return how many centroids a codebook has, of its largest group."""
        return int(np.isfinite(self.norms[codebook]).any(axis=0).sum())

    def centroids(self, codebook: int) -> Frames:
        """Return a codebook's centroids, of shape (clusters, dim)."""
        return np.asarray(self.codebooks[codebook, : self.clusters(codebook)], np.float32)

    def require(self, spec: FeatureSpec) -> None:
        """Refuse frames of another kind.

        Raises:
            MismatchError: names what differs.
        """
        if self.spec is not None:
            self.spec.require_equal(spec, "the codebooks' frames", "these frames")
        elif spec.dim != self.dim:
            raise MismatchError(f"the codebooks are for frames of {self.dim} values, but these have {spec.dim}: give others")

    def tokens(self, frames: Frames, plan: NDArray[np.integer[Any]]) -> Tokens:
        """Return the nearest centroid of each frame in the codebook that a plan names for it.

        The token is the argmin that float64 gives, the lowest of equal ones.

        Args:
            frames: of shape (frames, dim), float32.
            plan: a codebook for each frame.

        Returns:
            Of shape (frames, groups).

        Raises:
            InputError: frames aren't finite, or of another size; or a codebook isn't one of these.
        """
        if frames.ndim != 2 or frames.shape[1] != self.dim or plan.shape != (len(frames),):
            raise InputError(f"frames of shape {frames.shape} can't be labelled with codebooks of {self.dim} values")
        if not np.isfinite(frames).all():
            raise InputError("frames hold values that aren't finite: leave such audio out")
        out = np.empty((len(frames), len(self.groups)), np.int32)
        with single_threaded():  # products of a few rows are over before other threads have begun
            for codebook, rows in self._by_codebook(plan):
                centroids = np.asarray(self.codebooks[codebook], np.float32)
                for number, (first, last) in enumerate(self.groups):
                    own = frames[rows, first:last]
                    out[rows, number] = _nearest(own, centroids[:, first:last], self.norms[codebook, number])
        return out

    def lookup(self, tokens: Tokens, plan: NDArray[np.integer[Any]]) -> Frames:
        """Return the centroids that tokens name in their codebooks, of shape (frames, dim).

        Raises:
            InputError: they hold what is no number.
        """
        out = np.empty((len(tokens), self.dim), np.float32)
        for number, (first, last) in enumerate(self.groups):
            out[:, first:last] = self.codebooks[plan, tokens[:, number], first:last]
        if not (whole := np.isfinite(out).all(axis=1)).all():
            name = self.names[int(plan[~whole][0])]
            raise InputError(f"the codebook {name} holds numbers that aren't finite: make the fleet again")
        return out

    def _by_codebook(self, plan: NDArray[np.integer[Any]]) -> Iterator[tuple[int, NDArray[np.intp]]]:
        if len(plan) and not 0 <= int(plan.min()) <= int(plan.max()) < len(self):
            raise InputError(f"codebooks from {plan.min()} to {plan.max()} aren't all in a fleet of {len(self)}")
        order = np.argsort(plan, kind="stable")
        found, firsts = np.unique(plan[order], return_index=True)
        yield from zip(found.tolist(), np.split(order, firsts[1:]), strict=True)


def write_fleet(
    path: Path,
    members: Iterable[Member],
    names: Sequence[str],
    clusters: int,
    dim: int,
    *,
    spec: FeatureSpec | None = None,
    groups: Groups = (),
    half: bool = False,
    note: str = "",
    made: Header | None = None,
) -> None:
    """Write a fleet whose members come one by one, so that memory holds one of them.

    Args:
        path: a `.safetensors` file.
        members: in the order of `names`.
        names: of all members.
        clusters: of the largest of them.
        dim: values of a centroid.
        spec: what frames they are for.
        groups: of a product.
        half: keep centroids as float16.
        note: what the speakers agreed to.
        made: how, for `inspect`.

    Raises:
        InputError: a member is of another size, or its centroids aren't finite.
    """
    groups = groups or ((0, dim),)
    kept = np.dtype(np.float16 if half else np.float32)
    count = len(names)
    norms = np.full((count, len(groups), clusters), np.inf, np.float32)
    speakers, digests, statistics = [], [], {}
    given = iter(members)
    member = first = next(given, None)
    if first is None:
        raise InputError("a fleet of no codebooks: give some")
    statistics = {name: np.empty((count, *values.shape), np.float32) for name, values in sorted(first.statistics.items())}
    # Centroids come first in the file, but the header, which comes before them, tells their digests: two goes, the first of
    # which lies beside.
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_beside(path)
    try:
        with space_checked(path), part.open("wb") as file:
            for number, name in enumerate(names):
                if member is None or member.name != name:
                    raise InputError(f"the codebook {name} of a fleet is missing: make it again")
                padded, own = _padded(member, clusters, dim, kept)
                for at, (begin, end) in enumerate(groups):
                    norms[number, at, : len(own)] = np.square(own[:, begin:end], dtype=np.float64).sum(axis=1)
                file.write(padded.data)
                speakers.append(list(member.speakers))
                digests.append(digest_of_array(own))
                for key, values in statistics.items():
                    values[number] = member.statistics[key]
                member = next(given, None)
        header = {
            "format": FORMAT, "names": list(names), "speakers": speakers, "digests": digests, "note": note, "made": made or {},
            "features": None if spec is None else spec.to_json(), "groups": [list(group) for group in groups],
            "statistics": sorted(statistics),
        }  # fmt: skip
        shapes: dict[str, tuple[Any, Sequence[int]]] = {
            "codebooks": (kept, (count, clusters, dim)), "norms": (np.float32, norms.shape),
            **{f"statistics.{key}": (np.float32, values.shape) for key, values in statistics.items()},
        }  # fmt: skip
        stack = np.memmap(part, kept, "r", shape=(count, clusters, dim))
        write_in_parts(path, shapes, header, [*stack, norms, *statistics.values()])
    finally:
        part.unlink(missing_ok=True)


def read_fleet(path: str | Path) -> Fleet:
    """Open a fleet; its centroids stay in the file until they are looked at.

    Raises:
        InputError: the file isn't whole, or none of ours.
    """
    path = Path(path)
    tensors, header = map_tensors(path, FORMAT)
    listed = {name: read_field(path, header, name, LIST) for name in ("names", "speakers", "digests", "groups", "statistics")}
    features = read_field(path, header, "features", OBJECT.or_null())
    note = read_field(path, header, "note", TEXT)
    with naming(path):
        for name in ("codebooks", "norms", *(f"statistics.{key}" for key in listed["statistics"])):
            if name not in tensors:
                raise InputError(f"it lacks its {name}: it is not whole; make it again")
        return Fleet(
            codebooks=tensors["codebooks"],
            norms=np.array(tensors["norms"]),
            names=_texts(listed["names"], "names"),
            speakers=tuple(_texts(item, "speakers") for item in listed["speakers"]),
            digests=_texts(listed["digests"], "digests"),
            spec=None if features is None else FeatureSpec.from_json(features),
            groups=tuple(_pair(item) for item in listed["groups"]),
            statistics={key: np.array(tensors[f"statistics.{key}"], np.float32) for key in listed["statistics"]},
            note=note,
        )


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise InputError(f"its {name} hold {value!r:.60}: lists of text are needed; make it again")
    return tuple(value)


def _pair(value: Any) -> tuple[int, int]:
    if not (isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)):
        raise InputError(f"its groups hold {value!r}: pairs of whole numbers are needed; make it again")
    return value[0], value[1]


def _padded(member: Member, clusters: int, dim: int, kept: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return centroids as they are kept, with zeros behind them, and without."""
    centroids = member.centroids
    if centroids.ndim != 2 or centroids.shape[1] != dim or not 1 <= len(centroids) <= clusters:
        raise InputError(
            f"the codebook {member.name} has the shape {centroids.shape}, but up to {clusters} centroids of {dim} values go into "
            "this fleet: leave it out, or put such ones into a fleet of their own"
        )
    with np.errstate(over="ignore"):
        own = centroids.astype(kept)
    with np.errstate(over="ignore"):
        fits = np.isfinite(np.square(own, dtype=np.float64).sum(axis=1).astype(np.float32)).all()
    if not fits:
        raise InputError(f"the codebook {member.name} has centroids that aren't finite as {kept}: leave it out, or fit it again")
    padded = np.zeros((clusters, dim), kept)
    padded[: len(own)] = own
    return padded, own


def _are_norms(fleet: Fleet) -> bool:
    """Tell whether the norms of a row of some codebooks are theirs."""
    some = np.unique(np.linspace(0, len(fleet) - 1, _SAMPLED).astype(int))
    for codebook in some.tolist():
        row = np.asarray(fleet.codebooks[codebook, 0], np.float64)
        for number, (first, last) in enumerate(fleet.groups):
            square = float(np.square(row[first:last]).sum())
            if not abs(float(fleet.norms[codebook, number, 0]) - square) <= 1e-6 * square + 1e-30:
                return False
    return True


def _nearest(frames: Frames, centroids: Frames, norms: NDArray[np.float32]) -> Tokens:
    """Return the nearest centroid of each frame: in float32 where a bound on its error leaves no doubt, else in float64."""
    out = np.empty(len(frames), np.int32)
    longest = float(np.max(norms, initial=0.0, where=np.isfinite(norms)))
    products = (centroids.shape[1] + 2) * _UNIT
    columns = centroids.T
    rows = max(1, _SCORES // len(norms))
    for at in range(0, len(frames), rows):
        own = frames[at : at + rows]
        lengths = np.sqrt(np.square(own, dtype=np.float64).sum(axis=1) * longest)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = norms - 2 * (own @ columns)
        # Of products, of the norms' rounding, and of the difference (Higham 2002, section 3.1), each way.
        error = 2.02 * (2 * products * lengths + _UNIT * (2 * longest + 4 * lengths)) + np.finfo(np.float32).tiny
        best = scores.argmin(axis=1)
        least = scores[np.arange(len(own)), best]
        near = ~(scores > (least + error)[:, None]) | ~np.isfinite(least)[:, None]  # what isn't a number is in doubt
        out[at : at + rows] = best
        for row in np.flatnonzero((near.sum(axis=1) > 1) | ~np.isfinite(least)).tolist():
            among = np.flatnonzero(near[row] & np.isfinite(norms))
            differences = centroids[among].astype(np.float64) - own[row]
            out[at + row] = among[np.einsum("ij,ij->i", differences, differences).argmin()]
    return out
