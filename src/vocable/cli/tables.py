"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocable.audio.faults import REASONS, Skipped, count_reasons

if TYPE_CHECKING:  # rich takes as long to import as a short command takes to run, and few print tables
    from rich.console import Console


def print_table(title: str, rows: Mapping[str, Any]) -> None:
    """Print name and value, a row each."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(title, markup=False, highlight=False)
    if not rows:
        return
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), Text(shown(value)))
    console.print(table)


def print_columns(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table with a header."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(title, markup=False, highlight=False)
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console.print(table)


def bars(counts: Sequence[int], width: int = 60) -> str:
    """Return a histogram as a line of blocks, the tallest for the largest count; more counts than `width` are put together."""
    if not counts or not max(counts):
        return ""
    step = -(-len(counts) // width)
    heights = [max(counts[at : at + step]) for at in range(0, len(counts), step)]
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * height // max(heights))] for height in heights)


def shown(value: Any) -> str:
    """Return a value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 100 else f"{value:.4f}".rstrip("0").rstrip(".") or "0"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def report_skipped(skipped: Iterable[Skipped], record: Path | None) -> None:
    """Print what was left out, by reason."""
    report_reasons(count_reasons(skipped), record)


def report_reasons(counts: Mapping[str, int], record: Path | None) -> None:
    """Print how many were left out for each reason."""
    if counts:
        print(f"Left out, named in {record}:" if record else "Left out:")
        for reason, count in counts.items():
            print(f"  {count:6,} {reason}: {REASONS[reason]}")


def report_others(missing: int, what: str, unit: str = "block") -> None:
    """Print that other parts of the work have still something to do."""
    blocks = f"1 {unit} is" if missing == 1 else f"{missing} {unit}s are"
    print(f"This part is done; {blocks} left to others. The last part to finish writes {what}.")


def _console() -> Console:
    from rich.console import Console

    # Without a terminal, rich would cut lines at 80 columns.
    console = Console()
    return console if console.is_terminal else Console(width=200)
