"""The Hub endpoint's pages in a real browser: no errors, readable at any width, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from initcore import Plan
from initserver import Server

from tests.client.browsers import LOOK, NAMES, Page, chromium
from tests.server.hub import llama, put, serving

pytestmark = pytest.mark.skipif(
    chromium() is None,
    reason=f"no browser on PATH ({', '.join(NAMES)}); tests/server/test_hub_pages.py holds the "
    "pages' markup and links without one",
)

LONG = "org/a-model-with-quite-a-long-name-instruct-v0.{}"
PATHS = ["/", "/?search=small", "/acme/small", f"/{LONG.format(3)}", "/-/plot/acme/small"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    recorded = Plan(llama().tensors, seed=7, provenance={"model": "nets.Llama" + "X" * 80})
    put(models / "acme" / "small", recorded, "seeds: open\n")
    # So many that the list can be searched.
    for number in range(25):
        put(models / LONG.format(number), llama(number))
    with serving(models) as server:
        yield server


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = chromium()
    assert browser is not None
    with Page(browser, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_readable_and_loads_nothing(
    page: Page, server: Server, path: str, scheme: str, width: int
) -> None:
    address = f"http://{server.hub_address}{path}"
    page.open(address, width, scheme)
    look = page.evaluate(LOOK)
    assert page.complaints() == []
    assert page.requests() == [address]
    assert look["contrast"] >= 4.5
    assert look["smallest"] >= 9.0
    assert look["overflow"] <= 0
    assert (sum(look["ground"][:3]) > 384) == (scheme == "light")


def test_a_phone_shows_every_column_of_the_list_and_the_whole_command(
    page: Page, server: Server
) -> None:
    """Without scrolling to the side, however long the names are."""
    hidden = (
        "[...document.querySelectorAll('{}')].filter(e => e.scrollWidth > e.clientWidth).length"
    )
    page.open(f"http://{server.hub_address}/", 390, "light")
    assert page.evaluate("document.querySelectorAll('td').length") == 4 * 26
    assert page.evaluate(hidden.format(".scroll")) == 0
    page.open(f"http://{server.hub_address}/{LONG.format(3)}", 390, "light")
    assert "from_pretrained" in page.evaluate("document.querySelector('pre').textContent")
    assert page.evaluate(hidden.format("pre")) == 0
    # Of the table of tensors, the first columns.
    right = "document.querySelectorAll('td')[{}].getBoundingClientRect().right"
    assert page.evaluate(right.format(2)) <= 390
