"""The manifest that lies beside labels and frames and says whose they are: what it is called, written and found as.

fairseq's `.tsv` is what trainings read. It holds no ids, so that a `.csv` lies beside it where those aren't the paths'; and it
knows no channels, so that a `.csv` alone lies where single ones were taken.
"""

from __future__ import annotations

from pathlib import Path

from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import keeps_ids, write_manifest

_FORMS = (".tsv", ".csv")


def manifest_files(stem: Path, manifest: Manifest) -> list[Path]:
    """Return the files that hold a manifest beside `STEM.km` or `STEM.npy`."""
    if manifest.channels:
        forms: tuple[str, ...] = (".csv",)
    else:
        forms = (".tsv",) if keeps_ids(manifest) else _FORMS
    return [_named(stem, form) for form in forms]


def possible_manifest_files(stem: Path) -> list[Path]:
    """Return the files that hold some manifest beside `STEM.km` or `STEM.npy`."""
    return [_named(stem, form) for form in _FORMS]


def write_manifest_beside(stem: Path, manifest: Manifest) -> None:
    """Write a manifest beside `STEM.km` or `STEM.npy`, in the forms it takes."""
    for path in manifest_files(stem, manifest):
        write_manifest(path, manifest)


def manifest_beside(stem: Path) -> Path | None:
    """Return the manifest beside `STEM.km` or `STEM.npy`, in the form that holds most, or None if there is none."""
    return next((path for path in reversed(possible_manifest_files(stem)) if path.exists()), None)


def _named(stem: Path, form: str) -> Path:
    return stem.with_name(stem.name + form)
