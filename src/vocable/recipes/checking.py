"""A label file checked against what lies beside it, or what it is said to belong to."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.features.store import read_lengths
from vocable.units.label_files import open_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, UnitsHeader


def check_file(
    labels: Path,
    manifest: Path | None = None,
    dictionary: Path | None = None,
    lengths: Path | None = None,
    rate: float | None = None,
) -> list[str]:
    """Check a label file, and say what it fits and what could not be checked.

    Args:
        labels: of any form.
        manifest: by default the one of the same name beside them, if there is one.
        dictionary: by default `dict.km.txt` beside them, if there is one.
        lengths: a `.len` file.
        rate: labels per second that the training will assume.

    Raises:
        MismatchError: says what doesn't fit and what to do.
    """
    header, sequences = open_units(labels)
    return check_surveyed(labels, header, Survey.of(sequences, header.clusters), manifest, dictionary, lengths, rate)


def check_surveyed(
    labels: Path,
    header: UnitsHeader,
    survey: Survey,
    manifest: Path | None = None,
    dictionary: Path | None = None,
    lengths: Path | None = None,
    rate: float | None = None,
) -> list[str]:
    """Check labels that were gone through already, as `check_file` does."""
    manifest = manifest or manifest_beside(labels)
    common = labels.with_name("dict.km.txt")
    dictionary = dictionary or (common if common.exists() else None)
    notes = check_labels(
        labels.name,
        header,
        survey,
        None if manifest is None else read_rows_of(manifest, header),
        dictionary,
        None if lengths is None else read_lengths(lengths),
        rate,
    )
    fits = [str(item) for item in (manifest, dictionary, lengths) if item is not None]
    if rate is not None and header.rate is not None:
        fits.append(f"{rate:g} labels a second")
    return [f"{labels.name} fits {', '.join(fits)}" if fits else f"{labels.name} is whole", *notes]


def manifest_beside(labels: Path) -> Path | None:
    """Return the manifest of the same name beside labels, if there is one."""
    return next((path for path in (labels.with_suffix(".tsv"), labels.with_suffix(".csv")) if path.exists()), None)


def read_rows_of(manifest: Path, header: UnitsHeader) -> Manifest:
    """Read the manifest of labels; lengths in a .tsv count at the rate that the labels' frames were made at."""
    return read_manifest(manifest, header.features.get("sample_rate", 16000))
