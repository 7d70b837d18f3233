"""Descriptions as a table on a terminal, or as plain text in a file or a pipe."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from initcore.show.description import Description, TensorDescription
from initcore.show.text import counted, printable, size_text

if TYPE_CHECKING:
    from rich.table import Table

RIGHT = ("fan in", "fan out", "bytes")
"""The columns of numbers, which stand to the right."""

_TITLES = ("tensor", "shape", "dtype", "scheme", "fan in", "fan out", "values", "bytes")


def print_description(description: Description, out: TextIO, *, parts: bool = False) -> None:
    """Writes the table, the totals, the digest, the warnings and the remarks.

    On a terminal the table takes its width and long names wrap; in a file or a pipe it is
    as wide as its content, without control characters. With `parts`, composed tensors are
    followed by what they are made of.
    """
    from rich.console import Console

    table = _table(description, parts)
    below = "\n".join(totals(description))
    if out.isatty():
        Console(file=out).print(table)
        print(f"\n{below}", file=out)
        return
    text = io.StringIO()
    width = Console(file=text, width=10**6).measure(table).maximum
    Console(file=text, width=max(1, width)).print(table)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    print("\n".join(lines), below, sep="\n\n", file=out)


def _table(description: Description, parts: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    columns = titles(description)
    for title in columns:
        if title in RIGHT:
            table.add_column(title, justify="right")
        elif title == "fingerprint":
            table.add_column(title, no_wrap=True)
        else:
            table.add_column(title, overflow="ellipsis" if title == "values" else "fold")
    for depth, tensor in _rows(description.tensors, parts):
        first, *rest = cells(tensor, columns)
        table.add_row(Text("  " * depth + first), *map(Text, rest))
    return table


def titles(description: Description) -> list[str]:
    """The titles of the table's columns."""
    has_fingerprints = any(tensor.fingerprint for tensor in description.tensors)
    return [*_TITLES, *(["fingerprint"] if has_fingerprints else [])]


def cells(tensor: TensorDescription, columns: Sequence[str]) -> list[str]:
    """The cells of a tensor, one for each column."""
    texts = (
        tensor.name,
        shape_text(tensor),
        tensor.dtype,
        scheme_text(tensor),
        _number(tensor.fan_in),
        _number(tensor.fan_out),
        values_text(tensor),
        size_text(tensor.nbytes),
        tensor.fingerprint or "",
    )
    # Names come from users and may look like control codes or markup.
    return ["".join(c if c.isprintable() else "?" for c in s) for s in texts[: len(columns)]]


def _rows(
    tensors: Iterable[TensorDescription], parts: bool, depth: int = 0
) -> Iterator[tuple[int, TensorDescription]]:
    for tensor in tensors:
        yield depth, tensor
        if parts:
            yield from _rows(tensor.parts, parts, depth + 1)


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
    if description.checkpoints is not None:
        lines.append(f"checkpoints: all that the plan takes is in {description.checkpoints}")
    lines += [f"warning: {printable(text)}" for text in description.warnings]
    return lines + [f"note: {printable(text)}" for text in description.remarks]


def scheme_text(tensor: TensorDescription) -> str:
    """The scheme, with the number of parts of a composed tensor, as in "stack of 8"."""
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
