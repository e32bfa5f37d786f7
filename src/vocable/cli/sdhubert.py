"""`vocable sdhubert …`: the commands of SD-HuBERT's authors, argument for argument."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.cli.launching import launch
from vocable.cli.tables import print_table, report_skipped
from vocable.errors import InputError
from vocable.features.encoder_layer import EncoderFile

_CHECKPOINT = "ckpts/sdhubert_base.pt"
_TEST, _VALID = Path("files/librispeech_syllable_test.json"), Path("files/librispeech_syllable_val.json")
_SUBSET, _TRIPLETS = Path("files/librispeech_train_10Ksubset.txt"), Path("files/ssabx.json")
_SPLITS = {
    "train": ("train-clean-100", "train-clean-360", "train-other-500"),
    "val": ("dev-clean", "dev-other"),
    "test": ("test-clean", "test-other"),
}


def segment(
    *,
    input_dir: Path,
    output_dir: Path,
    batch_size: int = 1,
    device: str = "cuda",
    ckpt_path: str = _CHECKPOINT,
    normcut_threshold: float = 0.1,
    silence_threshold: float = 0.02,
    syllable_duration: float = 0.1,
    merge_threshold: float = 0.4,
    overwrite: bool = False,
) -> None:
    """Cut the .wav, .flac and .ogg files of a folder into syllables: _segments.txt, _feature.npy, _segmentfeature.npy.

    Parameters
    ----------
    input_dir
        Folder of audio files; those in folders below it are left alone.
    output_dir
        Folder for the files.
    batch_size
        Without effect: batches are as large as memory allows, and change nothing.
    device
        cuda, cuda:1, cpu or mps; without a GPU cuda is the CPU, as in the authors' code.
    ckpt_path
        The checkpoint.
    normcut_threshold
        Above which a frame, by its norm, is speech.
    silence_threshold
        Stretches that are no louder on average are left out.
    syllable_duration
        Seconds of a piece before any are merged.
    merge_threshold
        Least cosine of neighbours that become one.
    overwrite
        Replace segments of something else.
    """
    from vocable.recipes.sdhubert_segments import cut_folder

    if spelled(["batch_size"]) and batch_size != 1:
        print("without effect here: --batch-size; batches are as large as memory allows, and change nothing")
    place = _placed(device)
    made = cut_folder(
        input_dir, output_dir, EncoderFile(ckpt_path), place, normcut_threshold, silence_threshold, syllable_duration,
        merge_threshold, overwrite,
    )  # fmt: skip
    print(f"{made.out}: {made.utterances:,} files, {made.segments:,} segments{', done already' if made.was_done else ''}")
    report_skipped(made.skipped, made.record)


def train(
    *options: str,
    config_name: str = "sdhubert_base",
    config_dir: Annotated[Path | None, Parameter(name=["--config-dir", "--config-path"])] = None,
    out: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    reference_quirks: bool = False,
    overwrite: bool = False,
) -> None:
    """Train an SD-HuBERT as the authors' YAML file and dotted overrides say; killed, the same command goes on.

    Parameters
    ----------
    options
        Such as data.root_dir=LIBRISPEECH max_steps=1000.
    config_name
        Name of the YAML file, without .yaml.
    config_dir
        Its folder; without it, sdhubert_base is known.
    out
        Folder of the run; by default outputs/NAME.
    device
        cpu, cuda, cuda:1 or mps; by default cuda where there is a GPU.
    threads
        On the CPU; by default all cores.
    reference_quirks
        Train as the authors' code does where vocable mends it: losses added up, each GPU's own centre, no schedule.
    overwrite
        Begin anew where a training with other settings or data stands.
    """
    import torch

    from vocable.recipes.sdhubert_reference import read_reference_training
    from vocable.recipes.sdhubert_training import check_sdhubert, train_sdhubert

    if config_dir is None and config_name != "sdhubert_base":
        raise InputError(f"--config-name {config_name}: give --config-dir with the folder of {config_name}.yaml")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    file = None if config_dir is None else config_dir / f"{config_name.removesuffix('.yaml')}.yaml"
    found = read_reference_training(file, options, reference_quirks, place.startswith("cuda"))
    launch(found.processes, lambda: check_sdhubert(found.settings, place, found.processes))
    if found.notes:
        print(f"without effect here: {', '.join(found.notes)}")
    made = train_sdhubert(found.settings, out or Path("outputs") / found.name, place, threads, overwrite)
    print(f"{made}: the model")


def export_model(*, ckpt_path: Path, out: Path | None = None, overwrite: bool = False) -> None:
    """Write the model of a run in the authors' layout: config, and 229 tensors of a base model.

    Parameters
    ----------
    ckpt_path
        Folder of the run.
    out
        The file; by default CKPT_PATH.pt.
    overwrite
        Replace the file.
    """
    from vocable.recipes.sdhubert_reference import export_model as export

    print(export(ckpt_path, out, overwrite))


def extract_librispeech_segments(
    *,
    ckpt_path: str = _CHECKPOINT,
    librispeech_dataroot: Path,
    device: str = "cuda:0",
    save_dir: Path | None = None,
    save_name: str | None = None,
    split: Literal["all", "train", "val", "test"] = "all",
    overwrite: bool = False,
) -> None:
    """Cut LibriSpeech into syllables, in folders as its own: SUBSET/SPEAKER/CHAPTER.

    Each utterance has a _segments.txt and a _segmentfeature.npy there, below R/segments/NAME. Pieces are of 0.2 s before any are
    merged, as in the authors' command.

    Parameters
    ----------
    ckpt_path
        The checkpoint.
    librispeech_dataroot
        Folder of train-clean-100, dev-clean and so on; those that are there are taken.
    device
        cuda:0, cpu and so on; without a GPU cuda is the CPU.
    save_dir
        Folder for NAME; by default segments in LibriSpeech's.
    save_name
        By default the checkpoint's name.
    split
        all, train, val or test.
    overwrite
        Replace segments of something else.
    """
    from vocable.recipes.sdhubert_segments import cut_librispeech

    parts = [part for name, some in _SPLITS.items() if split in ("all", name) for part in some]
    out = (save_dir or librispeech_dataroot / "segments") / (save_name or Path(ckpt_path).stem)
    made = cut_librispeech(librispeech_dataroot, parts, out, EncoderFile(ckpt_path), _placed(device), overwrite)
    print(f"{made.out}: {made.utterances:,} files, {made.segments:,} segments{', done already' if made.was_done else ''}")
    report_skipped(made.skipped, made.record)


def train_km(
    *,
    segment_path: Path,
    save_path: Path = Path("km"),
    save_name: str | None = None,
    train_file: Path | None = None,
    n_clusters: int = 16384,
    n_clusters_agglomerative: int = 4096,
    overwrite: bool = False,
) -> None:
    """Fit both levels of units to segments; both are in one file, SAVE_PATH/NAME_16384to4096.safetensors.

    Parameters
    ----------
    segment_path
        Folder of segments.
    save_path
        Folder for the codebook.
    save_name
        By default the name of the segments' folder.
    train_file
        A list of audio files to fit to; by default files/librispeech_train_10Ksubset.txt if it is there, or all segments.
    n_clusters
        Centroids of k-means.
    n_clusters_agglomerative
        Units that these are put together to.
    overwrite
        Replace a codebook of something else.
    """
    from vocable.execution.processor import available_cores
    from vocable.recipes.syllable_clusters import TwoLevels, cluster_segments, names_listed

    listed = train_file or (_SUBSET if _SUBSET.is_file() else None)
    names = None if listed is None else names_listed(listed, segment_path)
    out = save_path / f"{save_name or segment_path.resolve().name}_{n_clusters}to{n_clusters_agglomerative}.safetensors"
    settings = TwoLevels(clusters=n_clusters, groups=n_clusters_agglomerative)
    made, was_done = cluster_segments(segment_path, out, settings, names, available_cores(), overwrite)
    print(f"{out}: {len(made):,} clusters in {made.n_groups:,} groups{', done already' if was_done else ''}")


def evaluate_boundary(
    *,
    segment_path: Path,
    test_syllables: Path = _TEST,
    val_syllables: Path = _VALID,
    save_name: str | None = None,
    result_path: Path = Path("results"),
) -> None:
    """Score boundaries; the shift is looked for on other utterances. Results go to RESULT_PATH/NAME.json.

    Parameters
    ----------
    segment_path
        Folder of segments.
    test_syllables
        Syllables to score by.
    val_syllables
        Syllables by which the shift is found.
    save_name
        Of the results; by default the name of the segments' folder.
    result_path
        Folder for them.
    """
    from vocable.recipes.stored_segments import StoredSegments
    from vocable.recipes.syllable_references import read_references
    from vocable.recipes.syllable_scoring import score_boundaries

    segments = StoredSegments(segment_path)
    found = score_boundaries(segments, read_references(test_syllables), read_references(val_syllables))
    _keep(result_path, save_name or segment_path.resolve().name, "boundary_detection", found.counts.rows())
    print_table(f"{segment_path}: boundaries", found.rows())


def evaluate_purity(
    *,
    segment_path: Path,
    km_path: Path,
    reducer_path: Path | None = None,
    test_syllables: Path = _TEST,
    save_name: str | None = None,
    result_path: Path = Path("results"),
) -> None:
    """Score units of segments. Results go to RESULT_PATH/NAME.json.

    Parameters
    ----------
    segment_path
        Folder of segments.
    km_path
        A codebook of ours, or a k-means of the authors' code, which isn't run.
    reducer_path
        The .npy of groups that goes with the latter.
    test_syllables
        Syllables to score by.
    save_name
        Of the results; by default the name of the segments' folder.
    result_path
        Folder for them.
    """
    from vocable.clustering.codebook import read_codebook
    from vocable.recipes.stored_segments import StoredSegments
    from vocable.recipes.syllable_clusters import with_groups
    from vocable.recipes.syllable_references import read_references
    from vocable.recipes.syllable_scoring import score_syllables

    book = with_groups(read_codebook(km_path), reducer_path)
    found = score_syllables(StoredSegments(segment_path), read_references(test_syllables), book)
    kept = {"cluster_purity": found.cluster_purity, "syllable_purity": found.syllable_purity}
    _keep(result_path, save_name or segment_path.resolve().name, "clustering_quality", kept)
    print_table(f"{segment_path}: units of {km_path}", found.rows())


def evaluate_ssabx(
    *,
    ckpt_path: str = _CHECKPOINT,
    librispeech_dataroot: Path,
    layer: int | Literal["final"] = 9,
    mode: Literal["favg", "agg"] = "favg",
    ssabx_triplets: Path = _TRIPLETS,
    device: str = "cuda",
) -> None:
    """Score an SD-HuBERT by sentence ABX.

    Parameters
    ----------
    ckpt_path
        The checkpoint.
    librispeech_dataroot
        Folder that the files named by the triplets are in.
    layer
        Of the encoder; or, with agg, final.
    mode
        favg: the mean of a clip's frames; agg: its aggregator.
    ssabx_triplets
        The file of triplets.
    device
        cuda, cpu and so on; without a GPU cuda is the CPU.
    """
    from vocable.recipes.sentence_abx import Description, score_ssabx

    how = Description(layer=layer, mode=mode)
    found = score_ssabx(EncoderFile(ckpt_path), ssabx_triplets, librispeech_dataroot, how, _placed(device))
    print_table(f"{ckpt_path}: sentence ABX", found.rows())


def _placed(device: str) -> str:
    """Return a device that is there: without a GPU the CPU takes its place, as in the authors' code."""
    import torch

    from vocable.execution.engine import check_device

    if device.startswith("cuda") and not torch.cuda.is_available():
        return "cpu"
    return check_device(device)


def _keep(folder: Path, name: str, key: str, values: dict[str, float]) -> None:
    """Put results beside those that stand in a file."""
    from vocable.artefacts.writing import write_text

    path = folder / f"{name}.json"
    try:
        standing = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path} holds no results ({error}): remove it, or give another --save-name") from error
    if not isinstance(standing, dict):
        raise InputError(f"{path} holds no results: remove it, or give another --save-name")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**standing, key: values}, indent=1) + "\n")
