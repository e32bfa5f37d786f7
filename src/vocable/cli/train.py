"""`vocable train`: one training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vocable.cli.launching import launch
from vocable.cli.tables import print_table
from vocable.cli.train_anonymization import detokenizer, vocoder
from vocable.errors import InputError
from vocable.recipes.hubert_settings import read_settings

__all__ = ["detokenizer", "disentangled", "hubert", "melhubert", "sdhubert", "vocoder"]


def hubert(
    config: str,
    /,
    *options: str,
    out: Path,
    init: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a HuBERT on labels, or go on where an earlier run of the same command was ended.

    Writes settings.json, metrics.jsonl, run.jsonl, checkpoints/, best/ (by the loss of validation), and at the end report.html
    and model/, which every command takes that takes an encoder. Under torchrun its processes share the work.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: hubert-base-1, hubert-base-2, hubert-large,
        hubert-xlarge, small-logmel, small-waveform.
    options
        Settings that take the place of the file's, such as data.folder=run training.steps=1000.
    out
        Folder of the run.
    init
        An encoder to begin with in place of random weights, in any layout; it has to be of the settings' shape. The same as
        model.init=INIT.
    device
        cpu, cuda, cuda:1 or mps.
    threads
        On the CPU; by default all cores, shared by the processes.
    processes
        How many share the work on this machine, on the CPU or each with a GPU of its own; for several machines there is torchrun.
    overwrite
        Begin anew where a training with other settings or data stands.
    dry_run
        Look over data and settings, try one micro-batch, say what the training will take, and do nothing.
    """
    _train(config, options, out, init, device, threads, processes, overwrite, dry_run)


def melhubert(
    config: str,
    /,
    *options: str,
    out: Path,
    init: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a MelHuBERT: HuBERT on log-mel frames, of 20 or 10 ms.

    It is `train hubert` with settings whose model.input is logmel, on what 'vocable melhubert preprocess' or 'vocable prepare'
    made: on frames that were stored (data.sets), or on audio (data.folder), which gives the same.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: melhubert-20ms, melhubert-20ms-2 (the second stage),
        melhubert-10ms, melhubert-10ms-2, melhubert-small, melhubert-small-10ms.
    options
        Settings that take the place of the file's, such as data.sets='["data/libri-360-data-cluster-pair.csv"]'.
    out
        Folder of the run.
    init
        An encoder to begin with in place of random weights, in any layout; it has to be of the settings' shape.
    device
        cpu, cuda, cuda:1 or mps.
    threads
        On the CPU; by default all cores, shared by the processes.
    processes
        How many share the work on this machine.
    overwrite
        Begin anew where a training with other settings or data stands.
    dry_run
        Look over data and settings, try one micro-batch, say what the training will take, and do nothing.
    """
    _train(config, options, out, init, device, threads, processes, overwrite, dry_run, logmel=True)


def disentangled(
    config: str,
    /,
    *options: str,
    out: Path,
    init: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a HuBERT whose frames tell what is said, and not who says it or how high.

    It is `train hubert` with heads that learn to tell speakers and pitch, and an encoder that learns not to let them: their
    gradients come to it turned round. Writes what `train hubert` does; the model is an encoder as any other, without these heads.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: disentangled-base, disentangled-small, or any that
        'train hubert' takes.
    options
        Settings that take the place of the file's, such as data.folder=run data.feat_dir=voices disentanglement.reversal=0.3.
    out
        Folder of the run.
    init
        An encoder to begin with in place of random weights, in any layout; it has to be of the settings' shape. The same as
        model.init=INIT.
    device
        cpu, cuda, cuda:1 or mps.
    threads
        On the CPU; by default all cores, shared by the processes.
    processes
        How many share the work on this machine.
    overwrite
        Begin anew where a training with other settings or data stands.
    dry_run
        Look over data and settings, try one micro-batch, say what the training will take, and do nothing.
    """
    from vocable.recipes.disentangled_settings import read_disentangled_settings

    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_disentangled_settings(config, options if init is None else (*options, f"model.init={json.dumps(init)}"))
    if dry_run:
        from vocable.recipes.training_plan import plan_disentangled

        print_table(f"a training in {out}", plan_disentangled(settings, device, threads))
        return
    from vocable.recipes.disentangled_training import check_disentangled, train_disentangled

    launch(processes, lambda: check_disentangled(settings, device, processes))
    print(f"{train_disentangled(settings, out, device, threads, overwrite)}: the model")


def sdhubert(
    config: str,
    /,
    *options: str,
    out: Path,
    init: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train an SD-HuBERT: sentences told by a student as its own slower self tells them, from which syllables emerge.

    Writes what `train hubert` does; the model is what 'vocable syllables segment' takes.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: sdhubert-base, sdhubert-small.
    options
        Settings that take the place of the file's, such as data.train=AUDIO training.steps=1000.
    out
        Folder of the run.
    init
        The encoder it begins with, in any layout. The same as backbone=INIT.
    device
        cpu, cuda, cuda:1 or mps.
    threads
        On the CPU; by default all cores, shared by the processes.
    processes
        How many share the work on this machine.
    overwrite
        Begin anew where a training with other settings or data stands.
    dry_run
        Look over data and settings, try one micro-batch, say what the training will take, and do nothing.
    """
    from vocable.recipes.sdhubert_settings import read_sdhubert_settings

    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_sdhubert_settings(config, options if init is None else (*options, f"backbone={json.dumps(init)}"))
    if dry_run:
        from vocable.recipes.training_plan import plan_sdhubert

        print_table(f"a training in {out}", plan_sdhubert(settings, device, threads))
        return
    from vocable.recipes.sdhubert_training import check_sdhubert, train_sdhubert

    launch(processes, lambda: check_sdhubert(settings, device, processes))
    print(f"{train_sdhubert(settings, out, device, threads, overwrite)}: the model")


def _train(
    config: str,
    options: Sequence[str],
    out: Path,
    init: str | None,
    device: str,
    threads: int | None,
    processes: int,
    overwrite: bool,
    dry_run: bool,
    logmel: bool = False,
) -> None:
    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_settings(config, options if init is None else (*options, f"model.init={json.dumps(init)}"))
    if logmel and settings.model.input != "logmel":
        raise InputError(f"{config} has a model of waveforms: give model.input=logmel, or 'vocable train hubert'")
    if dry_run:
        from vocable.recipes.training_plan import plan_training

        print_table(f"a training in {out}", plan_training(settings, device, threads))
        return
    from vocable.recipes.hubert_training import check_training, train_hubert

    launch(processes, lambda: check_training(settings, device, processes))
    made = train_hubert(settings, out, device, threads, overwrite)
    print(f"{made}: the model")
