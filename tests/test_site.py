"""The site: every public name is in its reference, every page in its contents, every link lives."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.test_walls import MAP, PACKAGES

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"
PUBLIC = (
    "initclient",
    "initclient.torch",
    "initclient.jax",
    "initclient.aio",
    "initclient.recipes",
    "initcore",
    "initserver",
)
REFERENCE = {path: path.read_text("utf-8") for path in sorted(SITE.glob("reference/*.md"))}


def documented() -> list[str]:
    return re.findall(r"^::: (\S+)$", "\n".join(REFERENCE.values()), re.M)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    core = REFERENCE[SITE / "reference" / "core.md"]
    for name in module(package).__all__:
        if f"{package}.{name}" in documented():
            continue
        # initcore's and initserver's names that initclient exports are described there, once.
        client = module("initclient")
        same = getattr(client, name, None) is getattr(module(package), name)
        assert package != "initclient", f"{name} is missing in docs/site/reference"
        assert same, f"{package}.{name} is missing in docs/site/reference"
        assert f"`{name}`" in core or name in client._builders.__all__ or package == "initserver"


# They raise nothing of their own: a rule's initializers, and a list of names.
WITHOUT_ERRORS = {
    "initclient.recipes.names",
    "initclient.torch.given",
    "initclient.torch.keep",
}


def test_every_function_of_the_reference_says_what_it_raises() -> None:
    silent = set()
    for page, text in REFERENCE.items():
        for full in re.findall(r"^::: (\S+)$", text, re.M):
            package, _, name = full.rpartition(".")
            value = getattr(module(package), name)
            raises = not inspect.isfunction(value) or "Raises:" in (value.__doc__ or "")
            # Of those that are all alike, the page says it.
            if not raises and not (page.name in ("schemes.md", "aio.md") and "rror" in text):
                silent.add(full)
    assert silent == WITHOUT_ERRORS


def test_the_reference_has_nothing_twice_and_nothing_that_is_not_public() -> None:
    names = documented()
    assert len(names) == len(set(names))
    for full in names:
        package, _, name = full.rpartition(".")
        assert name in module(package).__all__, full


def contents(entries: Any) -> list[str]:
    """The pages of a table of contents, from the top to the bottom."""
    if isinstance(entries, str):
        return [entries]
    if isinstance(entries, dict):
        entries = list(entries.values())
    return [page for one in entries for page in contents(one)]


def test_every_page_is_in_the_contents() -> None:
    listed = contents(tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"])
    pages = {path.name for path in ROOT.glob("docs/*.md")}
    pages |= {path.relative_to(SITE).as_posix() for path in SITE.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert pages == {page for page in listed if not page.startswith("project/")}


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def built_by() -> ModuleType:
    return script(SITE / "build.py")


def test_the_picture_of_the_readme_is_what_its_script_draws() -> None:
    drawn = script(ROOT / "docs" / "figures" / "one_plan.py")
    assert drawn.picture() == (ROOT / "docs" / "figures" / "one_plan.svg").read_text("utf-8")
    assert drawn.DIGEST in (ROOT / "docs" / "layouts.md").read_text("utf-8")


def test_pages_are_laid_out_with_the_files_that_they_link_to(tmp_path: Path) -> None:
    build = built_by()
    build.lay_out(tmp_path)
    assert "cpu" in (tmp_path / "files" / "deploy" / "overlays" / "cpu.md").read_text()
    page = (tmp_path / "torch.md").read_text()
    assert "(files/examples/torch_fsdp2.py.md)" in page
    assert "import initclient.torch" in (tmp_path / "files/examples/torch_fsdp2.py.md").read_text()
    assert (tmp_path / "images" / "serving.svg").exists()
    # Code is left alone.
    assert "](" not in page or "```python" in page


def test_dead_links_of_a_built_site_are_found(tmp_path: Path) -> None:
    build = built_by()
    (tmp_path / "a.html").write_text('<a href="b.html#one">1</a><a href="https://x.example/">2</a>')
    (tmp_path / "b.html").write_text('<h1 id="one">1</h1><a href="a.html">2</a>')
    assert build.dead_links(tmp_path) == []
    (tmp_path / "b.html").write_text('<h1 id="two">1</h1><a href="c.html">2</a>')
    assert build.dead_links(tmp_path) == ["a.html: b.html#one", "b.html: c.html"]


def test_a_function_without_source_is_found_and_a_value_needs_none(tmp_path: Path) -> None:
    build = built_by()
    for path, text in REFERENCE.items():
        sections = "".join(
            f'<h3 id="{name}">{name}</h3>Source code in a.py'
            for name in re.findall(r"^::: (\S+)$", text, re.M)
        )
        page = tmp_path / "reference" / f"{path.stem}.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(sections)
    assert build.missing_sources(tmp_path) == []
    page = tmp_path / "reference" / "fetch.html"
    version = '<h3 id="initclient.__version__">'
    without = page.read_text().replace("Source code in a.py", "")
    page.write_text(without.replace(version, version + '<span class="doc-attribute-name">'))
    missing = build.missing_sources(tmp_path)
    assert "initclient.fetch" in missing
    assert "initclient.__version__" not in missing


def test_the_search_finds_texts_and_no_source(tmp_path: Path) -> None:
    text = (
        "The weights. Source code in <code>a.py</code> <pre><code>def fetch()</code></pre> After."
    )
    (tmp_path / "search.json").write_text(json.dumps({"items": [{"text": text}]}))
    built_by().search_no_source(tmp_path / "search.json")
    (item,) = json.loads((tmp_path / "search.json").read_text())["items"]
    assert item["text"] == "The weights.  After."


def test_the_design_speaks_of_rooms_that_exist() -> None:
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    rooms = {room for rows in MAP.values() for room in rows}
    for row in re.findall(r"^\| .* \| (`.*?) \| .* \|$", page, re.M):
        named = re.findall(r"`([\w.]+)`", row)
        assert set(named) <= rooms, row
    for path in re.findall(r"`((?:core|client|server)/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path
    assert set(PACKAGES) <= set(re.findall(r"\binit\w+", page))
