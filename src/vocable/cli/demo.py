"""`vocable demo`."""

from __future__ import annotations

import time
from pathlib import Path

from vocable.cli.options import Running
from vocable.cli.prepare import show
from vocable.cli.tables import print_columns
from vocable.execution.memory import keep_freed_memory
from vocable.recipes.demo import demonstrate


def demo(*, out: Path = Path("vocable-demo"), clusters: int = 100, running: Running = Running()) -> None:
    """Make a small corpus of speech with known phones, prepare it, and score the units.

    Parameters
    ----------
    out
        Folder for the corpus, its alignments and its labels.
    clusters
        Number of units.
    """
    keep_freed_memory()
    begun = time.monotonic()
    made = demonstrate(out, clusters, running.work())
    show(made.prepared, time.monotonic() - begun)
    print_columns(
        "How much the units tell of the phones",
        ["labelling", "PNMI", "PNMI without silence", "phone purity", "cluster purity"],
        [
            [name, item.pnmi, item.pnmi_without_silence, item.phone_purity, item.cluster_purity]
            for name, item in (("MFCC, k-means", made.scores), ("random", made.random))
        ],
    )
    print(f"Try next:  vocable inspect {out / 'labels'}")
