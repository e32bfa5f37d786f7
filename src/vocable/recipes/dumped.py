"""Frames that were dumped, by whomever: which there are, and what files beside them say of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, read_header
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.errors import InputError, MismatchError
from vocable.features.normalization import Normalization
from vocable.features.store import StoredFrames

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


def origin_of(npy: Path) -> Origin:
    """Read where dumped frames come from.

    Raises:
        InputError: the header beside them is broken.
    """
    header = read_origin(npy)
    if header is None:
        return Origin()
    known = header["normalization"]
    corpus = None if known["corpus"] is None else tuple(np.array(values, dtype=np.float32) for values in known["corpus"])
    spec = FeatureSpec.from_json(header["features"])
    normalization = Normalization(known["scope"], corpus)  # type: ignore[arg-type]
    return Origin(spec, normalization, header["manifest"], header["whole"])


def rows_of(npy: Path, origin: Origin) -> Manifest | None:
    """Read the manifest that lies beside dumped frames, or None if there is none, or none that belongs to them for certain.

    Raises:
        MismatchError: it was changed since.
    """
    beside = [path for path in (npy.with_suffix(".tsv"), npy.with_suffix(".csv")) if path.exists()]
    if not beside or origin.spec is None:
        return None
    rows = read_manifest(beside[0], origin.spec.sample_rate)
    if rows.digest != origin.manifest:
        raise MismatchError(f"{beside[0]} is not the manifest that {npy.name} was made for: dump the frames again")
    return rows


def require_one_manifest(stores: Iterable[StoredFrames], origins: Iterable[Origin]) -> None:
    """Refuse shards of different manifests.

    Raises:
        MismatchError: names two of them.
    """
    known = [(store.path, origin.whole) for store, origin in zip(stores, origins, strict=True) if origin.whole is not None]
    for path, whole in known[1:]:
        if whole != known[0][1]:
            raise MismatchError(f"{known[0][0]} and {path} are shards of different manifests: dump all shards of one")


def read_origin(npy: Path) -> Header | None:
    """Read the header beside dumped frames, or None if they have none."""
    path = npy.with_suffix(".json")
    return read_header(path, FORMAT) if path.exists() else None


def stores_in(folder: Path, name: str | None = None) -> tuple[str, list[StoredFrames]]:
    """Return the name and the shards `name_RANK_NSHARD.npy` of a folder in order of rank; an empty list if there are none.

    Args:
        folder: to look in.
        name: which frames; may be left out where there is only one name.

    Raises:
        InputError: a shard is missing, there are shards of several numbers, or frames of other names only.
    """
    found: dict[str, dict[int, dict[int, Path]]] = {}
    for path in folder.glob("*_*_*.npy"):
        if match := _SHARD.fullmatch(path.stem):
            found.setdefault(match["name"], {}).setdefault(int(match["of"]), {})[int(match["rank"])] = path
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


def require_frames(folder: Path, stores: Iterable[StoredFrames]) -> list[StoredFrames]:
    """Refuse stores without a single utterance.

    Raises:
        InputError: there is none in all of them.
    """
    found = list(stores)
    if not any(map(len, found)):
        raise InputError(f"{folder} holds dumped frames of no utterance: dump them again from a manifest that has rows")
    return found
