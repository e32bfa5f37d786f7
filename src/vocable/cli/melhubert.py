"""`vocable melhubert …`: the commands of MelHuBERT's authors, argument for argument, and its preprocessing from raw audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.cli.launching import launch
from vocable.cli.options import Audio, Fitting, Part, Running, refuse_idle
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.pair_writer import FeatureType

Period = Annotated[Literal[10, 20], Parameter(name=["--frame-period", "-f"])]
_CLUSTERS = FitSettings(clusters=512)


def preprocess(
    source: Path,
    out: Path,
    /,
    *,
    name: str = "libri-360",
    dtype: FeatureType = "float32",
    normalize: Literal["corpus", "utterance", "speaker"] = "corpus",
    labels: Path | None = None,
    label_normalize: Literal["none", "corpus", "utterance", "speaker"] = "none",
    overwrite: bool = False,
    fitting: Fitting = _CLUSTERS,
    audio: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Make what MelHuBERT is trained on: log-mel frames, their mean and deviation, labels, and the CSV that lists them.

    Labels are clusters of log-mel frames, 512 unless --clusters says otherwise, one every 10 ms; they are also in train.km beside
    train.tsv, with which a training makes frames of the audio as it goes.

    Parameters
    ----------
    source
        A folder of audio, a manifest, or the authors' Kaldi archives: a folder with one table of features (.scp), one of labels
        (.bas.scp), their archives, and a .mean-var.
    out
        Folder for feature/, cluster/, mean-std.npy, NAME-data-cluster-pair.csv, and of audio what 'vocable prepare' writes.
    name
        Of the CSV.
    dtype
        Of the frames; the authors' code writes float64. none stores none.
    normalize
        What the frames' mean and deviation are taken from. Of utterance and speaker: model.mel_normalization=utterance.
    labels
        A label file for the utterances, such as units of a layer, in place of clusters of log-mel frames.
    label_normalize
        What the frames that are clustered are normalised by.
    overwrite
        Replace results of other settings or audio.
    """
    from vocable.recipes.melhubert_preparation import MelhubertPreparation, holds_archives, preprocess

    if holds_archives(source):
        refuse_idle(f"{source} holds archives", FitSettings, CorpusSettings, but=("clusters",))
    elif labels is not None:
        refuse_idle("--labels are given", FitSettings)
    settings = MelhubertPreparation(
        name=name, dtype=dtype, normalize=normalize, labels=labels, label_normalize=label_normalize, corpus=audio, fit=fitting
    )
    made = preprocess(source, out, settings, running.work(part.nshard, part.rank), overwrite)
    if made.missing:
        print(f"{made.missing} blocks are left for the other parts of the work: run this again when they have ended")
        return
    done = ", done already" if made.was_done else ""
    print(f"{made.csv or made.out}: {made.utterances:,} utterances, {made.frames:,} frames, {made.clusters} labels{done}")


def train(
    *options: str,
    frame_period: Period,
    upstream_config: Annotated[Path, Parameter(name=["--upstream-config", "-g"])],
    runner_config: Annotated[Path, Parameter(name=["--runner-config", "-c"])],
    expdir: Annotated[Path, Parameter(name=["--expdir", "-n"])],
    initial_weight: Annotated[str | None, Parameter(name=["--initial-weight", "-i"])] = None,
    init_optimizer_from_initial_weight: bool = False,
    seed: int = 1337,
    device: str | None = None,
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> None:
    """Train a MelHuBERT as the authors' two YAML files say; killed, the same command goes on.

    Parameters
    ----------
    options
        In place of what the files say, such as config_runner.datarc.sets=[CSV].
    frame_period
        Milliseconds: 10 or 20.
    upstream_config
        The model's file.
    runner_config
        The training's file.
    expdir
        Folder for checkpoints, metrics.jsonl, both files, and at the end last-step.ckpt in the authors' layout.
    initial_weight
        A checkpoint to begin with, in any layout.
    init_optimizer_from_initial_weight
        Without effect, as a line says: a run that was killed has its optimizer in its own checkpoints, and a new one begins anew.
    seed
        Of everything that is random.
    device
        cpu, cuda, cuda:1 or mps; by default cuda where there is a GPU.
    threads
        On the CPU; by default all cores.
    processes
        How many share the work on this machine.
    overwrite
        Begin anew where a training with other settings or data stands.
    """
    import torch

    from vocable.recipes.hubert_training import check_training
    from vocable.recipes.melhubert_training import read_melhubert_training, train_as_the_authors

    if initial_weight is None and init_optimizer_from_initial_weight:
        raise InputError("--init-optimizer-from-initial-weight goes with -i: give a checkpoint, or leave it out")
    if init_optimizer_from_initial_weight:
        print(
            "without effect here: --init-optimizer-from-initial-weight; Adam's moments begin at 0, or where a run that was "
            "killed left them"
        )
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = read_melhubert_training(upstream_config, runner_config, frame_period, options, seed, initial_weight)
    launch(processes, lambda: check_training(found.settings, place, processes))
    if found.notes:
        print(f"without effect here: {', '.join(found.notes)}")
    made = train_as_the_authors(found, upstream_config, runner_config, expdir, place, threads, overwrite)
    print(f"{made}: the model")


def extract_feature(
    *audio: Path,
    checkpoint: Annotated[str, Parameter(name=["--checkpoint", "-c"])],
    frame_period: Period,
    layer: int | None = None,
    mean_std: Path | None = None,
    device: str = "cpu",
) -> None:
    """Describe audio by a layer of a MelHuBERT: files are written, or for two made sentences their shapes are said.

    Parameters
    ----------
    audio
        Audio files, or folders of them, and behind them the folder for NAME.npy, each of shape (frames, dim).
    checkpoint
        Of the authors' code, or ours.
    frame_period
        Milliseconds, which the checkpoint's has to be.
    layer
        From 1; by default the last.
    mean_std
        The .npy of mean and deviation that goes with a checkpoint of the authors' code.
    device
        cpu, cuda, cuda:1 or mps.
    """
    from vocable.recipes.melhubert_extraction import extract, extract_examples, melhubert_layer

    if len(audio) == 1:
        raise InputError(f"{audio[0]}: give audio and behind it a folder for the frames, or neither")
    made = melhubert_layer(checkpoint, frame_period, layer, mean_std, device)
    if not audio:
        for name, shape in extract_examples(made):
            print(f"{name}: {shape[0]} frames of {shape[1]} values")
        return
    *sources, out = audio
    for path, shape in extract(made, sources, out):
        print(f"{path}: {shape[0]} frames of {shape[1]} values")
