"""Why an utterance is left out, and the file that says so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from vocable.artefacts.headers import canonical_json
from vocable.artefacts.writing import write_text
from vocable.errors import InputError

REASONS = {
    "unreadable": "can't be decoded",
    "empty": "no samples",
    "short": "shorter than one frame, or than asked for",
    "long": "over the length limit",
    "not finite": "NaN or infinite samples",
    "silent": "all samples the same",
    "vanished": "gone since the manifest was made",
    "changed": "another length than the manifest says",
    "duplicate id": "another file has the same id",
    "name": "a name no manifest can carry",
    "not drawn": "no codebook may be drawn for it",
    "crash": "every process that read it ended at once",
    "worker died": "its block of work was set aside: it killed its workers, or failed, again and again",
}
"""Every reason with its meaning."""


class AudioFault(InputError):
    """A file that can't serve as an utterance; `reason` is one of `REASONS`, `path` the file once it is known."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
        self.path: str | None = None

    def __str__(self) -> str:
        return self.detail if self.path is None else f"{printable(self.path)}: {self.detail}"


@dataclass(frozen=True, order=True)
class Skipped:
    """An utterance that was left out: its path as given, its reason, and the particulars."""

    path: str
    reason: str
    detail: str

    @classmethod
    def of(cls, path: str, fault: AudioFault) -> Skipped:
        """Make the record of a fault; bytes of the path that aren't UTF-8 are shown by their number."""
        return cls(printable(path), fault.reason, fault.detail)


def crash_of(path: str) -> AudioFault:
    """Return the fault of a file that nobody may read."""
    fault = AudioFault("crash", "whatever process reads it ends at once: mend it, or remove it")
    fault.path = path
    return fault


def lost(path: str, ending: str) -> Skipped:
    """Return the record of an utterance whose block of work ended its worker process."""
    return Skipped(printable(path), "worker died", ending)


def printable(path: str) -> str:
    """Return a path that can be printed and written as UTF-8, whatever its bytes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_skipped(path: Path, skipped: Iterable[Skipped]) -> None:
    """Write `skipped.jsonl`, sorted by path; an empty list makes an empty file."""
    write_text(path, "".join(canonical_json(asdict(item)) + "\n" for item in sorted(skipped)))


def read_skipped(path: Path) -> list[Skipped]:
    """Read what `write_skipped` wrote.

    Raises:
        InputError: a line is no such record.
    """
    skipped = []
    # Names may hold characters that str.splitlines takes for line ends.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                skipped.append(Skipped(**json.loads(line.decode())))
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{path} line {number} is no record of what was left out ({error}): make it anew") from error
    return skipped


def count_reasons(skipped: Iterable[Skipped]) -> dict[str, int]:
    """Return how many were left out for each reason, most first."""
    return dict(Counter(item.reason for item in skipped).most_common())


def count_lost(skipped: Iterable[Skipped]) -> int:
    """Return how many were left out for what became of processes: another run tries them again."""
    return sum(item.reason in ("crash", "worker died") for item in skipped)


def require_none(
    skipped: list[Skipped], record: Path | None = None, remedy: str = "mend or remove them, or leave --strict out"
) -> None:
    """Raise when anything was left out: what `--strict` means.

    Raises:
        InputError: names the first one, counts the rest, and says where all are named and what to do.
    """
    if skipped:
        first = min(skipped)
        rest = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        where = f" (all in {record})" if record else ""
        raise InputError(f"{first.path}: {first.reason}: {first.detail}{rest}{where}: {remedy}")
