"""`vocable inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vocable.cli.tables import print_table
from vocable.errors import InputError, MismatchError, VocableError
from vocable.recipes.checking import check_file, check_folder
from vocable.report.description import Description, describe
from vocable.units.label_files import SUFFIXES


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
        Anything that vocable or fairseq's simple_kmeans writes: manifests, frames, codebooks, labels, dictionaries, folders; and
        checkpoints of encoders, by their name on the Hub, too.
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
    is_labels = path.suffix in SUFFIXES
    if not is_labels and any(item is not None for item in (manifest, dictionary, lengths, rate)):
        raise InputError(f"{path}: --manifest, --dictionary, --lengths and --rate go with one label file, such as train.km")
    description = describe(path)
    if not json_:
        _print(str(path), description)
    labels = [path] if is_labels else [path / name for name, _ in description.parts if Path(name).suffix in SUFFIXES]
    notes: dict[str, list[str]] = {}
    wrong: list[VocableError] = []
    for item in labels:
        try:
            notes[item.name] = check_file(item, manifest, dictionary, lengths, rate)
        except VocableError as error:
            notes[item.name] = [str(error)]
            wrong.append(error)
    if path.is_dir():
        wrong += check_folder(path)
        wrong += [InputError(part.broken) for _, part in description.parts if part.broken]
    if json_:
        print(json.dumps({**asdict(description), "checks": notes}, indent=2, default=str))
    else:
        print("\n".join(line for lines in notes.values() for line in lines if line not in map(str, wrong)))
    if wrong:
        raise MismatchError("; ".join(dict.fromkeys(map(str, wrong))))


def _print(name: str, description: Description) -> None:
    print_table(f"{name}: {description.what}", description.rows)
    for part_name, part in description.parts:
        print_table(f"{part_name}: {part.what}", part.rows)
