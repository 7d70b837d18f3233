"""Descriptions as a table on a terminal, or as plain text in a file or a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from initcore.show.description import Description, TensorDescription
from initcore.show.grouping import Group, each, groups
from initcore.show.text import counted, fitted, printable, size_text, terminal_width

RIGHT = ("count", "fan in", "fan out", "bytes")
"""The columns of numbers, which stand to the right."""

# The cells that need their title beside them where no column has it.
_LABELLED = ("count", "fan in", "fan out")

_GAP = "   "

_TITLES = ("tensor", "shape", "dtype", "scheme", "fan in", "fan out", "values", "bytes")


def print_description(
    description: Description, out: TextIO, *, parts: bool = False, every: bool = False
) -> None:
    """Writes the table, the totals, the digest, the warnings and the remarks.

    Tensors that differ only in the numbers in their names share a row, unless `every` is set.
    The table is as wide as its content. On a terminal that is narrower, each tensor has a line
    for its name and, below it, lines of cells, so that neither names nor numbers are broken. With
    `parts`, composed tensors are followed by what they are made of.
    """
    shown = each(description.tensors) if every else groups(description.tensors)
    columns = titles(description, shown)
    rows = list(_rows(shown, parts, columns))
    widths = _widths(columns, rows)
    available = terminal_width(out)
    if available is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > available:
        lines = _stacked(columns, rows, available)
    else:
        lines = _lines(columns, rows, widths, "─" if _can_show("─", out) else "-")
    out.writelines(f"{line}\n" for line in lines)
    out.write("\n" + fitted("".join(f"{line}\n" for line in totals(description)), out))


def _can_show(text: str, out: TextIO) -> bool:
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _size(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    sizes = [[_size(cell) for cell in row] for row in rows]
    return [max(column) for column in zip(map(len, columns), *sizes, strict=True)]


def _lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], rule: str
) -> Iterator[str]:
    """The table as wide as its content."""
    right = [title in RIGHT for title in columns]

    def line(row: Sequence[str]) -> str:
        padded = [
            " " * (width - _size(cell)) + cell if to_right else cell + " " * (width - _size(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        return _GAP.join(padded).rstrip()

    yield line(columns)
    yield rule * (sum(widths) + len(_GAP) * (len(widths) - 1))
    yield from map(line, rows)


def _stacked(
    columns: Sequence[str], rows: Sequence[Sequence[str]], available: int
) -> Iterator[str]:
    """Each tensor's name, and below it its cells, in lines that fit a narrow terminal."""
    for name, *rest in rows:
        yield name
        # One step further in than the name, which is indented for parts.
        indent = " " * (len(name) - len(name.lstrip(" ")) + 2)
        line = ""
        for title, cell in zip(columns[1:], rest, strict=True):
            if not cell:
                continue
            text = f"{title} {cell}" if title in _LABELLED else cell
            if line and len(indent) + _size(line) + 2 + _size(text) > available:
                yield indent + line
                line = text
            else:
                line = f"{line}  {text}" if line else text
        yield indent + line


def titles(description: Description, shown: Sequence[Group]) -> list[str]:
    """The titles of the table's columns."""
    found = list(_TITLES)
    if any(group.count > 1 for group in shown):
        found.insert(1, "count")
    if any(tensor.fingerprint for tensor in description.tensors):
        found.append("fingerprint")
    return found


def cells(group: Group, columns: Sequence[str]) -> list[str]:
    """The cells of a row, one for each column."""
    tensor = group.first
    texts = {
        "tensor": group.name,
        "count": f"{group.count:,}",
        "shape": shape_text(tensor),
        "dtype": tensor.dtype,
        "scheme": scheme_text(tensor),
        "fan in": _number(tensor.fan_in),
        "fan out": _number(tensor.fan_out),
        "values": values_text(tensor),
        "bytes": size_text(group.nbytes),
        "fingerprint": tensor.fingerprint or "",
    }
    # Names come from users and may look like control codes or markup.
    return [_visible(texts[title]) for title in columns]


def _visible(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _rows(
    shown: Iterable[Group], parts: bool, columns: Sequence[str], depth: int = 0
) -> Iterator[list[str]]:
    for group in shown:
        first, *rest = cells(group, columns)
        yield ["  " * depth + first, *rest]
        if parts:
            yield from _rows(each(group.first.parts), parts, columns, depth + 1)


def totals(description: Description) -> list[str]:
    """The lines below the table: totals, digest, warnings and remarks."""
    tensors = description.tensors
    elements = sum(math.prod(tensor.shard_shape) for tensor in tensors)
    count = counted(len(tensors), "tensor")
    lines = [
        f"{count}, {elements:,} elements; a file of {size_text(description.size)} "
        f"({description.size:,} bytes)",
        f"plan digest {description.digest}, stream v{description.stream_version}",
    ]
    if description.provenance:
        came_from = [f"{key} {value}" for key, value in description.provenance.items()]
        lines.append(f"recorded from {printable(', '.join(came_from))}")
    if description.checkpoints is not None:
        lines.append(f"checkpoints: all that the plan takes is in {description.checkpoints}")
    lines += [f"warning: {printable(text)}" for text in description.warnings]
    return lines + [f"note: {printable(text)}" for text in description.remarks]


def scheme_text(tensor: TensorDescription) -> str:
    """The scheme, with the number of parts of a composed tensor, or its function.

    As in "stack of 8" and "apply clamp(a=-1, b=1)".
    """
    if tensor.function:
        return f"{tensor.scheme} {tensor.function}"
    return f"{tensor.scheme} of {len(tensor.parts)}" if tensor.parts else tensor.scheme


def shape_text(tensor: TensorDescription) -> str:
    """The shape, as in "1024 x 256", or "128 x 256 of 1024 x 256" for a part."""
    whole = _sizes(tensor.shape)
    if tensor.shard_shape == tensor.shape:
        return whole
    return f"{_sizes(tensor.shard_shape)} of {whole}"


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"


def values_text(tensor: TensorDescription) -> str:
    """The values in short: "std 0.02", "0", "-0.05 .. 0.05"; or the checkpoint they come from."""
    text = tensor.origin or _spread_text(tensor)
    if not tensor.zero_rows:
        return text
    rows = counted(tensor.zero_rows, "zero row")
    return f"{text}, {rows}" if text else rows


def _spread_text(tensor: TensorDescription) -> str:
    low, high, std = tensor.low, tensor.high, tensor.std
    if low is not None and low == high:
        return _number(low)
    bounds = "" if low is None or high is None else f"{_number(low)} .. {_number(high)}"
    if std is None or (
        low is not None
        and high is not None
        and math.isclose(std, (high - low) / math.sqrt(12.0), rel_tol=1e-9)
    ):
        # A uniform distribution is its bounds.
        return bounds
    text = f"std {_number(std)}"
    if tensor.mean:
        text = f"mean {_number(tensor.mean)}, {text}"
    return f"{text}, cut to {bounds}" if bounds else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.5g}" if value % 1 else f"{int(value)}"
