"""A description as JSON and as a table: the same text as from the libraries that take longer."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import pytest
from initcore import Plan, apply, concatenate, layout, normal, ones, zeros
from initcore.file import Fingerprint
from initcore.show import Description, from_layout, json_text, print_description
from initcore.show.grouping import groups
from initcore.show.table import _rows, titles
from rich.cells import cell_len

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


class Terminal(io.StringIO):
    """A terminal, as wide as the variable COLUMNS says."""

    def isatty(self) -> bool:
        return True


def shown(description: Description, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the table on a terminal, without the totals."""
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    print_description(description, terminal, parts=True)
    return terminal.getvalue().split("\n\n")[0].splitlines()


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_wide_terminal_shows_what_a_pipe_gets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    print_description(DESCRIPTIONS[name], text, parts=True)
    expected = text.getvalue().split("\n\n")[0].splitlines()
    widest = max(map(cell_len, expected))
    assert shown(DESCRIPTIONS[name], widest, monkeypatch) == expected
    assert {cell_len(line) for line in expected[1:2]} == {widest}


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_narrow_terminal_breaks_no_name_and_no_number(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = DESCRIPTIONS[name]
    if not description.tensors:
        return
    rows = list(_rows(groups(description.tensors), True, titles(description, [])))
    lines = shown(description, columns, monkeypatch)
    if set(lines[1]) == {"─"}:
        assert len(lines[1]) <= columns
        return
    for row in rows:
        first = lines.index(row[0])
        below = next((i for i in range(first + 1, len(lines)) if lines[i][:2] != "  "), len(lines))
        for cell in row[1:]:
            assert any(cell in line for line in lines[first + 1 : below])
    for line in lines:
        # A single name, or a single cell, may be longer.
        assert cell_len(line) <= columns or "  " not in line.strip()


def test_a_terminal_that_has_ascii_alone_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    print_description(DESCRIPTIONS["schemes"], text)
    text.flush()
    assert raw.getvalue().splitlines()[1].strip(b"-") == b""


def rows_of(description: Description, *, every: bool = False) -> list[list[str]]:
    text = io.StringIO()
    print_description(description, text, every=every)
    return [line.split() for line in text.getvalue().split("\n\n")[0].splitlines()]


def test_the_function_of_a_tensor_is_shown() -> None:
    x = {"x": normal((4,))}
    made = {"a": apply(x, "exp"), "b": apply(x, "clamp", a=-1, b=2.5)}
    described = from_layout(layout(Plan(made)))
    assert [tensor.function for tensor in described.tensors] == ["exp", "clamp(a=-1, b=2.5)"]
    assert "apply exp" in str(described)
    assert "apply clamp(a=-1, b=2.5)" in str(described)
    assert json.loads("".join(json_text(described)))["tensors"][0]["function"] == "exp"


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
