"""Audacity's label tracks: start, end and label, apart by tabs."""

from __future__ import annotations

from vocable.timelines.timeline import Timeline


def audacity_lines(timeline: Timeline) -> str:
    """Return a line for each interval, with times in seconds; tabs and line ends in labels become blanks."""
    return "".join(
        f"{start:.6f}\t{end:.6f}\t{' '.join(label.split())}\n"
        for start, end, label in zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True)
    )
