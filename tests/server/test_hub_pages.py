"""Pages of the Hub endpoint for people: the list of models, one model, its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import initclient as ic
import pytest
from initcore import Plan, normal
from initserver import Server

from tests.server.hub import ask, llama, put, serving

ODD = Plan({"<script>alert(1)</script>": normal((8, 8))})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    put(models / "acme" / "small", llama(), "seeds: open\n")
    put(models / "odd", ODD)
    with serving(models) as server:
        yield server


class Markup(HTMLParser):
    """The elements of a page that could run or load something, and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loading: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "iframe", "img", "object", "embed") or "src" in given:
            self.loading.append(tag)
        self.loading += [name for name in given if name.startswith("on")]
        href = given.get("href") or ""
        if tag == "a":
            self.links.append(href)
        elif href and href != "data:," and not href.startswith("#"):
            self.loading.append(href)


def page(server: Server, path: str) -> str:
    reply = ask(server, path)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert ask(server, path, "HEAD").headers["Content-Length"] == str(len(reply.body))
    text = reply.body.decode()
    assert Markup(text).loading == []
    assert "Content-Security-Policy" in text
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    return text


def test_the_list_leads_to_every_model_and_file(server: Server) -> None:
    links = Markup(page(server, "/")).links
    assert links == ["/acme/small", "/odd"]
    for link in links:
        further = Markup(page(server, link)).links
        assert {f"/-/plot{link}", "/"} < set(further)
        files = [one.rpartition("/")[2] for one in further if one.startswith(f"{link}/resolve/")]
        assert {"config.json", "model.safetensors", "plan.yaml"} <= set(files)
        for one in further:
            assert ask(server, one, "HEAD").status == 200, one


def test_the_page_of_a_model_has_the_table_of_describe(server: Server) -> None:
    text = page(server, "/acme/small")
    assert llama().digest in text
    assert ic.describe(llama(), target="local")._repr_html_() in text
    assert "seed-N" in text
    assert "seed-N" not in page(server, "/odd")
    commit = ask(server, "/api/models/acme/small").json()["sha"]
    assert text.count(commit) >= 2


def test_the_provenance_of_a_plan_is_on_its_page_and_in_its_files(
    server: Server, tmp_path: Path
) -> None:
    came_from = {"model": "nets.Tiny<b>", "torch": "2.13.0"}
    plan = Plan({"w": normal((8, 8))}, seed=3, provenance=came_from)
    put(tmp_path / "models" / "recorded", plan, "seeds: open\n")
    with serving(tmp_path / "models") as other:
        for revision in ("main", "seed-4"):
            body = ask(other, f"/recorded/resolve/{revision}/model.safetensors").body
            wanted = plan.with_seed(4) if revision == "seed-4" else plan
            here = ic.fetch_file(wanted, tmp_path / revision, shard_size="5GB", target="local")
            assert body == (here / "model.safetensors").read_bytes()
            assert b'"initserve.provenance.torch":"2.13.0"' in body
        text = page(other, "/recorded")
    assert "nets.Tiny&lt;b&gt;" in text
    assert "nets.Tiny<b>" not in text


def test_the_figures_are_those_of_plot(server: Server) -> None:
    text = page(server, "/-/plot/acme/small")
    assert "<svg" in text
    assert llama().digest in text
    assert page(server, "/-/plot/odd")


def test_names_and_hosts_are_no_markup(server: Server) -> None:
    text = page(server, "/odd")
    assert "&lt;script&gt;" in text
    reply = ask(server, "/odd", Host="<b>evil</b>")
    assert reply.status in (200, 400)
    assert b"<b>evil" not in reply.body
    assert ask(server, "/none").code == "RepoNotFound"
    assert re.search(r"HF_ENDPOINT=http://127\.0\.0\.1:\d+", text)


def test_a_thousand_models_are_listed_quickly(tmp_path: Path) -> None:
    for number in range(1000):
        place = tmp_path / f"org{number % 10}" / f"model{number}"
        place.mkdir(parents=True)
        (place / "plan.yaml").write_text(
            f"seed: {number}\ntensors:\n- name: w\n  shape: [4, 4]\n  scheme: NORMAL\n"
        )
    with serving(tmp_path) as server:
        whole = ask(server, "/").body
        assert whole.count(b"<tr>") == 1001
        # A page that a phone loads at once.
        assert len(whole) < 250_000
        found = page(server, "/?search=ORG7+model99")
        assert [link for link in Markup(found).links if link != "/"] == [
            *("/org7/model997",),
        ]
        assert "1 of 1,000 models" in found
        odd = page(server, "/?search=%3Cscript%3E")
        assert "<script>" not in odd
        assert 'value="&lt;script&gt;"' in odd
        assert "0 of 1,000 models" in odd
        assert len(ask(server, "/api/models").json()) == 1000
