"""The page of a report: one HTML file without scripts, that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from initcore.report.document import document
from initcore.report.flows import Flow, number
from initcore.report.kinds import Kind
from initcore.report.svg import text
from initcore.show import (
    Description,
    TensorDescription,
    scheme_text,
    shape_text,
    size_text,
    values_text,
)

# More rows than this are folded away.
_OPEN_ROWS = 40


@dataclass(frozen=True)
class Member:
    """One tensor of a kind, as measured.

    Attributes:
        name: its name.
        thumbnail: a small histogram, as markup.
        mean: mean of its samples.
        std: their standard deviation.
    """

    name: str
    thumbnail: str
    mean: float
    std: float


@dataclass(frozen=True)
class Shown:
    """A kind of tensors with its figures.

    Attributes:
        kind: the tensors.
        described: the description of the first.
        figures: of the first tensor, as markup.
        members: the tensors that were measured.
        note: why there is no figure, where there is none.
    """

    kind: Kind
    described: TensorDescription
    figures: tuple[str, ...] = ()
    members: tuple[Member, ...] = field(default=())
    note: str = ""


def page(
    title: str,
    seed: int,
    description: Description,
    shown: Sequence[Shown],
    flows: Sequence[Flow],
    flow_figures: Sequence[str],
) -> str:
    """The whole page, as HTML that is well-formed XML too."""
    body = [
        f"<header><h1>{text(title)}</h1>{_facts(seed, description)}</header>",
        _notes(description),
        _flow_section(flows, flow_figures),
        _distributions([one for one in shown if not one.kind.is_constant]),
        _constants([one for one in shown if one.kind.is_constant]),
        _tensors(description.tensors),
    ]
    return document(title, "".join(body))


def _facts(seed: int, description: Description) -> str:
    elements = sum(math.prod(tensor.shard_shape) for tensor in description.tensors)
    facts = (
        ("tensors", f"{len(description.tensors):,}"),
        ("elements", f"{elements:,}"),
        ("file", size_text(description.size)),
        ("seed", str(seed)),
        ("stream", f"v{description.stream_version}"),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    digest = f'<p class="soft">plan digest <code>{description.digest}</code></p>'
    return f'<dl class="facts">{cells}</dl>{digest}\n'


def _notes(description: Description) -> str:
    lines = [f"<li>warning: {text(line)}</li>" for line in description.warnings]
    lines += [f"<li>{text(line)}</li>" for line in description.remarks]
    return _section("Notes", f'<ul class="notes">{"".join(lines)}</ul>') if lines else ""


def _flow_section(flows: Sequence[Flow], figures: Sequence[str]) -> str:
    if not flows:
        return ""
    names = [("layer", ""), ("module", "")]
    for flow in flows:
        names += [(f"{flow.label}: std", "number"), (f"{flow.label}: gradient std", "number")]
    rows = []
    for place, layer in enumerate(flows[0].layers):
        cells = [(f"{place + 1}. {layer.name}", ""), (layer.kind, "")]
        for flow in flows:
            here = flow.layers[place] if place < len(flow.layers) else None
            for value in (here.std, here.grad_std) if here else (math.nan, math.nan):
                cells.append((number(value), "number"))
        rows.append(cells)
    table = _table("Signals by layer", names, rows)
    body = f'<div class="figures">{"".join(figures)}</div>{_folded("the layers in numbers", table)}'
    return _section("Signals through the model", body)


def _distributions(shown: Sequence[Shown]) -> str:
    return _section("Distributions", "".join(map(_kind, shown))) if shown else ""


def _kind(one: Shown) -> str:
    tensor, count = one.described, len(one.kind.entries)
    many = f"{count} tensors, each " if count > 1 else ""
    facts = [f"{many}{shape_text(tensor)}", tensor.dtype, scheme_text(tensor), values_text(tensor)]
    if tensor.fan_in is not None and tensor.fan_out is not None:
        facts.append(f"fan in {tensor.fan_in:g}, fan out {tensor.fan_out:g}")
    lines = [f"<h3>{text(one.kind.name)}</h3>", f'<p class="soft">{_joined(facts)}</p>']
    if one.note:
        lines.append(f"<p>{text(one.note)}</p>")
    if one.figures:
        shows = f" of {tensor.name}" if count > 1 else ""
        if shows:
            lines.append(f'<p class="soft">Figures{text(shows)}:</p>')
        lines.append(f'<div class="figures">{"".join(one.figures)}</div>')
    if count > 1:
        lines.append(_members(one))
    return f'<section class="kind">{"".join(lines)}</section>\n'


def _members(one: Shown) -> str:
    count = len(one.kind.entries)
    measured = {member.name: member for member in one.members}
    rows: list[list[tuple[str, str]]] = []
    pictures = []
    for entry in one.kind.entries:
        name = entry.tensor.name
        member = measured.get(name)
        numbers = (f"{member.mean:.3g}", f"{member.std:.4g}") if member else ("", "")
        rows.append([(name, ""), *((value, "number") for value in numbers)])
        pictures.append(member.thumbnail if member else "")
    names = [("tensor", ""), ("mean", "number"), ("std", "number")]
    table = _table(f"Tensors of {one.kind.name}", names, rows, ("values", pictures))
    return _folded(f"all {count} tensors", table)


def _constants(shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    names = [("tensors", ""), ("count", "number"), ("shape", ""), ("dtype", ""), ("value", "")]
    rows = [
        [
            (one.kind.name, ""),
            (str(len(one.kind.entries)), "number"),
            (shape_text(one.described), ""),
            (one.described.dtype, ""),
            (_constant_text(one), ""),
        ]
        for one in shown
    ]
    return _section("Constants", _table("Constants", names, rows))


def _constant_text(one: Shown) -> str:
    if not one.kind.first.count:
        return "no elements"
    parts = one.described.parts
    return values_text(parts[0] if parts else one.described) or one.described.scheme


def _tensors(tensors: Sequence[TensorDescription]) -> str:
    names = [(name, "") for name in ("tensor", "shape", "dtype", "scheme")]
    names += [("fan in", "number"), ("fan out", "number"), ("values", ""), ("bytes", "number")]
    rows = [
        [
            (tensor.name, f"d{depth}" if depth else ""),
            (shape_text(tensor), ""),
            (tensor.dtype, ""),
            (scheme_text(tensor), ""),
            (_fan(tensor.fan_in), "number"),
            (_fan(tensor.fan_out), "number"),
            (values_text(tensor), ""),
            (size_text(tensor.nbytes), "number"),
        ]
        for depth, tensor in _with_parts(tensors)
    ]
    table = _table("All tensors", names, rows)
    if len(rows) > _OPEN_ROWS:
        table = _folded(f"{len(rows):,} rows", table)
    return _section("All tensors", table)


def _with_parts(
    tensors: Iterable[TensorDescription], depth: int = 0
) -> Iterator[tuple[int, TensorDescription]]:
    for tensor in tensors:
        yield depth, tensor
        yield from _with_parts(tensor.parts, depth + 1)


def _fan(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _table(
    label: str,
    names: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[tuple[str, str]]],
    pictures: tuple[str, Sequence[str]] | None = None,
) -> str:
    """A table that scrolls within itself: cells as text and class, and a column of pictures."""
    head = "".join(f'<th scope="col"{_class(kind)}>{text(name)}</th>' for name, kind in names)
    if pictures:
        head += f'<th scope="col">{text(pictures[0])}</th>'
    lines = []
    for number_, row in enumerate(rows):
        cells = "".join(f"<td{_class(kind)}>{text(cell)}</td>" for cell, kind in row)
        if pictures:
            cells += f"<td>{pictures[1][number_]}</td>"
        lines.append(f"<tr>{cells}</tr>\n")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _joined(facts: Iterable[str]) -> str:
    return text(" \u00b7 ".join(fact for fact in facts if fact))


def _folded(label: str, body: str) -> str:
    return f"<details><summary>{text(label)}</summary>{body}</details>\n"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>\n"
