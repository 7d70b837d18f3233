"""A description as JSON and as a table: the same text as from the libraries that take longer."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import pytest
from initcore import Plan, concatenate, layout, normal, ones, zeros
from initcore.file import Fingerprint
from initcore.show import Description, from_layout, json_text, print_description
from initcore.show.grouping import each
from initcore.show.table import _lines, _rows, _table, titles

from tests import plans

LAYERS = Plan({f"h.{i}.w": normal((4, 6)) for i in range(12)} | {"h.0.b": zeros((6,))})


def describe(plan: Plan) -> Description:
    return from_layout(layout(plan))


DESCRIPTIONS = {
    "schemes": describe(plans.every_scheme()),
    "odd names": describe(Plan({"a%s": ones((2,)), 'é"中\x1b': normal((3, 0)), "%": zeros(())})),
    "parts": describe(Plan({"a": concatenate({"p": normal((2, 3)), "q%": zeros((4, 3))})})),
    "empty": describe(Plan({})),
    "fingerprints": describe(LAYERS).with_fingerprints([Fingerprint()] * 13),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_json_is_that_of_the_json_module(name: str) -> None:
    description = DESCRIPTIONS[name]
    assert repr(description.to_dict()) == repr(asdict(description))
    assert "".join(json_text(description)) == json.dumps(asdict(description), indent=2)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_table_in_a_pipe_is_that_of_a_wide_terminal(name: str) -> None:
    from rich.console import Console

    shown = each(DESCRIPTIONS[name].tensors)
    columns = titles(DESCRIPTIONS[name], shown)
    rows = list(_rows(shown, True, columns))
    table, text = _table(columns, rows), io.StringIO()
    width = Console(file=text, width=10**6).measure(table).maximum
    Console(file=text, width=width).print(table)
    assert list(_lines(columns, rows)) == [line.rstrip() for line in text.getvalue().splitlines()]


def rows_of(description: Description, *, every: bool = False) -> list[list[str]]:
    text = io.StringIO()
    print_description(description, text, every=every)
    return [line.split() for line in text.getvalue().split("\n\n")[0].splitlines()]


def test_layers_that_repeat_share_a_row() -> None:
    head, _, *rows = rows_of(describe(LAYERS))
    assert head[:2] == ["tensor", "count"]
    assert [row[:2] + row[-2:] for row in rows] == [
        ["h.*.w", "12", "1.1", "KiB"],
        ["h.0.b", "1", "24", "B"],
    ]
    assert len(rows_of(describe(LAYERS), every=True)) == 2 + 13
    assert describe(LAYERS)._repr_html_().count("<tr>") == 1 + 2


def test_only_tensors_alike_share_a_row() -> None:
    """One that differs in shape, spread, element type or part has a row of its own."""
    base = dict.fromkeys(("h.0.w", "h.1.w"), normal((4, 6)))
    others = {
        "h.2.w": normal((6, 4)),
        "h.3.w": normal((4, 6), std=2.0),
        "h.4.w": normal((4, 6), dtype="bf16"),
        "h.5.w": normal((4, 6), zero_rows=[0]),
        "g.6.w": normal((4, 6)),
    }
    cut = Plan(base | others | {"h.7.w": normal((4, 6))}).shard({"h.7.w": (slice(0, 2),)})
    _, _, *rows = rows_of(describe(cut))
    assert [row[0] for row in rows] == ["h.*.w", *others, "h.7.w"]
    fingerprints = [Fingerprint(), Fingerprint((1, 2)), *[Fingerprint()] * 6]
    # Those with other values are other tensors.
    assert len(rows_of(describe(cut).with_fingerprints(fingerprints))) == len(rows) + 1 + 2
