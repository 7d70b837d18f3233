"""The figures of a report: histograms, singular values, and signals through a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from initcore.report.densities import Ideal, Reals
from initcore.report.flows import Flow, LayerFlow
from initcore.report.histograms import Histogram, histogram
from initcore.report.spectra import Spectrum
from initcore.report.style import SERIES
from initcore.report.svg import Frame, finite, text, thumbnail

_BINS = 56
_SMALL_BINS = 24


def distribution(name: str, values: Reals, dtype: str, ideal: Ideal | None, key: str) -> str:
    """A histogram of samples against their ideal density."""
    found = histogram(values, dtype, ideal, _BINS)
    low, high = float(found.edges[0]), float(found.edges[-1])
    points = np.linspace(low, high, 241)
    curve = ideal.density(points) if ideal else np.zeros(0)
    # A density may have poles, which are cut off.
    limit = 1.6 * float(found.density.max(initial=0.0))
    top = max(limit / 1.6, float(curve.max(initial=0.0)))
    top = 1.08 * (min(top, limit) if limit else top)
    room = 0.03 * (high - low)
    frame = Frame((low - room, high + room), (0.0, top or 1.0))
    frame.bars(found.edges, found.density)
    if ideal:
        frame.curve(points, curve, "ideal")
    for value, share in found.atoms:
        frame.spike(value, f"{share:.3g} of them are {value:g}")
    mean, std = _moments(values)
    measured = f"mean {mean:.3g}, std {std:.4g}"
    aim = f" Drawn from: {ideal.name}; std {ideal.std:.4g}." if ideal else ""
    said = f"Histogram of {len(values):,} values: {measured}.{aim}"
    figure = frame.svg(f"Values of {name}", said, key, "value", "density")
    legend = _key("bars", "values") + (_key("ideal", "ideal density") if ideal else "")
    beyond = f"; {found.outside:.2g} of them beyond the axis" if found.outside else ""
    aimed = f"<br/>ideal: {text(ideal.name)}, std {ideal.std:.4g}" if ideal else ""
    caption = f"{legend}<br/>{len(values):,} values: {measured}{beyond}{aimed}"
    return _figure(figure, caption)


def small(name: str, values: Reals, dtype: str, ideal: Ideal | None) -> str:
    """A thumbnail of a histogram."""
    found: Histogram = histogram(values, dtype, ideal, _SMALL_BINS)
    return thumbnail(found.density, f"Histogram of {name}")


def singular_values(name: str, found: Spectrum, key: str) -> str:
    """Singular values in descending order, against those of the ideal distribution."""
    values = found.values
    numbers = np.arange(1, len(values) + 1, dtype=np.float64)
    every = values if found.ideal is None else np.concatenate([values, found.ideal])
    frame = Frame((1.0, float(max(len(values), 2))), (0.0, 1.08 * float(every.max())))
    shown = np.unique(np.linspace(0, len(values) - 1, 64).astype(int))
    frame.dots(numbers[shown], values[shown], "dot", 3.0)
    if found.ideal is not None:
        frame.curve(numbers, found.ideal, "ideal")
    measured = f"{len(values)} singular values from {values[-1]:.4g} to {values[0]:.4g}"
    deviation = ""
    if found.ideal is not None:
        worst = float(np.abs(values - found.ideal).max())
        deviation = f"; at most {worst:.2g} from the ideal"
    said = f"{measured}{deviation}."
    figure = frame.svg(f"Singular values of {name}", said, key, "number", "singular value")
    legend = _key("dot", "singular values")
    if found.ideal is not None:
        legend += _key("ideal", f"ideal: {found.law}")
    return _figure(figure, f"{legend}<br/>{measured}{deviation}")


def flow(flows: Sequence[Flow], title: str, of: Callable[[LayerFlow], float], key: str) -> str:
    """A standard deviation, layer by layer, for several recipes on a logarithmic axis."""
    columns = [np.array([of(layer) for layer in flow.layers], dtype=np.float64) for flow in flows]
    known = finite(float(value) for column in columns for value in column)
    low, high = (min(known), max(known)) if known else (0.1, 10.0)
    # Half a decade at least: small differences are to look small.
    room = max(0.25 - (math.log10(high) - math.log10(low)) / 2, 0.06)
    count = max((len(column) for column in columns), default=1)
    bounds = (math.log10(low) - room, math.log10(high) + room)
    frame = Frame((1.0, float(max(count, 2))), bounds, log=True)
    legend, said = "", []
    for number, (one, column) in enumerate(zip(flows, columns, strict=True)):
        kind = f"s{number % SERIES}"
        column = np.where(np.isfinite(column) & (column > 0.0), column, np.nan)
        xs = np.arange(1, len(column) + 1, dtype=np.float64)
        frame.curve(xs, column, f"line {kind}")
        frame.dots(xs, column, f"end {kind}")
        legend += _key(f"line {kind}", one.label)
        ends = [value for value in column.tolist() if math.isfinite(value)]
        said.append(f"{one.label}: {ends[0]:.3g} to {ends[-1]:.3g}" if ends else one.label)
    missing = sum(int((~(np.isfinite(c) & (c > 0.0))).sum()) for c in columns)
    gaps = f"<br/>{missing} of the values are zero, infinite or not there, and not drawn"
    figure = frame.svg(title, "; ".join(said) + ".", key, "layer", "standard deviation")
    return _figure(figure, f"{text(title)}<br/>{legend}{gaps if missing else ''}")


def _moments(values: Reals) -> tuple[float, float]:
    """Mean and standard deviation, of values near the largest double too."""
    largest = float(abs(values).max(initial=0.0))
    scale = largest if 1e150 < largest < math.inf else 1.0
    scaled = values / scale if scale != 1.0 else values
    return float(scaled.mean()) * scale, float(scaled.std()) * scale


def _figure(figure: str, caption: str) -> str:
    return f"<figure>{figure}<figcaption>{caption}</figcaption></figure>"


def _key(kind: str, label: str) -> str:
    """A sample of a mark beside its meaning."""
    if kind == "bars":
        mark = '<rect class="bars" x="1" y="2" width="18" height="8"/>'
    elif kind == "dot":
        mark = '<circle class="dot" cx="10" cy="6" r="3"/>'
    else:
        mark = f'<path class="{kind}" d="M0 6H20"/>'
    return (
        f'<span class="key"><svg class="mark" viewBox="0 0 20 12" aria-hidden="true" '
        f'xmlns="http://www.w3.org/2000/svg">{mark}</svg>{text(label)}</span> '
    )
