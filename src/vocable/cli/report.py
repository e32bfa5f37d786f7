"""`vocable report`."""

from __future__ import annotations

from pathlib import Path

from vocable.artefacts.writing import write_text
from vocable.report.training_report import runs_in, training_report


def report(run: Path, /, *, out: Path | None = None) -> None:
    """Draw the curves of a training, or of several iterations, on one page that opens anywhere.

    Parameters
    ----------
    run
        The folder that vocable train or vocable pretrain wrote.
    out
        The page; by default report.html in that folder.
    """
    page = out or run / "report.html"
    write_text(page, training_report(run.resolve().name, runs_in(run)))
    print(page)
