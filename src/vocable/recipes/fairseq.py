"""fairseq's simple_kmeans, step by step: its files, its order of arguments, its shards; without its traps."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vocable.artefacts.writing import write_text
from vocable.audio.blocks import shard_bounds
from vocable.audio.decoding import count_samples, extension_of, file_state, resampled_length
from vocable.audio.faults import AudioFault, Skipped, require_none
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import read_manifest
from vocable.audio.scan import check_name, find_audio
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine
from vocable.features.encoder_layer import EncoderFile
from vocable.features.extractors import Mfcc
from vocable.features.pipeline import FramePipeline
from vocable.features.store import StoredFrames
from vocable.recipes.dumped import origin_of, require_frames
from vocable.recipes.feature_dump import Dumped, dump_frames
from vocable.recipes.fitting import FitSettings, fit_on_store
from vocable.recipes.stored_labels import label_stores
from vocable.recipes.workplace import open_workplace
from vocable.units.dictionary import write_dictionary
from vocable.units.label_files import open_units, text_writer
from vocable.units.units import MOST_CLUSTERS

_LENGTH_TOLERANCE = 160  # samples, of the reader that the original's dumpers share


@dataclass(frozen=True)
class WrittenManifests:
    """What `write_manifests` wrote."""

    rows: dict[Path, int]
    leftover: Path | None
    """A manifest of an earlier split, whose rows are in the new one too."""
    skipped: list[Skipped]


def write_manifests(
    root: Path, dest: Path, ext: str = "flac", valid_percent: float = 0.01, seed: int = 42, path_must_contain: str | None = None
) -> WrittenManifests:
    """Write `train.tsv` and `valid.tsv` as wav2vec_manifest.py does, but in a fixed order of files.

    Lengths are at each file's own rate. Each file that is kept draws once from Python's generator, as there. A `dest` that
    ends in .tsv is taken for the file itself, which a widely read tutorial means.

    Args:
        root: folder to search.
        dest: folder for the manifests, or a .tsv file.
        ext: file name ending, one, in its exact case.
        valid_percent: a fraction from 0 to 1.
        seed: of the draws.
        path_must_contain: text that a file's real path must contain.

    Raises:
        InputError: a fraction that isn't one, or no such folder, or no such files in it.
    """
    ext = ext.removeprefix(".")
    if not 0 <= valid_percent <= 1:
        raise InputError(f"--valid-percent {valid_percent} is not between 0 and 1: it is a fraction, 0.01 for one in a hundred")
    top = os.path.realpath(root)
    found, skipped = find_audio(Path(top), [ext])
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "valid": []}
    draw = random.Random(seed)
    for path in found:
        real = os.path.realpath(os.path.join(top, path))
        if not path.endswith("." + ext) or (path_must_contain and path_must_contain not in real):
            continue
        try:
            check_name(os.path.relpath(real, top))
            samples = count_samples(real)[0]
        except AudioFault as fault:
            skipped.append(Skipped.of(path, fault))
            continue
        part = "train" if draw.random() > valid_percent or valid_percent == 0 else "valid"
        rows[part].append((os.path.relpath(real, top), samples))
    if not any(rows.values()):
        raise InputError(f"{root} has no usable *.{ext} file: {_what_else(top, skipped)}")
    if dest.suffix == ".tsv":
        targets = {"train": dest, "valid": dest.with_name("valid.tsv")}
    else:
        targets = {name: dest / f"{name}.tsv" for name in rows}
    if valid_percent == 0:
        del targets["valid"]
    for name, target in targets.items():
        write_text(target, "".join([f"{top}\n", *(f"{path}\t{samples}\n" for path, samples in rows[name])]))
    old = targets["train"].with_name("valid.tsv")
    leftover = old if old not in targets.values() and old.exists() else None
    return WrittenManifests({target: len(rows[name]) for name, target in targets.items()}, leftover, skipped)


def _what_else(top: str, skipped: list[Skipped]) -> str:
    """Return what to do about a folder in which nothing was found."""
    if skipped:
        return f"{len(skipped)} can't be read, the first of them {skipped[0].path}: {skipped[0].detail}"
    others = Counter(extension_of(path) for path in find_audio(Path(top))[0])
    if not others:
        return "give another folder"
    kinds = ", ".join(f"{count} .{name}" for name, count in others.most_common())
    return f"there are {kinds}: give --ext {others.most_common()[0][0]}"


def dump_mfcc(
    tsv_dir: Path,
    split: str,
    nshard: int,
    rank: int,
    feat_dir: Path,
    engine: Engine,
    sample_rate: int,
    warn: Callable[[str], None],
) -> Dumped:
    """Write `{split}_{rank}_{nshard}.npy` and `.len` with the MFCCs of a shard of `{split}.tsv`; what stood there is replaced.

    Raises:
        InputError: a file can't be used: features must line up with the manifest's rows.
    """
    pipeline = FramePipeline(Mfcc(sample_rate).spec, lenient=True)
    return _dump(tsv_dir, split, nshard, rank, feat_dir, pipeline, engine, warn)


def dump_hubert(
    tsv_dir: Path,
    split: str,
    encoder: EncoderFile,
    layer: int,
    nshard: int,
    rank: int,
    feat_dir: Path,
    engine: Engine,
    max_chunk: int,
    warn: Callable[[str], None],
) -> Dumped:
    """Write `{split}_{rank}_{nshard}.npy` and `.len` with a layer's frames of a shard of `{split}.tsv`.

    Long audio goes through in chunks as there: a frame is lost at each of their ends. A rest too short for a frame, at which the
    original fails, has none.

    Raises:
        InputError: a file can't be used, or the encoder has no such layer.
    """
    if max_chunk < _FRAME_SAMPLES:
        raise InputError(f"--max-chunk {max_chunk}: a frame takes {_FRAME_SAMPLES} samples; give at least as many")
    pipeline = FramePipeline(encoder.spec(layer, chunking=f"fairseq:{max_chunk}"), lenient=True, encoder=encoder)
    return _dump(tsv_dir, split, nshard, rank, feat_dir, pipeline, engine, warn)


_FRAME_SAMPLES = 400


def _dump(
    tsv_dir: Path,
    split: str,
    nshard: int,
    rank: int,
    feat_dir: Path,
    pipeline: FramePipeline,
    engine: Engine,
    warn: Callable[[str], None],
) -> Dumped:
    sample_rate = pipeline.base.sample_rate
    manifest = read_manifest(tsv_dir / f"{split}.tsv", sample_rate)
    if not len(manifest):
        raise InputError(f"{tsv_dir / f'{split}.tsv'} has no rows: list some audio in it")
    first, last = shard_bounds(len(manifest), nshard, rank)
    rows = [_looked_up(manifest, row, sample_rate, warn) for row in range(first, last)]
    shard = Manifest.of(rows, manifest.root, sample_rate)
    npy = feat_dir / f"{split}_{rank}_{nshard}.npy"
    return dump_frames(shard, pipeline, engine, npy, open_workplace(feat_dir), _require_all, manifest, overwrite=True)


def _require_all(skipped: list[Skipped]) -> None:
    require_none(skipped, remedy="features must line up with the manifest's rows, so mend the file or remove its row")


def shards_of(feat_dir: Path, split: str, nshard: int) -> list[StoredFrames]:
    """Open all shards of dumped features.

    Raises:
        InputError: names the first that is missing.
    """
    paths = _all_shards(feat_dir, split, nshard, "npy", "dump")
    return require_frames(feat_dir, [StoredFrames(path) for path in paths])


def learn_kmeans(feat_dir: Path, split: str, nshard: int, km_path: Path, settings: FitSettings, engine: Engine) -> Codebook:
    """Fit k-means to dumped features and write our codebook to exactly `km_path`, whatever its suffix."""
    if km_path.is_dir():
        raise InputError(f"{km_path} is a folder: give the path of the codebook to write, such as {km_path / 'km.safetensors'}")
    stores = shards_of(feat_dir, split, nshard)
    made = fit_on_store(stores, settings, engine, open_workplace(km_path.parent))
    made.codebook.write(km_path)
    made.forget_passes()
    return made.codebook


def dump_km_label(
    feat_dir: Path, split: str, km_path: Path, nshard: int, rank: int, lab_dir: Path, engine: Engine
) -> tuple[Path, int]:
    """Label the dumped features of a shard, write `{split}_{rank}_{nshard}.km`, and return it and its number of lines."""
    shard_bounds(nshard, nshard, rank)
    name = f"{split}_{rank}_{nshard}"
    store = StoredFrames(feat_dir / f"{name}.npy")
    origin = origin_of(store.path)
    labels = label_stores([store], [origin], read_codebook(km_path), engine, open_workplace(lab_dir))
    target = lab_dir / f"{name}.km"
    header = replace(labels.header(None), manifest=origin.manifest, whole=origin.whole, whole_rows=origin.whole_rows)
    with text_writer(target, header) as write:
        for units in labels.sequences():
            write(units)
    return target, len(store)


def merge_labels(lab_dir: Path, split: str, nshard: int) -> tuple[Path, int]:
    """Join the labels of all shards into `{split}.km`; return it and its number of lines.

    Raises:
        InputError: a shard is missing.
        MismatchError: the shards were made with different codebooks, or are of different manifests.
    """
    paths = _all_shards(lab_dir, split, nshard, "km", "label")
    opened = [open_units(path) for path in paths]
    first = opened[0][0]
    for path, (header, _) in zip(paths, opened, strict=True):
        if (header.codebook, header.clusters, header.rate) != (first.codebook, first.clusters, first.rate):
            raise MismatchError(f"{path} was made with another codebook than {paths[0]}: label all shards with one")
        if (header.whole, header.whole_rows) != (first.whole, first.whole_rows):
            raise MismatchError(f"{path} and {paths[0]} are shards of different manifests: dump and label all shards of one")
    target, lines = lab_dir / f"{split}.km", sum(map(_count_lines, paths))
    complete = lines == first.whole_rows  # where rows had to be left out, the manifest is one that nobody has written
    with text_writer(target, replace(first, manifest=first.whole if complete else None, whole=None, whole_rows=None)) as write:
        for _, sequences in opened:
            for units in sequences:
                write(units)
    return target, lines


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def write_dictionary_of(n_clusters: int, lab_dir: Path) -> Path:
    """Write `dict.km.txt` with the units 0 … n_clusters - 1, and return it; one that stands there is replaced.

    Raises:
        InputError: none, or more than labels can tell apart.
        MismatchError: labels in the folder were made with another number of clusters.
    """
    if n_clusters < 1:
        raise InputError(
            f"a dictionary of {n_clusters} units is empty, and every label would be unknown: give the number of clusters"
        )
    if n_clusters > MOST_CLUSTERS:
        raise InputError(f"a dictionary of {n_clusters} units: labels tell no more than {MOST_CLUSTERS:,} apart")
    for labels in sorted(lab_dir.glob("*.km")):
        clusters = open_units(labels)[0].clusters
        if clusters is not None and clusters != n_clusters:
            remedy = f"'vocable fairseq dictionary {clusters} {lab_dir}' writes what it needs"
            raise MismatchError(f"{labels} was made with {clusters} clusters, not {n_clusters}: {remedy}")
    write_dictionary(lab_dir / "dict.km.txt", n_clusters)
    return lab_dir / "dict.km.txt"


def labels_dictionary(prefixes: list[Path], dest: Path) -> tuple[Path, int]:
    """Write `dict.km.txt` for the labels `{prefix}.km` of all splits, with the units in order; return it and their number."""
    clusters = 0
    for prefix in prefixes:
        header, sequences = open_units(prefix.with_name(prefix.name + ".km"))
        largest = max((int(units.max()) for units in sequences if len(units)), default=-1)
        clusters = max(clusters, header.clusters or 0, largest + 1)
    if not clusters:
        raise InputError(f"{prefixes[0]}.km holds no units, so it has no dictionary")
    write_dictionary(dest / "dict.km.txt", clusters)
    return dest / "dict.km.txt", clusters


def _all_shards(folder: Path, split: str, nshard: int, suffix: str, verb: str) -> list[Path]:
    """Return the paths of all shards, if all are there."""
    if nshard < 1:
        raise InputError(f"{nshard} shards hold nothing: give the number of shards that were made")
    paths = [folder / f"{split}_{rank}_{nshard}.{suffix}" for rank in range(nshard)]
    for rank, path in enumerate(paths):
        if not path.is_file():
            raise InputError(f"{path} doesn't exist: {verb} shard {rank} of {nshard} first; nothing was written")
    return paths


def _looked_up(manifest: Manifest, row: int, sample_rate: int, warn: Callable[[str], None]) -> Utterance:
    """Return a row with the length its file really has at `sample_rate`."""
    item = manifest[row]
    path = manifest.where(item)
    try:
        counted, rate = count_samples(path)
    except AudioFault as fault:
        raise InputError(
            f"row {row + 1} of the manifest, {item.path}: {fault}; "
            "features must line up with the manifest, so remove the row or mend the file"
        ) from fault
    samples = resampled_length(counted, rate, sample_rate)
    if abs(samples - item.samples) > _LENGTH_TOLERANCE:
        warn(f"{item.path} has {samples} samples at {sample_rate} Hz, the manifest says {item.samples}")
    return replace(item, samples=samples, state=file_state(path))
