"""Explaining: a composition as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from initclient._laws.cells import Cell
from initclient._laws.composition import Block, Composition, Joined, Normed, Repeated
from initclient._laws.distributions import law_text


def composition_lines(composition: Composition, indent: str) -> Iterator[str]:
    """Its laws and the lines of code that drew them, as lines of text.

    Args:
        composition: the composition.
        indent: blanks before each line.
    """
    if isinstance(composition, Joined):
        yield f"{indent}{len(composition.parts)} parts along axis {composition.axis}:"
        for part in composition.parts:
            yield from composition_lines(part, indent + "  ")
        return
    if isinstance(composition, Repeated):
        yield f"{indent}repeated to {list(composition.shape)}:"
        yield from composition_lines(composition.part, indent + "  ")
        return
    if isinstance(composition, Normed):
        of = f" of {composition.of}" if composition.of else ""
        but = f" but {', '.join(map(str, composition.axes))}" if composition.axes else ""
        yield f"{indent}norm{of} over all axes{but}, {list(composition.shape)}:"
        yield from composition_lines(composition.part, indent + "  ")
        return
    yield indent + _block_text(composition)
    seen: set[str] = set()
    for cell in composition.cells:
        for line in _sources(cell):
            if line not in seen and len(seen) < 8:
                seen.add(line)
                yield f"{indent}  {line}"


def _block_text(block: Block) -> str:
    rows = block.zero_rows
    text = f"{law_text(block.law)} {list(block.shape)}"
    if not rows:
        return text
    some = ", ".join(map(str, rows[:4])) + (", ..." if len(rows) > 4 else "")
    return f"{text}, zero in row{'s' if len(rows) > 1 else ''} {some}"


def _sources(cell: Cell) -> Iterator[str]:
    verbs = ["set" if not cell.uses else "drawn", *(["changed"] * len(cell.changes))]
    for verb, source in zip(verbs, cell.sources, strict=False):
        way = f" with {source.initializer}" if source.initializer else ""
        yield f"{verb}{way} at {source.decided}"
        if source.called != source.decided:
            yield f"called from {source.called}"
