"""One form of an artefact to another: codebooks, labels, manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vocable.artefacts.tensors import is_safetensors
from vocable.artefacts.writing import replacing
from vocable.audio.manifest_files import is_manifest, read_manifest, write_manifest
from vocable.checkpoints.layouts import WrittenLayout, folder_layout, hub_name
from vocable.checkpoints.torch_magic import is_torch_file
from vocable.clustering.codebook import read_codebook
from vocable.errors import InputError
from vocable.models.config import WaveformNormalization
from vocable.recipes.checking import read_rows_of
from vocable.recipes.companion_manifest import manifest_beside
from vocable.recipes.corpus import CorpusSettings
from vocable.units.label_files import SUFFIXES, open_units, read_units, text_writer, write_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey


def convert(
    source: Path, target: Path, manifest: Path | None = None, sample_rate: int | None = None, overwrite: bool = False
) -> str:
    """Convert a file to the form that the target's suffix names, and say what was done.

    Codebooks: safetensors, `.npy`, scikit-learn's pickles and joblib files (read only). Labels: `.km`, `.units`, `.rle`.
    Manifests: `.tsv`, `.scp`, `.csv`, `.jsonl`, `.parquet`.

    Args:
        source: read by its content, labels and manifests by their suffix.
        target: written whole or not at all.
        manifest: whose utterance ids labels get that don't hold them.
        sample_rate: Hz in which a manifest counts, 16000 by default.
        overwrite: replace the target.

    Raises:
        InputError: there is no such conversion, or the target is there.
    """
    CorpusSettings(sample_rate=sample_rate or 16000)  # says what is wrong with the rate
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: give another name, or --overwrite")
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "doesn't exist"
        raise InputError(f"{source} {what}: give the file to convert")
    if target.suffix in SUFFIXES and source.suffix not in SUFFIXES:
        raise InputError(f"{source} is no label file, which end in {', '.join(SUFFIXES)}, and can't become {target.suffix}")
    of_labels = source.suffix in SUFFIXES
    _refuse_idle(manifest, sample_rate, of_labels and target.suffix == ".units", not of_labels and is_manifest(source))
    if of_labels:
        return _labels(source, target, manifest)
    if is_manifest(source):
        found = read_manifest(source, sample_rate or 16000)
        write_manifest(target, found)
        return f"{len(found):,} utterances"
    return _codebook(source, target)


def is_encoder(source: str) -> bool:
    """Tell whether what is to be converted is an encoder: a folder of one, a file of torch's, or a name of the Hub."""
    path = Path(source)
    if path.is_dir():
        return folder_layout(path) is not None
    if path.is_file():
        return path.suffix != ".npz" and is_torch_file(path)
    return not path.suffix and hub_name(source) is not None


def convert_encoder(
    source: str,
    target: Path,
    to: WrittenLayout,
    normalization: WaveformNormalization | None,
    mean_std: Path | None,
    overwrite: bool,
) -> str:
    """Write an encoder in another layout, and say what it is.

    Args:
        source: as `read_encoder` takes it.
        target: a folder, or a file for fairseq's and MelHuBERT's layouts.
        to: the layout.
        normalization: of waveforms, in place of what the checkpoint says.
        mean_std: statistics that a checkpoint of MelHuBERT's authors' code goes with.
        overwrite: replace the target.

    Raises:
        InputError: no such encoder, the target stands already, or the layout has no such encoder.
    """
    from vocable.checkpoints.encoders import read_encoder, write_encoder
    from vocable.checkpoints.melhubert_encoder import mean_std_beside

    found = read_encoder(source, normalization, mean_std)
    write_encoder(found, target, to, overwrite)
    lost = sorted(set(found.heads) - set(read_encoder(target).heads))
    without = f"; {', '.join(lost)}: has no place there" if lost else ""
    if to == "melhubert":
        without += f"; the statistics it takes are in {mean_std_beside(target)}"
    return f"{found.config.family}, {found.config.layers} layers of {found.config.dim}, digest {found.digest[:12]}{without}"


def _labels(source: Path, target: Path, manifest: Path | None) -> str:
    if target.suffix not in SUFFIXES:
        raise InputError(f"{target}: the name of a label file ends in {', '.join(SUFFIXES)}")
    if target.suffix == ".units":
        units = read_units(source)
        if units.ids is None:
            beside = manifest or manifest_beside(source.with_suffix(""))
            if beside is None:
                raise InputError(f"{source} doesn't hold utterance ids, which {target.suffix} keeps: give --manifest")
            rows = read_rows_of(beside, units.header)
            check_labels(source.name, units.header, Survey.of(units, units.header.clusters), rows)
            units = replace(units, ids=rows.ids)
        write_units(target, units)
        return f"{len(units):,} utterances"
    header, sequences = open_units(source)
    count = 0
    with text_writer(target, header) as write:
        for sequence in sequences:
            write(sequence)
            count += 1
    return f"{count:,} utterances"


def _refuse_idle(manifest: Path | None, sample_rate: int | None, ids: bool, lengths: bool) -> None:
    """Refuse options that this conversion has no use for."""
    if manifest is not None and not ids:
        raise InputError("--manifest is for labels that become .units: leave it out")
    if sample_rate is not None and not lengths:
        raise InputError("--sample-rate is for manifests: leave it out")


def _codebook(source: Path, target: Path) -> str:
    codebook = read_codebook(source)
    if target.suffix == ".safetensors":
        codebook.write(target)
    elif target.suffix == ".npy":
        with replacing(target) as file:
            np.save(file, codebook.centroids)
    else:
        raise InputError(f"{target}: a codebook is written as .safetensors or .npy")
    lost = " (what frames it is for is lost)" if target.suffix == ".npy" and is_safetensors(source) else ""
    return f"{len(codebook):,} centroids of {codebook.centroids.shape[1]} values{lost}"
