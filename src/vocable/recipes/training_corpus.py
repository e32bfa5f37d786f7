"""The audio of a training, looked through by one of its processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vocable.audio.manifest import Manifest
from vocable.execution.engine import Engine, Work
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_usable
from vocable.recipes.sources import one_source
from vocable.recipes.workplace import open_workplace
from vocable.training.world import World


def training_manifest(sources: Sequence[Path], corpus: CorpusSettings, out: Path, world: World) -> Manifest:
    """Return the audio in folders and manifests; the first process looks through them, the others read what it found.

    Args:
        sources: of the audio.
        corpus: which of it is taken.
        out: the run's folder.
        world: the processes.

    Raises:
        InputError: there is none that can be used.
    """
    found = None
    for turn in (True, False):
        if world.is_first == turn:
            with Engine(Work()) as engine:
                folder = open_workplace(out)
                found = open_corpus(one_source(sources, folder, corpus), corpus, engine, folder)
        world.barrier()
    assert found is not None
    require_usable(found, sources[0])
    return found.manifest
