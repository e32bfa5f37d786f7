"""`vocable fairseq …`: the commands of fairseq's simple_kmeans, argument for argument."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.audio.faults import write_skipped
from vocable.cli.launching import launch
from vocable.cli.options import Running
from vocable.cli.tables import report_skipped, shown
from vocable.errors import InputError
from vocable.execution.engine import Engine
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.models.config import WaveformNormalization
from vocable.recipes import fairseq
from vocable.recipes.fitting import FitSettings


def wav2vec_manifest(
    root: Path,
    /,
    *,
    valid_percent: float = 0.01,
    dest: Path = Path(),
    ext: str = "flac",
    seed: int = 42,
    path_must_contain: str | None = None,
) -> None:
    """Write train.tsv and valid.tsv: the root, then a path and a number of samples a line.

    Files come in sorted order, so that a seed gives the same split everywhere.

    Parameters
    ----------
    root
        Folder to search for audio.
    valid_percent
        Part of the files for valid: a fraction from 0 to 1, despite its name.
    dest
        Folder for the manifests. If it ends in .tsv, that file is written.
    ext
        File name ending.
    seed
        Of the split.
    path_must_contain
        Take only files whose real path contains this text.
    """
    made = fairseq.write_manifests(root, dest, ext, valid_percent, seed, path_must_contain)
    if dest.suffix == ".tsv":
        print("--dest ends in .tsv: taken for the manifest itself, not for a folder of that name")
    for path, count in made.rows.items():
        print(f"{path}: {count:,} utterances")
    if made.leftover is not None:
        _warn(f"{made.leftover} is of an earlier split, and its files are in the new train.tsv too: remove it")
    if made.skipped:
        record = (dest.parent if dest.suffix == ".tsv" else dest) / "skipped.jsonl"
        write_skipped(record, made.skipped)
        report_skipped(made.skipped, record)


def dump_mfcc_feature(
    tsv_dir: Path,
    split: str,
    nshard: int,
    rank: int,
    feat_dir: Path,
    /,
    *,
    sample_rate: int = 16000,
    running: Running = Running(),
) -> None:
    """Write {split}_{rank}_{nshard}.npy and .len with 39 MFCCs every 10 ms.

    Parameters
    ----------
    tsv_dir
        Folder of {split}.tsv.
    split
        Name of the manifest.
    nshard
        Number of shards.
    rank
        Which shard, from 0.
    feat_dir
        Folder for the features.
    sample_rate
        Hz; audio at other rates is converted.
    """
    with Engine(running.work()) as engine:
        made = fairseq.dump_mfcc(tsv_dir, split, nshard, rank, feat_dir, engine, sample_rate, _warn)
    print(f"{made.npy}: {made.utterances:,} utterances, {made.frames:,} frames")


def dump_hubert_feature(
    tsv_dir: Path,
    split: str,
    ckpt_path: str,
    layer: int,
    nshard: int,
    rank: int,
    feat_dir: Path,
    /,
    *,
    max_chunk: int = 1_600_000,
    precision: Precision = "float32",
    waveform_normalization: WaveformNormalization | None = None,
    running: Running = Running(),
) -> None:
    """Write {split}_{rank}_{nshard}.npy and .len with frames of a layer of HuBERT.

    Parameters
    ----------
    tsv_dir
        Folder of {split}.tsv.
    split
        Name of the manifest.
    ckpt_path
        The checkpoint; wav2vec 2.0 and WavLM and other tools' files are taken, too.
    layer
        From 1; a layer that doesn't exist is an error.
    nshard
        Number of shards.
    rank
        Which shard, from 0.
    feat_dir
        Folder for the features.
    max_chunk
        Samples that go through the model at once.
    precision
        bfloat16 is faster where the device is; auto takes it there.
    waveform_normalization
        In place of what the checkpoint says.
    """
    work = running.work()
    encoder = EncoderFile(ckpt_path, waveform_normalization, resolved_precision(precision, work.devices[0]))
    with Engine(work) as engine:
        made = fairseq.dump_hubert(tsv_dir, split, encoder, layer, nshard, rank, feat_dir, engine, max_chunk, _warn)
    print(f"{made.npy}: {made.utterances:,} utterances, {made.frames:,} frames")


def learn_kmeans(
    feat_dir: Path,
    split: str,
    nshard: int,
    km_path: Path,
    n_clusters: int,
    /,
    *,
    seed: int = 0,
    percent: float = -1.0,
    init: Literal["k-means++", "random"] = "k-means++",
    max_iter: int = 100,
    batch_size: int = 10000,
    tol: float = 0.0,
    max_no_improvement: int = 100,
    n_init: int = 20,
    reassignment_ratio: float = 0.0,
    running: Running = Running(),
) -> None:
    """Fit mini-batch k-means to dumped features, with scikit-learn's meaning of all options.

    Parameters
    ----------
    feat_dir
        Folder of {split}_{rank}_{nshard}.npy.
    split
        Name of the features.
    nshard
        Number of shards; all are used.
    km_path
        The codebook, written exactly there as safetensors, whatever its suffix.
    n_clusters
        Number of units.
    seed
        Of samples and starts.
    percent
        Part of the utterances to fit on, from 0 to 1; -1 for all. The sample doesn't depend on nshard.
    init
        How centroids start.
    max_iter
        Passes over the frames at most.
    batch_size
        Frames in a mini-batch.
    tol
        Movement of the centroids that ends the fit; 0 turns this off.
    max_no_improvement
        Mini-batches without improvement that end the fit.
    n_init
        Starts, of which the best is kept.
    reassignment_ratio
        Part of the largest cluster's weight below which a cluster starts anew.
    """
    if n_clusters < 1:
        raise InputError(f"N_CLUSTERS {n_clusters}: at least 1 is needed")
    if percent == 0 or percent > 1:
        raise InputError(f"--percent {percent} should be above 0 and at most 1, or -1 for all")
    settings = FitSettings(
        clusters=n_clusters,
        seed=seed,
        fraction=1.0 if percent < 0 else percent,
        algorithm="minibatch",
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        init=init,
        batch_size=batch_size,
        max_no_improvement=max_no_improvement,
        reassignment_ratio=reassignment_ratio,
    )
    with Engine(running.work()) as engine:
        codebook = fairseq.learn_kmeans(feat_dir, split, nshard, km_path, settings, engine)
    fit = codebook.fit
    # The original prints the sum of squared distances over the number of frames under this name.
    print(
        f"{km_path}: {len(codebook)} clusters of {fit['frames']:,} frames, total inertia {shown(fit['inertia'] / fit['frames'])}"
    )


def dump_km_label(
    feat_dir: Path, split: str, km_path: Path, nshard: int, rank: int, lab_dir: Path, /, *, running: Running = Running()
) -> None:
    """Write {split}_{rank}_{nshard}.km with the label of each frame.

    Parameters
    ----------
    feat_dir
        Folder of {split}_{rank}_{nshard}.npy.
    split
        Name of the features.
    km_path
        A codebook of ours, or a scikit-learn model (joblib), which is read without running anything in it.
    nshard
        Number of shards.
    rank
        Which shard, from 0.
    lab_dir
        Folder for the labels.
    """
    with Engine(running.work()) as engine:
        path, lines = fairseq.dump_km_label(feat_dir, split, km_path, nshard, rank, lab_dir, engine)
    print(f"{path}: {lines:,} utterances")


def merge(lab_dir: Path, split: str, nshard: int, /) -> None:
    """Join {split}_0_{nshard}.km … into {split}.km; a missing shard is an error.

    Parameters
    ----------
    lab_dir
        Folder of the labels.
    split
        Name of the labels.
    nshard
        Number of shards.
    """
    path, lines = fairseq.merge_labels(lab_dir, split, nshard)
    print(f"{path}: {lines:,} utterances")


def dictionary(n_clusters: int, lab_dir: Path, /) -> None:
    """Write dict.km.txt with the units 0 … K - 1; one that stands there is replaced, not added to.

    Parameters
    ----------
    n_clusters
        Number of units, K.
    lab_dir
        Folder of the labels.
    """
    path = fairseq.write_dictionary_of(n_clusters, lab_dir)
    print(f"{path}: {n_clusters:,} units")


def preprocess(
    *,
    trainpref: Path,
    destdir: Path,
    validpref: Path | None = None,
    testpref: str | None = None,
    source_lang: Annotated[Literal["km"], Parameter(alias="-s")] = "km",
    only_source: bool = False,
    workers: int = 1,
) -> None:
    """Write dict.km.txt for labels, with the units 0 … K - 1 in order.

    Parameters
    ----------
    trainpref
        Path of the labels without .km.
    destdir
        Folder for the dictionary.
    validpref
        Path of more labels whose units it should have.
    testpref
        Paths of more labels, apart by commas.
    source_lang
        Ending of the labels.
    only_source
        Without effect: labels have no target side.
    workers
        Without effect: there is nothing to spread.
    """
    more = [] if testpref is None else [Path(item) for item in testpref.split(",")]
    if workers > 1:
        print(f"--workers {workers}: without effect, there is nothing to spread")
    path, clusters = fairseq.labels_dictionary([trainpref, *([validpref] if validpref else []), *more], destdir)
    print(f"{path}: {clusters:,} units in order")
    print("fairseq's preprocess.py sorts them by frequency and pads them with madeupword entries to a multiple of 8, so that a")
    print("unit's class is not its number plus 4; units in order are what HuBERT's training takes.")


def hydra_train(
    *options: str,
    config_dir: Path,
    config_name: str,
    device: str | None = None,
    threads: int | None = None,
) -> None:
    """Train a HuBERT as fairseq's YAML file and dotted options say.

    A step is as large as with distributed_world_size processes; those that there are GPUs for share it. With task.feat_dir it is
    the disentangled variant, as 'vocable train disentangled'.

    Parameters
    ----------
    options
        Such as task.data=DIR task.label_dir=DIR task.labels='["km"]' model.label_rate=100; of the disentangled variant also
        task.feat_dir=DIR disentangle.reversal=0.3.
    config_dir
        Folder of the file.
    config_name
        Its name, without .yaml.
    device
        cpu, cuda, cuda:1 or mps; by default cuda where there is a GPU.
    threads
        On the CPU; by default all cores.
    """
    import torch

    from vocable.recipes.fairseq_training import check_as_described, read_fairseq_training, train_as_described

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = read_fairseq_training(config_dir, config_name, options, half=place.startswith("cuda"))
    processes = max(1, min(found.world, torch.cuda.device_count())) if place == "cuda" else 1
    launch(processes, lambda: check_as_described(found, place, processes))
    if found.idle:
        print(f"without effect here: {', '.join(found.idle)}")
    made = train_as_described(found, place, threads)
    print(f"{made}: the model")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
