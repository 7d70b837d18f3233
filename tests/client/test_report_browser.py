"""The report in a real browser: complete, no errors, readable in light and dark at any width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import pytest

from tests.client.browsers import LOOK, NAMES, Page, chromium
from tests.client.test_report import FIGURES, RECIPES, report

pytestmark = pytest.mark.skipif(
    chromium() is None,
    reason=f"no browser on PATH ({', '.join(NAMES)}); tests/client/test_report.py holds the "
    "page's markup, colours and figures without one",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = chromium()
    assert browser is not None
    with Page(browser, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_whole_and_readable(
    page: Page, tmp_path: Path, scheme: str, width: int
) -> None:
    path = report(tmp_path)
    page.open(path, width, scheme)
    look = page.evaluate(LOOK)
    assert page.complaints() == []
    assert page.requests() == [path.as_uri()]
    assert sorted(look["titles"]) == sorted(FIGURES)
    assert look["painted"] == len(FIGURES)
    assert look["marks"]
    assert look["contrast"] >= 4.5
    assert look["smallest"] >= 9.0
    assert look["overflow"] <= 0
    assert (sum(look["ground"][:3]) > 384) == (scheme == "light")
    # Lines are told apart in every scheme, by colour and by dashes.
    strokes = page.evaluate(
        "[...document.querySelectorAll('figure > svg .line')].map(e => "
        "getComputedStyle(e).stroke + getComputedStyle(e).strokeDasharray)"
    )
    assert len(set(strokes)) == len(RECIPES)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_lone_figure_fills_its_row_with_its_caption(
    page: Page, tmp_path: Path, width: int
) -> None:
    page.open(report(tmp_path), width, "light")
    lone = page.evaluate(
        "[...document.querySelectorAll('figure:only-child')].map(e => ["
        "e.getBoundingClientRect().width, e.parentElement.getBoundingClientRect().width, "
        "e.querySelector('figcaption').getBoundingClientRect().left])"
    )
    assert lone
    for own, row, caption in lone:
        assert own == row
        # Beside the figure where there is room, else below it.
        assert (caption > row / 2) == (width == 1280)


def test_a_reader_of_the_screen_hears_what_each_figure_shows(page: Page, tmp_path: Path) -> None:
    page.open(report(tmp_path), 1280, "light")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    images = [
        node["name"]["value"]
        for node in nodes
        if node["role"]["value"] in ("image", "img", "graphics-document") and "name" in node
    ]
    for title in FIGURES:
        assert any(name.startswith(title) and len(name) > len(title) for name in images), title


def test_no_name_of_a_tensor_becomes_code(page: Page, tmp_path: Path) -> None:
    names = ["<script>document.title='x'</script>", "<img src=x onerror=\"document.title='x'\">"]
    path = ic.plot({name: ic.normal((8, 8)) for name in names}, tmp_path / "r.html", title="safe")
    page.open(path, 1280, "light")
    assert page.complaints() == []
    assert page.evaluate("document.title") == "safe"
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    headings = "[...document.querySelectorAll('h3')].map(e => e.textContent)"
    assert page.evaluate(headings) == names
