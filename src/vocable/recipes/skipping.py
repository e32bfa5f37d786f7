"""The record of what was left out, beside what was made."""

from __future__ import annotations

from pathlib import Path

from vocable.audio.faults import Skipped, require_none, write_skipped


def keep_skipped(skipped: list[Skipped], record: Path) -> Path:
    """Write what was left out to `record`, or remove the record of an earlier run if there is nothing; return its path."""
    if skipped:
        write_skipped(record, skipped)
    else:
        record.unlink(missing_ok=True)
    return record


def refuse_skipped(skipped: list[Skipped], record: Path) -> None:
    """Raise if anything was left out, before work begins; the record of results that stand is left alone.

    Raises:
        InputError: as `require_none`.
    """
    if skipped and not record.exists():
        write_skipped(record, skipped)
    require_none(skipped, record)
