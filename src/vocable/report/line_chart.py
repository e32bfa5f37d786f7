"""A line chart as SVG, drawn by hand: scores of layers, curves of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 48, 44
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito's, which the colour-blind tell apart
_TICKS = 5
_MOST_MARKS = 40
"""Points of a line up to which each is marked, and places up to which each is named."""

Line = Sequence[tuple[float, float]]


def line_chart(title: str, across: str, lines: Mapping[str, Line], marked: float | None = None, from_zero: bool = True) -> str:
    """Return a chart with a line for each name.

    Args:
        title: above it.
        across: what the places are.
        lines: places and values of each.
        marked: a place with a vertical line.
        from_zero: the lowest value shown is 0; otherwise it lies a little below the least.
    """
    values = [value for line in lines.values() for _, value in line] or [0.0, 1.0]
    places = sorted({place for line in lines.values() for place, _ in line}) or [0.0, 1.0]
    bottom = min(0.0, *values) if from_zero else _rounded_down(min(values), max(values) - min(values))
    top = bottom + _rounded_up(max(max(values) - bottom, 1e-6))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    first, span = places[0], max(places[-1] - places[0], 1e-9)

    def x(place: float) -> float:
        return round(_LEFT + (place - first) / span * wide, 1)

    def y(value: float) -> float:
        return round(_TOP + (1 - (value - bottom) / (top - bottom)) * high, 1)

    parts = [f'<text x="{_LEFT}" y="18" font-size="13" font-weight="bold">{escape(title)}</text>']
    for tick in range(_TICKS + 1):
        value = bottom + (top - bottom) * tick / _TICKS
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:.4g}</text>')
    below = _HEIGHT - _BOTTOM + 18
    parts += [f'<text x="{x(place)}" y="{below}" text-anchor="middle">{place:g}</text>' for place in _named(places)]
    if marked is not None:
        dashes = 'stroke="#767676" stroke-dasharray="4 3"'
        parts.append(f'<line x1="{x(marked)}" x2="{x(marked)}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" {dashes}/>')
    parts.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(place), y(value)) for place, value in line]
        joined = " ".join(f"{at},{height}" for at, height in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(points) <= _MOST_MARKS:
            parts += [f'<circle cx="{at}" cy="{height}" r="3" fill="{colour}"/>' for at, height in points]
        start = _LEFT + number * 150
        parts.append(f'<line x1="{start}" x2="{start + 18}" y1="32" y2="32" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<text x="{start + 24}" y="36">{escape(name)}</text>')
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    background = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    body = "\n".join([background, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


def _named(places: list[float]) -> list[float]:
    """Return the places that get a number below them."""
    if len(places) <= _MOST_MARKS // 2:
        return places
    step = _rounded_up((places[-1] - places[0]) / _TICKS / 2)
    return [step * number for number in range(int(places[0] // step), int(places[-1] // step) + 1) if step * number >= places[0]]


def _rounded_up(value: float) -> float:
    """Return the next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    scale = 1e-6
    while True:
        for step in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0):
            if step * scale >= value:
                return step * scale
        scale *= 10


def _rounded_down(value: float, span: float) -> float:
    step = _rounded_up(max(span, 1e-6)) / _TICKS
    return (value // step) * step
