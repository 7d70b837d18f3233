"""Builds the site of docs/: lays out its pages, runs the generator strictly, checks every link.

    make site                          # in an environment of its own, into build/site/html
    python docs/site/build.py          # the same, where zensical and mkdocstrings-python are
    python -m http.server -d build/site/html           # shows it, with the search

The pages of docs/ are taken as they are. Links that leave docs/ (an example, a manifest, the
changelog) lead to copies within the site, so that the site needs no other host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "site"
BUILD = ROOT / "build" / "site"

# Links in Markdown, outside of code: [text](target) and ![text](target).
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)

# The source of a function or class, as the search index has it.
_SOURCE = re.compile(r"Source code in <code>.*?</code> *<pre>.*?</pre>", re.DOTALL)

# How files of the repository that pages link to are shown.
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".proto": "protobuf", ".sh": "sh"}


def place(path: Path) -> str:
    """Where a file or folder of the repository is in the site, as a path below its pages."""
    name = path.relative_to(ROOT)
    if name.parts[:2] == ("docs", "site"):
        return name.relative_to("docs/site").as_posix()
    if name.parts[0] == "docs":
        return name.relative_to("docs").as_posix()
    if name.name == "README.md" and len(name.parts) == 1:
        return "index.md"
    if path.suffix == ".md" and len(name.parts) == 1:
        return f"project/{name.name.lower()}"
    if path.suffix in (".svg", ".png"):
        return f"images/{name.name}"
    if path.suffix == ".md":
        return f"files/{name.as_posix()}"
    return f"files/{name.as_posix()}.md"


def links(text: str) -> Iterator[re.Match[str]]:
    """The links of a page, outside of code."""
    code = [match.span() for match in _CODE.finditer(text)]
    for match in _LINK.finditer(text):
        if not any(start <= match.start() < end for start, end in code):
            yield match


def moved(source: Path, text: str) -> tuple[str, set[Path]]:
    """A page of the repository with the links of the site, and the files that it links to."""
    here = place(source)
    found: set[Path] = set()
    parts, end = [], 0
    for match in links(text):
        target = match[2]
        parts.append(text[end : match.start(2)])
        end = match.end(2)
        if not re.match(r"[a-z]+:|#", target):
            name, _, anchor = target.partition("#")
            path = Path(os.path.normpath(source.parent / name))
            if not path.exists():
                raise SystemExit(f"{source.relative_to(ROOT)}: the link {target} leads nowhere")
            found.add(path)
            target = os.path.relpath(place(path), Path(here).parent) + (f"#{anchor}" * bool(anchor))
        parts.append(target)
    return plain("".join(parts) + text[end:]), found


def plain(text: str) -> str:
    """Marks `X[i][j]` in prose as no link: none of our pages has links with names."""
    code = [match.span() for match in _CODE.finditer(text)]

    def marked(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in code)
        return match[0] if inside else "]\\["

    return re.sub(r"\]\[", marked, text)


def shown(path: Path) -> str:
    """A page with a file, or with each file of a folder."""
    name = path.relative_to(ROOT).as_posix()
    files = [path]
    if path.is_dir():
        tracked = subprocess.run(
            ["git", "ls-files", "--", name], cwd=ROOT, capture_output=True, text=True, check=True
        )
        files = [ROOT / one for one in tracked.stdout.split()]
    blocks = [
        f"## {file.relative_to(ROOT).as_posix()}\n\n"
        f"````{_LANGUAGES.get(file.suffix, 'text')}\n{file.read_text('utf-8').rstrip()}\n````\n"
        for file in files
    ]
    return f"# {name}\n\n" + "\n".join(blocks)


def lay_out(folder: Path) -> int:
    """Writes all pages of the site into a folder, with the files they link to; counts them."""
    todo = [*ROOT.glob("docs/*.md"), *HERE.rglob("*.md")]
    todo += [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    todo += [ROOT / "CODE_OF_CONDUCT.md"]
    done: set[Path] = {ROOT / "README.md"}  # docs/site/index.md stands in its place
    while todo:
        path = todo.pop()
        if path in done:
            continue
        done.add(path)
        target = folder / place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".svg", ".png"):
            shutil.copy(path, target)
        elif path.suffix == ".md":
            text, found = moved(path, path.read_text("utf-8"))
            target.write_text(text, "utf-8")
            todo += found
        else:
            target.write_text(shown(path), "utf-8")
    return len(done)


class _Page(HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


def dead_links(folder: Path) -> list[str]:
    """Links within a built site that lead to no page, no file or no anchor."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        page = pages[path] = _Page()
        page.feed(path.read_text("utf-8"))
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a host
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (
                Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            )
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (anchor and target in pages and anchor not in known):
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def missing_names(folder: Path) -> list[str]:
    """Names of the reference (`::: initclient.fetch`) that a built site does not describe."""
    missing = []
    for source in HERE.glob("reference/*.md"):
        page = _Page()
        page.feed((folder / "reference" / f"{source.stem}.html").read_text("utf-8"))
        names = re.findall(r"^::: (\S+)$", source.read_text("utf-8"), re.MULTILINE)
        missing += [name for name in names if name not in page.anchors]
    return missing


def missing_sources(folder: Path) -> list[str]:
    """Functions and classes of the reference whose source a built site does not show."""
    missing = []
    for source in HERE.glob("reference/*.md"):
        text = (folder / "reference" / f"{source.stem}.html").read_text("utf-8")
        names = re.findall(r"^::: (\S+)$", source.read_text("utf-8"), re.MULTILINE)
        parts = re.split("|".join(f'(?=id="{re.escape(name)}")' for name in names), text)
        # A value, such as a version, has none, and is shown with its value.
        missing += [
            name
            for name, part in zip(names, parts[1:], strict=True)
            if "Source code in" not in part
            and "doc-attribute-name" not in part.partition("</h3>")[0]
        ]
    return missing


def search_no_source(path: Path) -> None:
    """Takes the source of functions and classes out of a search index: it would hide the texts."""
    index = json.loads(path.read_text("utf-8"))
    for item in index["items"]:
        item["text"] = _SOURCE.sub("", item["text"])
    path.write_text(json.dumps(index), "utf-8")


def main() -> int:
    """Builds the site; the exit status is 0 if no warning came and no link is dead."""
    began = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    count = lay_out(BUILD / "pages")
    shutil.copy(HERE / "zensical.toml", BUILD)
    shutil.copy(HERE / "extra.css", BUILD / "pages")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(
        command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # What reads the docstrings warns, and lets a strict build go on.
    if done.returncode or re.search(r"griffe|warning", done.stdout, re.IGNORECASE):
        print(done.stdout, file=sys.stderr)
        return 1
    search_no_source(BUILD / "html" / "search.json")
    faults = [f"dead link in {line}" for line in dead_links(BUILD / "html")]
    faults += [f"the reference lacks {name}" for name in missing_names(BUILD / "html")]
    faults += [f"the reference has no source of {name}" for name in missing_sources(BUILD / "html")]
    for line in faults:
        print(line, file=sys.stderr)
    if not faults:
        print(f"{count} pages in {time.monotonic() - began:.0f} s: {BUILD / 'html' / 'index.html'}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
