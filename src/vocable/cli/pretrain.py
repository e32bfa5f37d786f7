"""`vocable pretrain`."""

from __future__ import annotations

from pathlib import Path

from vocable.cli.options import Running
from vocable.errors import InputError
from vocable.recipes.iterations_settings import read_iterations


def pretrain(
    recipe: Path,
    /,
    *options: str,
    out: Path,
    threads: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
    running: Running = Running(),
) -> None:
    """Train HuBERT in several iterations: labels of MFCC, a training, its best layer's labels, a training, and so on.

    Writes labels-1, iteration-1, layers-1.json, labels-2 and so on, scores.json where phones are known, and report.html. Killed
    at any moment, the same command goes on where it was.

    Parameters
    ----------
    recipe
        A file (.toml, .yaml) with [audio], [labels] and [[iterations]].
    options
        Settings that take the place of the file's, such as audio.train=speech labels.clusters=50.
    out
        Folder for all of it.
    threads
        Of a training's process on the CPU; by default all cores, shared by the processes.
    processes
        How many share a training on this machine, on the CPU or each with a GPU of its own.
    overwrite
        Replace what other settings or audio made in --out; what these settings made stays.
    """
    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    settings = read_iterations(recipe, options)
    from vocable.recipes.iterations import Place, Pretraining

    work = running.work()
    device = work.devices[0] if processes == 1 else work.devices[0].partition(":")[0]
    place = Place(work=work, device=device, threads=threads, processes=processes)
    page = Pretraining(settings, out, place, overwrite).run()
    print(f"{page}: curves and scores")
