"""RTTM, NIST's lines of who or what is heard when."""

from __future__ import annotations

from vocable.timelines.timeline import Timeline


def rttm_lines(name: str, timeline: Timeline) -> str:
    """Return a line for each interval: type, file, channel, start, duration in seconds, and the label in the place of a speaker.

    Blanks in a name become underscores, since they part the fields.
    """
    file = "_".join(name.split()) or "_"
    return "".join(
        f"SPEAKER {file} 1 {start:.4f} {end - start:.4f} <NA> <NA> {'_'.join(label.split()) or '<NA>'} <NA> <NA>\n"
        for start, end, label in zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True)
    )
