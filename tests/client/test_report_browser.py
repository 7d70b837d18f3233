"""The report in a real browser: complete, no errors, readable in light and dark at any width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import pytest

from tests.client.browsers import NAMES, Page, chromium
from tests.client.test_report import FIGURES, RECIPES, report

pytestmark = pytest.mark.skipif(
    chromium() is None,
    reason=f"no browser on PATH ({', '.join(NAMES)}); tests/client/test_report.py holds the "
    "page's markup, colours and figures without one",
)

# The contrast of each text with what is painted behind it, as WCAG 2.2 defines it; boxes that
# a reader sees, with their widths; what sticks out of the window.
_LOOK = """(() => {
  const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
    return [255, 255, 255]; };
  const contrast = (a, b) => { const [x, y] = [light(a.slice(0, 3)), light(b.slice(0, 3))];
    return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
  document.querySelectorAll('details').forEach(d => d.open = true);
  const texts = [...document.querySelectorAll('h1,h2,h3,p,dt,dd,li,td,th,summary,figcaption,code,svg text')]
    .filter(e => e.textContent.trim());
  const colour = e => rgb(e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color);
  const figures = [...document.querySelectorAll('figure > svg')];
  return {
    contrast: Math.min(...texts.map(e => contrast(colour(e), ground(e)))),
    ground: ground(document.body),
    smallest: Math.min(...texts.map(e => e instanceof SVGElement
      ? 11 * e.ownerSVGElement.getBoundingClientRect().width / 360 : parseFloat(getComputedStyle(e).fontSize))),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    titles: figures.map(f => f.querySelector('title').textContent),
    painted: figures.filter(f => { const b = f.getBoundingClientRect(); return b.width > 200 && b.height > 100; }).length,
    marks: figures.every(f => [...f.querySelectorAll('.bars,.dot,.line')].some(m => {
      const b = m.getBoundingClientRect(); return b.width > 0 || b.height > 0; })),
  };
})()"""  # noqa: E501


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
    look = page.evaluate(_LOOK)
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
