"""Explaining: a composition as text for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from initclient._laws.cells import Cell
from initclient._laws.composition import Block, Composition, Joined, Normed, Repeated, blocks
from initclient._laws.distributions import Applied, Uniform, law_text


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


def guard_notes(
    compositions: Mapping[str, Composition | None], framework: str, once_in: int
) -> Iterator[str]:
    """A sentence for each function before which a plan clamps a draw to the least one above 0.

    Args:
        compositions: the composition of each tensor, by name; None if no plan can have it.
        framework: the framework's name.
        once_in: in how many numbers it draws 0, for most element types.
    """
    guarded: dict[str, dict[str, None]] = {}
    for name, composition in compositions.items():
        for text, often in () if composition is None else _guards(composition):
            chance = f"{text}, of which {framework} draws 0 once in {_count(often or once_in)}"
            guarded.setdefault(chance, {})[name] = None
    for text, (first, *others) in guarded.items():
        more = f" and {len(others)} more" if others else ""
        yield (
            f"{first}{more}: {text} numbers; the plan clamps it to its least draw above 0 before "
            "the function"
        )


def _count(number: int) -> str:
    """A number for people: powers of two that are large as such."""
    power = number.bit_length() - 1
    return f"2^{power}" if power > 16 and number == 1 << power else f"{number:,}"


def _guards(composition: Composition) -> Iterator[tuple[str, int | None]]:
    """Each function after a clamp of the plan's own, and in how many draws of its law one is 0."""
    for block in blocks(composition):
        law = block.law
        while isinstance(law, Applied):
            inner = law.law
            if isinstance(inner, Applied) and inner.is_guard:
                drawn = inner.law
                often = drawn.once_in if isinstance(drawn, Uniform) else None
                yield f"{law.function} of {law_text(drawn)}", often
            law = inner


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


def unknown(name: str, known: Iterable[str], what: str) -> KeyError:
    """The error for a name that a recording does not have, with a name that is close.

    Args:
        name: the name.
        known: the names that it has.
        what: what has no such name, as a clause.
    """
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return KeyError(f"{name!r}: {what} of this name{hint}")
