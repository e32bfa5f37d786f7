"""`vocable inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vocable.audio.manifest_files import read_manifest
from vocable.cli.tables import print_table
from vocable.features.store import read_lengths
from vocable.report.description import Description, describe
from vocable.units.label_files import SUFFIXES, open_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey


def inspect(
    path: Path,
    /,
    *,
    manifest: Path | None = None,
    dictionary: Path | None = None,
    lengths: Path | None = None,
    rate: float | None = None,
    json_: bool = False,
) -> None:
    """Say in words what a file or folder is; with the options, check that labels fit what they are to be used with.

    Labels beside a manifest of the same name, and a dict.km.txt, are checked against them anyway.

    Parameters
    ----------
    path
        Anything that vocable or fairseq's simple_kmeans writes: manifests, frames, codebooks, labels, dictionaries, folders.
    manifest
        The manifest that labels should belong to.
    dictionary
        The dictionary that should have their symbols.
    lengths
        The .len file whose numbers of frames they should have.
    rate
        The label rate that training will assume.
    json_
        Print JSON.
    """
    description = describe(path)
    if json_:
        print(json.dumps(asdict(description), indent=2, default=str))
    else:
        _print(str(path), description)
    labels = (
        [path] if path.suffix in SUFFIXES else [path / name for name, _ in description.parts if Path(name).suffix in SUFFIXES]
    )
    for item in labels:
        for line in _check(item, manifest, dictionary, lengths, rate):
            print(line)


def _check(labels: Path, manifest: Path | None, dictionary: Path | None, lengths: Path | None, rate: float | None) -> list[str]:
    beside, common = labels.with_suffix(".tsv"), labels.with_name("dict.km.txt")
    manifest = manifest or (beside if beside.exists() else None)
    dictionary = dictionary or (common if common.exists() else None)
    header, sequences = open_units(labels)
    notes = check_labels(
        labels.name,
        header,
        Survey.of(sequences, header.clusters),
        None if manifest is None else read_manifest(manifest),
        dictionary,
        None if lengths is None else read_lengths(lengths),
        rate,
    )
    checked = [str(item) for item in (manifest, dictionary, lengths) if item is not None] + (
        [f"{rate:g} a second"] if rate else []
    )
    fits = f"{labels.name} fits {', '.join(checked)}" if checked else f"{labels.name} is whole"
    return [fits, *notes]


def _print(name: str, description: Description) -> None:
    print_table(f"{name}: {description.what}", description.rows)
    for part_name, part in description.parts:
        print_table(f"{part_name}: {part.what}", part.rows)
