"""A line chart as SVG, drawn by hand: scores of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 48, 44
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito's, which the colour-blind tell apart
_TICKS = 5


def line_chart(
    title: str, across: str, places: Sequence[int], lines: Mapping[str, Sequence[float]], marked: int | None = None
) -> str:
    """Return a chart with a line for each name.

    Args:
        title: above it.
        across: what the places are.
        places: along the horizontal axis.
        lines: a value for each place, 0 or more.
        marked: a place with a vertical line.
    """
    top = _rounded_up(max((value for values in lines.values() for value in values), default=1.0))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    first, span = min(places), max(max(places) - min(places), 1)

    def x(place: float) -> float:
        return round(_LEFT + (place - first) / span * wide, 1)

    def y(value: float) -> float:
        return round(_TOP + (1 - value / top) * high, 1)

    parts = [f'<text x="{_LEFT}" y="18" font-size="13" font-weight="bold">{escape(title)}</text>']
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:.3g}</text>')
    below = _HEIGHT - _BOTTOM + 18
    parts += [f'<text x="{x(place)}" y="{below}" text-anchor="middle">{place}</text>' for place in places]
    if marked is not None:
        dashes = 'stroke="#767676" stroke-dasharray="4 3"'
        parts.append(f'<line x1="{x(marked)}" x2="{x(marked)}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" {dashes}/>')
    parts.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    for number, (name, values) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(place), y(value)) for place, value in zip(places, values, strict=True)]
        joined = " ".join(f"{at},{height}" for at, height in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{at}" cy="{height}" r="3" fill="{colour}"/>' for at, height in points]
        start = _LEFT + number * 150
        parts.append(f'<line x1="{start}" x2="{start + 18}" y1="32" y2="32" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<text x="{start + 24}" y="36">{escape(name)}</text>')
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    background = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    body = "\n".join([background, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


def _rounded_up(value: float) -> float:
    """Return the next of 0.1, 0.2, 0.25, 0.5, 1 times a power of ten."""
    scale = 1e-6
    while True:
        for step in (1.0, 2.0, 2.5, 5.0):
            if step * scale >= value:
                return step * scale
        scale *= 10
