"""`vocable demo`."""

from __future__ import annotations

import time
from pathlib import Path

from vocable.cli.options import Running
from vocable.cli.prepare import show
from vocable.cli.tables import print_columns
from vocable.recipes.demo import demonstrate


def demo(*, out: Path = Path("vocable-demo"), clusters: int = 100, overwrite: bool = False, running: Running = Running()) -> None:
    """Make a small corpus of speech with known phones, prepare it, and score the units.

    Parameters
    ----------
    out
        Folder for the corpus, its alignments and its labels.
    clusters
        Number of units.
    overwrite
        Replace what other settings made in --out.
    """
    begun = time.monotonic()
    made = demonstrate(out, clusters, running.work(), overwrite)
    show(made.prepared, time.monotonic() - begun)
    columns = (made.scores, made.random)
    print_columns(
        "How much the units tell of the phones",
        ["", "MFCC, k-means", "random"],
        [
            ["PNMI", *(item.pnmi for item in columns)],
            ["PNMI without silence", *(item.pnmi_without_silence for item in columns)],
            ["phone purity", *(item.phone_purity for item in columns)],
            ["cluster purity", *(item.cluster_purity for item in columns)],
        ],
    )
