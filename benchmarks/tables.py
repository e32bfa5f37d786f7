"""The tables of results, put into the documentation.

    python benchmarks/tables.py [DOCUMENT]

Each `results/NAME.md` takes the place of what stands between the lines `<!-- NAME -->` and `<!-- end -->` of docs/benchmarks.md.
Nothing is written unless every table has its place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(document: Path) -> None:
    """Put all tables into a document.

    Raises:
        SystemExit: the document or a mark in it is missing.
    """
    if not document.exists():
        raise SystemExit(f"{document} is missing: write it, with a line <!-- NAME --> and a line <!-- end --> for each table")
    text, missing = document.read_text(), []
    tables = {path.stem: path.read_text() for path in sorted(RESULTS.glob("*.md"))}
    for name, table in tables.items():
        try:
            text = filled(text, name, table)
        except LookupError as fault:
            missing.append(str(fault))
    if missing:
        raise SystemExit("\n".join([f"{document} is left as it is:", *missing]))
    document.write_text(text)
    print(f"{document}: {', '.join(tables) or 'no tables'}")


def filled(text: str, name: str, table: str) -> str:
    """Return a text with a table between the marks of its name.

    Raises:
        LookupError: they aren't there once, or the first isn't followed by an end before other marks.
    """
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    parts = re.split(rf"^{re.escape(begin)}$", text, flags=re.MULTILINE)
    if len(parts) != 2:
        raise LookupError(f"the line {begin} is there {len(parts) - 1} times, and should be there once")
    marks = re.search(r"^<!-- .* -->$", parts[1], flags=re.MULTILINE)
    if marks is None or marks[0] != end:
        raise LookupError(f"the line {begin} is not followed by a line {end}")
    return f"{parts[0]}{begin}\n{table.strip()}\n{parts[1][marks.start() :]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else DOCUMENT)
