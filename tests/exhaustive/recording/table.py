"""The results as the tables of docs/torch.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

_COVERAGE = ("library", "recorded", "parameters", "in the plan", "refused", "buffers", "left out")
_COMPARISON = ("library", "compared", "tensors", "equal", "random", "moved", "KS tests", "least p")
_RECIPES = ("recipe", "refuses", "equal", "differs, with a warning", "differs in silence")


def tables(rows: list[Row]) -> str:
    """Markdown: what plans have, what was compared, and every parameter that is refused."""
    lines = [*_table(_COVERAGE, _coverage(rows)), "", *_table(_COMPARISON, _comparison(rows)), ""]
    lines += [*_table(_RECIPES, _recipes(rows)), ""]
    for row in rows:
        for name, reason in row.get("refused", {}).items():
            lines.append(f"- {row['library']} {row['name']}, `{name}`: {reason.partition(' (')[0]}")
    for row in rows:
        for key in ("wrong", "still", "no_value", "unlike", "silent"):
            if row.get(key):
                lines.append(f"- {row['library']} {row['name']}, {key}: {row[key]}")
    return "\n".join(lines)


def _coverage(rows: list[Row]) -> Iterator[list[str]]:
    for library, found, made in _by_library(rows, "coverage"):
        whole, kept = _sum(made, "parameters"), _sum(made, "in_plan")
        left = sum(len(row["buffers_left"]) for row in made)
        counts = (whole, kept, whole - kept, _sum(made, "buffers"), left)
        yield [library, f"{len(made)} of {len(found)}", *(f"{count:,}" for count in counts)]


def _comparison(rows: list[Row]) -> Iterator[list[str]]:
    for library, found, made in _by_library(rows, "comparison"):
        equal = _sum(made, "equal")
        whole = equal + sum(len(row["wrong"]) + len(row["no_value"]) for row in made)
        tests = sum(row["tested"] + row.get("pieces", 0) for row in made)
        counts = (whole, equal, _sum(made, "random"), _sum(made, "moved"), tests)
        least = min((row["least_p"] for row in made), default=1.0)
        numbers = [f"{count:,}" for count in counts]
        yield [library, f"{len(made)} of {len(found)}", *numbers, f"{least:.1g}"]


def _recipes(rows: list[Row]) -> Iterator[list[str]]:
    made = [row for row in rows if row["way"] == "recipes" and "error" not in row]
    keys = ("refuse", "equal", "differ", "silent")
    for recipe in sorted({name for row in made for key in keys for name in row[key]}):
        counts = [sum(recipe in row[key] for row in made) for key in keys]
        yield [f"`{recipe}`", *(f"{count:,}" for count in counts)]


def _by_library(rows: list[Row], way: str) -> Iterator[tuple[str, list[Row], list[Row]]]:
    for library in dict.fromkeys(row["library"] for row in rows):
        found = [row for row in rows if row["library"] == library and row["way"] == way]
        if found:
            yield library, found, [row for row in found if "error" not in row]


def _sum(rows: list[Row], key: str) -> int:
    return sum(row[key] for row in rows)


def _table(titles: tuple[str, ...], cells: Iterator[list[str]]) -> list[str]:
    rule = ["---", *["---:" for _ in titles[1:]]]
    return [f"| {' | '.join(row)} |" for row in (titles, rule, *cells)]
