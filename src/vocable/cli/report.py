"""`vocable report`."""

from __future__ import annotations

from pathlib import Path

from vocable.artefacts.writing import write_text


def report(run: Path, /, *, out: Path | None = None) -> None:
    """Draw the curves of a training, or of several iterations, on one page that opens anywhere.

    Parameters
    ----------
    run
        The folder that vocable train or vocable pretrain wrote.
    out
        The page; by default report.html in that folder.
    """
    from vocable.recipes.training_pages import report_of

    page = out or run / "report.html"
    write_text(page, report_of(run))
    print(page)
