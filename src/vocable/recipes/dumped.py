"""Frames that were dumped, by whomever: which there are, and what files beside them say of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import NUMBER, OBJECT, TEXT, Header, Kind, naming, read_field, read_header, whole
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import keeps_ids, numbered_ids, read_manifest
from vocable.errors import InputError, MismatchError
from vocable.features.normalization import Moments, Normalization, digest_of_speakers
from vocable.features.speaker_statistics import read_speakers
from vocable.features.store import StoredFrames
from vocable.recipes.companion_manifest import manifest_beside

FORMAT = "vocable.frames/1"

_SHARD = re.compile(r"(?P<name>.+)_(?P<rank>\d+)_(?P<of>\d+)")


@dataclass(frozen=True)
class Origin:
    """What dumped frames are, as far as files beside them say."""

    spec: FeatureSpec | None = None
    normalization: Normalization = field(default_factory=Normalization)
    manifest: str | None = None
    """Digest of the rows that have frames."""
    whole: str | None = None
    """Digest of the manifest of which these are a shard."""
    whole_rows: int | None = None
    """Its number of rows."""
    frames: int | None = None
    skipped: tuple[Skipped, ...] = ()
    """The rows of the shard that have none."""
    speakers: str | None = None
    """Digest of the statistics of all speakers, where frames are normalised by them; older dumps don't say it."""

    def to_json(self) -> Header:
        """Return the header to write beside the frames."""
        assert self.spec is not None
        corpus = self.normalization.corpus
        return {
            "format": FORMAT,
            "features": self.spec.to_json(),
            "normalization": {
                "scope": self.normalization.scope,
                "corpus": None if corpus is None else [values.tolist() for values in corpus],
                "speakers": self.speakers,
            },
            "manifest": self.manifest,
            "whole": self.whole,
            "whole_rows": self.whole_rows,
            "frames": self.frames,
            "skipped": [[item.path, item.reason, item.detail] for item in self.skipped],
        }


def origin_of(npy: Path) -> Origin:
    """Read where dumped frames come from; nothing is known of those without a header.

    Raises:
        InputError: the header beside them is broken.
    """
    path = npy.with_suffix(".json")
    if not path.exists():
        return Origin()
    header = read_header(path, FORMAT)
    with naming(path):
        spec = FeatureSpec.from_json(read_field("it", header, "features", OBJECT))
        known = read_field("it", header, "normalization", OBJECT)
        normalized: Header = {"speakers": None, **known}  # older dumps lack this one
        normalization = _normalization(normalized, spec)
        return Origin(
            spec,
            normalization,
            read_field("it", header, "manifest", TEXT),
            read_field("it", header, "whole", TEXT),
            read_field("it", header, "whole_rows", whole(0)),
            read_field("it", header, "frames", whole(0)),
            tuple(Skipped(*item) for item in read_field("it", header, "skipped", _SKIPPED)),
            read_field("it", normalized, "speakers", TEXT.or_null()),
        )


def _normalization(known: Header, spec: FeatureSpec) -> Normalization:
    values = read_field("it", known, "corpus", _STATISTICS.or_null())
    corpus = None if values is None else (np.array(values[0], dtype=np.float32), np.array(values[1], dtype=np.float32))
    made = Normalization(read_field("it", known, "scope", TEXT), corpus)  # type: ignore[arg-type]
    if made.name != spec.frame_normalization:
        raise InputError("its normalisation is another than its frames' spec says: dump them again")
    return made


def _is_row(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(item, str) for item in value)


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(NUMBER.accepts(item) for item in value)


_SKIPPED: Kind[list[list[str]]] = Kind(
    "paths with reasons and details", lambda value: isinstance(value, list) and all(map(_is_row, value))
)
_STATISTICS: Kind[list[list[float]]] = Kind(
    "means and deviations",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_vector, value)) and len(value[0]) == len(value[1]),
)


def rows_of(npy: Path, origin: Origin) -> Manifest | None:
    """Read the manifest that lies beside dumped frames, or None if there is none, or none that belongs to them for certain.

    Raises:
        MismatchError: it was changed since.
    """
    beside = manifest_beside(npy.with_suffix(""))
    if beside is None or origin.spec is None:
        return None
    rows = read_manifest(beside, origin.spec.sample_rate)
    if rows.digest != origin.manifest:
        raise MismatchError(f"{beside} is not the manifest that {npy.name} was made for: dump the frames again")
    return rows


def joined_rows(stores: Sequence[StoredFrames], origins: Iterable[Origin]) -> Manifest | None:
    """Return the rows of all shards as one manifest, or None if manifests of ours don't lie beside all of them.

    Raises:
        MismatchError: one of them was changed since.
    """
    found = [rows_of(store.path, origin) for store, origin in zip(stores, origins, strict=True)]
    parts = [part for part in found if part is not None]
    if len(parts) != len(stores) or any(len(part) != len(store) for part, store in zip(parts, stores, strict=True)):
        return None
    root = parts[0].root
    if len({part.root for part in parts}) > 1:  # tables of whole paths among them
        root, parts = "", [replace(part, root="", paths=tuple(map(part.where, part))) for part in parts]
    rows = [row for part in parts for row in part]
    if all(keeps_ids(part) for part in parts):  # a .tsv told them, which numbers repeated rows
        rows = [replace(row, id=name) for row, name in zip(rows, numbered_ids(row.path for row in rows), strict=True)]
    elif len({row.id for row in rows}) != len(rows):
        return None
    return Manifest.of(rows, root, parts[0].sample_rate)


def require_one_manifest(stores: Iterable[StoredFrames], origins: Iterable[Origin]) -> None:
    """Refuse shards of different manifests.

    Raises:
        MismatchError: names two of them.
    """
    known = [(store.path, origin.whole) for store, origin in zip(stores, origins, strict=True) if origin.whole is not None]
    for path, theirs in known[1:]:
        if theirs != known[0][1]:
            raise MismatchError(f"{known[0][0]} and {path} are shards of different manifests: dump all shards of one")


def speakers_file(npy: Path) -> Path:
    """Return where the statistics of the speakers of dumped frames lie that they are normalised by."""
    return npy.with_suffix(".speakers.safetensors")


def joined_normalization(stores: Sequence[StoredFrames], origins: Sequence[Origin]) -> Normalization:
    """Return how the frames of all shards are normalised, with the statistics of all who speak in them.

    Raises:
        MismatchError: shards are normalised by other statistics, or these don't lie beside them.
    """
    whole, digest, folder = origins[0].normalization, origins[0].speakers, stores[0].path.parent
    for store, origin in zip(stores, origins, strict=True):
        if origin.speakers != digest:
            raise MismatchError(
                f"{stores[0].path} and {store.path} are normalised by other statistics of speakers: dump all shards alike"
            )
    if digest is None:
        if whole.by_speaker:
            warnings.warn(
                f"{folder} doesn't hold the statistics of speakers that its frames are normalised by, so that a codebook can't "
                "carry them: dump the frames again",
                stacklevel=2,
            )
        return whole
    speakers: dict[str, Moments] = {}
    for path in (speakers_file(store.path) for store in stores):
        speakers |= read_speakers(path) if path.exists() else {}  # nobody is known in some shards
    if digest_of_speakers(speakers) != digest:
        raise MismatchError(f"{folder} lacks statistics of speakers that its frames are normalised by: dump the frames again")
    return replace(whole, speakers=speakers)


def stores_in(folder: Path, name: str | None = None) -> tuple[str, list[StoredFrames]]:
    """Return the name and the shards `name_RANK_NSHARD.npy` of a folder in order of rank; an empty list if there are none.

    Args:
        folder: to look in.
        name: which frames; may be left out where there is only one name.

    Raises:
        InputError: a shard is missing, there are shards of several numbers, or frames of other names only.
    """
    found = _shards(folder)
    if not found:
        return name or "", []
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        names = ", ".join(sorted(found))
        which = "say which with --name" if name is None else f"not {name}; give another --name"
        raise InputError(f"{folder} holds frames named {names}: {which}")
    if len(found[name]) > 1:
        numbers = " and of ".join(map(str, sorted(found[name])))
        raise InputError(f"{folder} holds shards of {name!r} of {numbers}: keep those of one number")
    nshard, paths = next(iter(found[name].items()))
    missing = [rank for rank in range(nshard) if rank not in paths]
    if missing:
        raise InputError(f"{folder} lacks {name}_{missing[0]}_{nshard}.npy: dump shard {missing[0]} of {nshard} first")
    return name, require_frames(folder, [StoredFrames(paths[rank]) for rank in range(nshard)])


def frame_names(folder: Path) -> list[str]:
    """Return what the dumped frames of a folder are called."""
    return sorted(_shards(folder))


def _shards(folder: Path) -> dict[str, dict[int, dict[int, Path]]]:
    """Return name → number of shards → rank → file."""
    found: dict[str, dict[int, dict[int, Path]]] = {}
    for path in folder.glob("*_*_*.npy"):
        if match := _SHARD.fullmatch(path.stem):
            found.setdefault(match["name"], {}).setdefault(int(match["of"]), {})[int(match["rank"])] = path
    return found


def require_frames(folder: Path, stores: Iterable[StoredFrames]) -> list[StoredFrames]:
    """Refuse stores without a single utterance.

    Raises:
        InputError: there is none in all of them.
    """
    found = list(stores)
    if not any(map(len, found)):
        raise InputError(f"{folder} holds dumped frames of no utterance: dump them again from a manifest that has rows")
    return found
