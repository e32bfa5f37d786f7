"""`vocable train detokenizer|vocoder`: one training of what voice anonymization says speech with."""

from __future__ import annotations

import json
from pathlib import Path

from vocable.cli.launching import launch
from vocable.cli.tables import print_table
from vocable.errors import InputError


def detokenizer(
    config: str,
    /,
    *options: str,
    out: Path,
    codebooks: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
) -> None:
    """Train a detokenizer, which makes frames of their centroids, for voice anonymization.

    Writes what `train hubert` does; the model is what 'vocable anonymize convert --model' takes.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: detokenizer-base, detokenizer-small.
    options
        Settings that take the place of the file's, such as data.train=AUDIO data.speakers='{speaker}/*/*'.
    out
        Folder of the run.
    codebooks
        A file of 'vocable anonymize fit-codebooks', of the speakers to learn from. The same as codebooks=CODEBOOKS.
    device
        cpu, cuda, cuda:1 or mps.
    threads
        On the CPU; by default all cores.
    overwrite
        Begin anew where a training with other settings or data stands.
    """
    from vocable.recipes.detokenizer_settings import read_detokenizer_settings

    given = options if codebooks is None else (*options, f"codebooks={json.dumps(str(codebooks))}")
    settings = read_detokenizer_settings(config, given)
    from vocable.recipes.detokenizer_training import check_detokenizer, train_detokenizer

    check_detokenizer(settings)
    print(f"{train_detokenizer(settings, out, device, threads, overwrite)}: the model")


def vocoder(
    config: str,
    /,
    *options: str,
    out: Path,
    init: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a vocoder, HiFi-GAN's, which makes speech of frames, for voice anonymization.

    Writes what `train hubert` does; the model is what 'vocable anonymize convert --vocoder' takes.

    Parameters
    ----------
    config
        A file of settings (.toml, .yaml), or one that comes with vocable: vocoder-base, vocoder-small.
    options
        Settings that take the place of the file's, such as data.frames=frames/ or data.train=AUDIO.
    out
        Folder of the run.
    init
        A vocoder to begin with in place of random weights, such as knn-vc's g_02500000.pt; it has to be of the settings' shape.
        The same as init=INIT.
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
    from vocable.recipes.vocoder_settings import read_vocoder_settings

    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_vocoder_settings(config, options if init is None else (*options, f"init={json.dumps(str(init))}"))
    if dry_run:
        from vocable.recipes.training_plan import plan_vocoder

        print_table(f"a training in {out}", plan_vocoder(settings, device, threads))
        return
    from vocable.recipes.vocoder_training import check_vocoder, train_vocoder

    launch(processes, lambda: check_vocoder(settings, device, processes))
    print(f"{train_vocoder(settings, out, device, threads, overwrite)}: the model")
