"""Figures as inline SVG: a frame with axes, and marks in it. Colours are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from initcore.report.densities import Reals

WIDTH, HEIGHT = 360, 210
"""Of a figure, in its own units: about as wide as a phone, so that its text stays readable."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 36


def text(value: str) -> str:
    """Text for markup: escaped, and without the characters that XML forbids."""
    return escape("".join(c if c.isprintable() else "?" for c in value))


class Frame:
    """A plot area with axes, from data to the figure's units.

    Args:
        x: least and largest value on the horizontal axis.
        y: likewise on the vertical axis; of the logarithm to base 10 where `log`.
        log: whether the vertical axis is logarithmic.
    """

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], *, log: bool = False
    ) -> None:
        self._x, self._y, self._log = _widened(x), _widened(y), log
        self._marks: list[str] = []

    def bars(self, edges: Reals, heights: Reals) -> None:
        """Adjoining bars from the horizontal axis."""
        xs, ys = self._across(edges), self._up(heights)
        base = _short(HEIGHT - _BOTTOM)
        steps = "".join(f"V{_short(y)}H{_short(x)}" for y, x in zip(ys, xs[1:], strict=True))
        self._add(f'<path class="bars" d="M{_short(xs[0])} {base}{steps}V{base}Z"/>')

    def curve(self, xs: Reals, ys: Reals, kind: str) -> None:
        """A line of a class; it has gaps where a value is not finite."""
        path, pen = [], "M"
        for x, y, shown in zip(self._across(xs), self._up(ys), np.isfinite(ys), strict=True):
            if not shown:
                pen = "M"
                continue
            path.append(f"{pen}{_short(x)} {_short(y)}")
            pen = "L"
        if path:
            self._add(f'<path class="{kind}" d="{"".join(path)}"/>')

    def dots(self, xs: Reals, ys: Reals, kind: str, radius: float = 1.8) -> None:
        """A dot for each finite value."""
        for x, y, shown in zip(self._across(xs), self._up(ys), np.isfinite(ys), strict=True):
            if shown:
                place = f'cx="{_short(x)}" cy="{_short(y)}" r="{radius}"'
                self._add(f'<circle class="{kind}" {place}/>')

    def spike(self, x: float, label: str) -> None:
        """A line over the whole height, with a label beside it."""
        at = float(self._across(np.array([x]))[0])
        base = HEIGHT - _BOTTOM
        self._add(f'<path class="spike" d="M{_short(at)} {base}V{_TOP}"/>')
        anchor, shift = ("end", -4) if at > WIDTH / 2 else ("start", 4)
        self._add(
            f'<text class="tick label" text-anchor="{anchor}" x="{_short(at + shift)}" '
            f'y="{_TOP + 9}">{text(label)}</text>'
        )

    def svg(self, title: str, description: str, key: str, across: str, up: str) -> str:
        """The figure.

        Args:
            title: its title, for screen readers.
            description: what it shows, for screen readers.
            key: a word that is unique on the page.
            across: label of the horizontal axis.
            up: label of the vertical axis.
        """
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{key}-title {key}-desc" xmlns="http://www.w3.org/2000/svg">'
            f'<title id="{key}-title">{text(title)}</title>'
            f'<desc id="{key}-desc">{text(description)}</desc>'
            f"{self._axes(across, up)}{''.join(self._marks)}</svg>"
        )

    def _axes(self, across: str, up: str) -> str:
        right, base = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        lines, words = [], []
        for value, label in ticks(*self._x):
            x = float(self._across(np.array([value]))[0])
            lines.append(f"M{_short(x)} {base}v4")
            words.append(_word(label, x, base + 15, "middle"))
        steps = log_ticks(*self._y) if self._log else ticks(*self._y, count=4)
        for value, label in steps:
            y = self._raised(np.array([value]))[0]
            lines.append(f"M{_LEFT} {_short(y)}H{right}")
            words.append(_word(label, _LEFT - 5, float(y) + 4, "end"))
        words.append(_word(across, (_LEFT + right) / 2, HEIGHT - 5, "middle"))
        middle = (_TOP + base) / 2
        words.append(
            f'<text class="tick" text-anchor="middle" transform="rotate(-90)" '
            f'x="{_short(-middle)}" y="11">{text(up)}</text>'
        )
        frame = f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{right}"/>'
        return f'<path class="grid" d="{"".join(lines)}"/>{"".join(words)}{frame}'

    def _add(self, mark: str) -> None:
        self._marks.append(mark)

    def _across(self, values: Reals) -> Reals:
        low, high = self._x
        return _LEFT + (values - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def _up(self, values: Reals) -> Reals:
        if not self._log:
            return self._raised(np.minimum(values, self._y[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._raised(np.log10(values))

    def _raised(self, values: Reals) -> Reals:
        low, high = self._y
        return HEIGHT - _BOTTOM - (values - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def thumbnail(heights: Reals, label: str) -> str:
    """A small histogram without axes."""
    top = float(heights.max()) if len(heights) else 0.0
    scaled = heights / top * 26 if top > 0 else heights
    width = 96 / max(len(heights), 1)
    steps = "".join(f"V{_short(28 - y)}h{_short(width)}" for y in scaled)
    return (
        f'<svg class="thumb" viewBox="0 0 96 30" role="img" aria-label="{text(label)}" '
        f'xmlns="http://www.w3.org/2000/svg"><path class="bars" d="M0 28{steps}V28Z"/></svg>'
    )


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Round values between two, each with its text."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # + 0.0: no "-0".
    values = [step * number + 0.0 for number in range(first, last + 1)]
    return [(value, _label(value)) for value in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values between two powers of ten, as logarithms, each with its text."""
    span = high - low
    if span > 8:
        step = math.ceil(span / 6)
        powers = range(math.ceil(low / step) * step, math.floor(high) + 1, step)
        return [(float(p), _label(10.0**p)) for p in powers]
    factors: Sequence[int] = (1,) if span > 3 else (1, 3) if span > 1.2 else (1, 2, 5)
    found = [
        (p + math.log10(m), _label(m * 10.0**p))
        for p in range(math.floor(low), math.ceil(high) + 1)
        for m in factors
    ]
    return [(value, label) for value, label in found if low - 1e-9 <= value <= high + 1e-9]


def _label(value: float) -> str:
    """A round number, short enough for its place beside an axis."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _widened(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    least = 1e-9 * max(abs(low), abs(high), 1e-30)
    if high - low > least:
        return low, high
    return low - max(abs(low), 0.5), high + max(abs(high), 0.5)


def _word(label: str, x: float, y: float, anchor: str) -> str:
    return (
        f'<text class="tick" text-anchor="{anchor}" x="{_short(x)}" y="{_short(y)}">'
        f"{text(label)}</text>"
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def finite(values: Iterable[float]) -> list[float]:
    """The values that are positive and finite: those that a logarithmic axis can show."""
    return [value for value in values if math.isfinite(value) and value > 0.0]
