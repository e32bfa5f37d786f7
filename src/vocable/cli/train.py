"""`vocable train`: one training."""

from __future__ import annotations

import json
from pathlib import Path

from vocable.cli.launching import launch
from vocable.cli.tables import print_table
from vocable.errors import InputError
from vocable.recipes.hubert_settings import read_settings


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
    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_settings(config, options if init is None else (*options, f"model.init={json.dumps(init)}"))
    if dry_run:
        from vocable.recipes.training_plan import plan_training

        print_table(f"a training in {out}", plan_training(settings, device, threads))
        return
    from vocable.recipes.hubert_training import check_training, train_hubert

    launch(processes, lambda: check_training(settings, device, processes))
    made = train_hubert(settings, out, device, threads, overwrite)
    print(f"{made}: the model")
