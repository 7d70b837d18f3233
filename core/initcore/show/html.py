"""Descriptions as an HTML table, for notebooks."""

from __future__ import annotations

from html import escape

from initcore.show.description import Description
from initcore.show.grouping import groups
from initcore.show.table import RIGHT, cells, titles, totals


def html_table(description: Description) -> str:
    """The table of a description, with the totals, the digest, warnings and remarks below it."""
    shown = groups(description.tensors)
    columns = titles(description, shown)
    styles = [f' style="text-align: {"right" if c in RIGHT else "left"}"' for c in columns]
    head = "".join(f"<th{s}>{c}</th>" for s, c in zip(styles, columns, strict=True))
    rows = "".join(f"<tr>{_cells(styles, cells(group, columns))}</tr>" for group in shown)
    below = "<br>".join(escape(line) for line in totals(description))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{below}</p>"


def _cells(styles: list[str], texts: list[str]) -> str:
    # Names come from users and may look like markup.
    return "".join(f"<td{s}>{escape(text)}</td>" for s, text in zip(styles, texts, strict=True))
