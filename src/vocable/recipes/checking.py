"""Labels checked against what lies beside them, or what they are said to belong to; and what a folder lacks."""

from __future__ import annotations

from pathlib import Path

from vocable.artefacts.headers import read_header
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.clustering.codebook import read_codebook
from vocable.errors import InputError, MismatchError, VocableError
from vocable.features.store import read_lengths
from vocable.recipes.companion_manifest import manifest_beside
from vocable.recipes.dumped import frame_names, stores_in
from vocable.units.label_files import SUFFIXES, open_units
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
    manifest = manifest or manifest_beside(labels.with_suffix(""))
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


def check_folder(folder: Path) -> list[VocableError]:
    """Return what is wrong between the files of a folder: shards that are missing, labels of another codebook, or gone."""
    wrong: list[VocableError] = []
    for name in frame_names(folder):
        try:
            stores_in(folder, name)
        except VocableError as error:
            wrong.append(error)
    try:
        _check_preparation(folder)
    except VocableError as error:
        wrong.append(error)
    return wrong


def _check_preparation(folder: Path) -> None:
    """Refuse what `prepare` wrote if its labels are gone, or of another codebook than the one beside them."""
    summary, codebook = folder / "summary.json", folder / "codebook.safetensors"
    try:
        splits = read_header(summary, "vocable.summary/1").get("splits") if summary.is_file() else None
    except InputError:
        return  # somebody else's
    digest = read_codebook(codebook).digest if isinstance(splits, dict) and codebook.is_file() else None
    for name in splits if isinstance(splits, dict) else ():
        forms = [path for path in (folder / f"{name}{suffix}" for suffix in SUFFIXES) if path.is_file()]
        if not forms:
            raise MismatchError(f"{summary} counts labels of {name}, which are not here: run the same command again")
        for labels in forms:
            if digest is not None and open_units(labels)[0].codebook != digest:
                raise MismatchError(f"{labels} was made with another codebook than {codebook.name} beside it: label again")


def read_rows_of(manifest: Path, header: UnitsHeader) -> Manifest:
    """Read the manifest of labels; lengths in a .tsv count at the rate that the labels' frames were made at."""
    return read_manifest(manifest, header.features.get("sample_rate", 16000))
