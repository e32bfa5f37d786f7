"""A page on which some utterances can be listened to, as they are said now and, if that is asked for, as they were."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import soundfile

from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.faults import AudioFault
from vocable.audio.manifest import Manifest, Utterance
from vocable.recipes.judging import Disturbance
from vocable.recipes.utterance_files import path_of
from vocable.report.page import page

_SHOWN = 8
_LONGEST = 15.0  # seconds of each


def listening_page(out: Path, manifest: Manifest, rows: Sequence[int], ending: str, compared: bool) -> str:
    """Return a page, HTML, that needs nothing beside it.

    Args:
        out: folder of what is said now.
        manifest: of what was said.
        rows: that there is something of.
        ending: of the files.
        compared: put originals beside it, which lets everybody hear who spoke.
    """
    step = max(1, len(rows) // _SHOWN)
    lines = [f"<table><tr><th>utterance</th><th>as it is said now</th>{'<th>as it was</th>' if compared else ''}</tr>"]
    for row in rows[::step][:_SHOWN]:
        item = manifest[row]
        now, rate = soundfile.read(path_of(out, item.id, ending), dtype="float32")
        players = [_player(now, rate)]
        if compared:
            try:
                players.append(
                    _player(read_waveform(manifest.where(item), manifest.sample_rate, item.channel), manifest.sample_rate)
                )
            except AudioFault:  # it was there a moment ago
                players.append("")
        lines.append(f"<tr><td>{escape(item.id)}</td>{''.join(f'<td>{player}</td>' for player in players)}</tr>")
    warning = "<p>Originals are on this page: don't give it away.</p>" if compared else ""
    return page("Speech said by other voices", [f"<p>{len(rows):,} utterances; some of them:</p>{warning}", *lines, "</table>"])


@dataclass(frozen=True)
class Heard:
    """A condition to listen to."""

    name: str
    manifest: Manifest
    """Of its speech."""
    disturbed: Disturbance | None = None
    """Changes it first."""


def conditions_page(
    scores: Sequence[Mapping[str, str]],
    differences: Sequence[Mapping[str, str]],
    utterances: Sequence[str],
    heard: Sequence[Heard],
    longest: float,
) -> str:
    """Return a page, HTML, with the scores of conditions, and some utterances in all of them to listen to.

    Args:
        scores: a row for each condition.
        differences: a row for each comparison.
        utterances: names of those to listen to.
        heard: the conditions.
        longest: seconds of each utterance that are on the page.
    """
    parts = [_table(scores), *([_table(differences)] if differences else [])]
    if utterances:
        parts += ["<p>Originals may be on this page: don't give it away.</p>", "<table><tr><th>condition</th>"]
        parts += [f"<th>{escape(name)}</th>" for name in utterances] + ["</tr>"]
        for condition in heard:
            rows = {item.id: item for item in condition.manifest}
            cells = "".join(f"<td>{_heard(condition, rows[name], longest)}</td>" for name in utterances)
            parts.append(f"<tr><td>{escape(condition.name)}</td>{cells}</tr>")
        parts.append("</table>")
    return page("Speech said by other voices, compared", parts)


def _heard(condition: Heard, item: Utterance, longest: float) -> str:
    manifest = condition.manifest
    try:
        waveform = read_waveform(manifest.where(item), manifest.sample_rate, item.channel)
    except AudioFault:  # it was there a moment ago
        return ""
    waveform = waveform if condition.disturbed is None else condition.disturbed(waveform, item.id)
    return _player(waveform, manifest.sample_rate, longest)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _player(waveform: Waveform, rate: int, longest: float = _LONGEST) -> str:
    held = io.BytesIO()
    soundfile.write(held, waveform[: int(longest * rate)], rate, subtype="PCM_16", format="WAV")
    content = base64.b64encode(held.getvalue()).decode()
    return f'<audio controls preload="none" src="data:audio/wav;base64,{content}"></audio>'
