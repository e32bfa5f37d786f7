"""A page on which some utterances can be listened to, as they are said now and, if that is asked for, as they were."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import soundfile

from vocable.audio.decoding import read_waveform
from vocable.audio.faults import AudioFault
from vocable.audio.manifest import Manifest
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


def _player(waveform: object, rate: int) -> str:
    held = io.BytesIO()
    soundfile.write(held, waveform[: int(_LONGEST * rate)], rate, subtype="PCM_16", format="WAV")  # type: ignore[index]
    content = base64.b64encode(held.getvalue()).decode()
    return f'<audio controls preload="none" src="data:audio/wav;base64,{content}"></audio>'
