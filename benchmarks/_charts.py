"""Charts of the results as SVG, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#2f7ed8", "#c8691c", "#2a9d62", "#9355b7", "#7a7a7a", "#b8963e")
_INK = "#7d8590"  # seen on white and on black
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
_WIDTH, _LEFT, _LINE = 760, 230, 22


def bars(title: str, values: Sequence[tuple[str, float, str]], mark: float | None = None) -> str:
    """Horizontal bars.

    Args:
        title: above them.
        values: name, length and what to write at the end of each.
        mark: where to draw a line across.
    """
    room = _WIDTH - _LEFT - 150
    largest = max([*(value for _, value, _ in values), mark or 0.0])
    height = 34 + _LINE * len(values) + 8
    parts = [_text(8, 20, title, bold=True)]
    for index, (name, value, note) in enumerate(values):
        y = 34 + _LINE * index
        length = max(1.0, value / largest * room)
        parts.append(_text(_LEFT - 8, y + 14, name, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="15" rx="2" '
            f'fill="{_COLOURS[0]}"/>'
        )
        parts.append(_text(_LEFT + length + 6, y + 14, note))
    if mark is not None:
        x = _LEFT + mark / largest * room
        parts.append(
            f'<line x1="{x:.1f}" y1="30" x2="{x:.1f}" y2="{height - 4}" stroke="{_INK}" '
            'stroke-dasharray="4 3"/>'
        )
    return _page(height, parts)


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    log_up: bool = False,
) -> str:
    """Lines over a logarithmic axis.

    Args:
        title: above them.
        series: points by name, x rising.
        across: what x is.
        up: what y is.
        log_up: whether y is logarithmic too.
    """
    points = [point for one in series.values() for point in one]
    low_x, high_x = math.log2(min(x for x, _ in points)), math.log2(max(x for x, _ in points))
    values = [y for _, y in points]
    low_y = math.log10(min(values)) if log_up else 0.0
    high_y = math.log10(max(values)) if log_up else max(values)
    left, right, top, bottom = 64, _WIDTH - 190, 40, 300

    def place(x: float, y: float) -> tuple[float, float]:
        up_ = math.log10(y) if log_up else y
        return (
            left + (math.log2(x) - low_x) / (high_x - low_x or 1) * (right - left),
            bottom - (up_ - low_y) / (high_y - low_y or 1) * (bottom - top),
        )

    parts = [_text(8, 20, title, bold=True), _text(left, 34, up)]
    for x in sorted({x for x, _ in points}):
        at = place(x, values[0])[0]
        parts.append(_text(at, bottom + 16, _short(x), anchor="middle"))
    for step in range(5):
        height = low_y + (high_y - low_y) * step / 4
        value = 10**height if log_up else height
        y = bottom - (bottom - top) * step / 4
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_INK}" '
            'stroke-opacity="0.25"/>'
        )
        parts.append(_text(left - 6, y + 4, _short(value), anchor="end"))
    parts.append(_text((left + right) / 2, bottom + 34, across, anchor="middle"))
    for index, (name, one) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in one))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + 8 + 18 * index
        parts.append(f'<rect x="{right + 16}" y="{y - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(right + 34, y - 3, name))
    return _page(bottom + 44, parts)


def _short(value: float) -> str:
    if value >= 1000:
        exponent = round(math.log10(value), 6)
        return f"1e{exponent:.0f}" if exponent == int(exponent) else f"{value:,.0f}"
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" text-anchor="{anchor}" {_FONT}{weight}>'
        f"{escape(text)}</text>"
    )


def _page(height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}">\n{body}\n</svg>\n'
    )
