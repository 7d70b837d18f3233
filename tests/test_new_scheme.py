"""What a new scheme needs, as CONTRIBUTING.md lists it: every scheme has it, and nothing else does.

Builders, formulas and the wire are held by tests/test_walls.py, the page of plans by
tests/test_pages.py, golden vectors by tests/core/test_golden.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from initclient._plan import scaled
from initcore import Tensor
from initcore.plan import SCHEMES

from tests import plans
from tests.reimplementation import stream_v1

ROOT = Path(__file__).parent.parent
SECTION = (
    (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## A new scheme")[1].split("\n## ")[0]
)
TABLE = [
    path
    for cell in re.findall(r"^\| (`[^|]*) \|", SECTION, re.MULTILINE)
    for path in re.findall(r"`([^`]+)`", cell)
]
FOLDERS = ("benchmarks", "client", "core", "docs", "examples", "protos", "server", "tests")
# These hold examples, captures of terminals and results of measurements, not code.
DATA = (".json", ".yaml", ".pyc", ".txt")


def names_in(text: str) -> set[str]:
    words = set(re.findall(r"[a-z0-9_]+", text.lower()))
    return {name for name in SCHEMES if name in words}


def sources() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [*ROOT.glob("*.md"), *found]


def test_the_files_of_the_table_exist() -> None:
    assert len(TABLE) == len(set(TABLE)) > 10
    for path in TABLE:
        assert (ROOT / path).exists(), path


def test_no_other_file_lists_the_schemes() -> None:
    """A file lists them if it names two in three of them."""
    texts = (path for path in sources() if path.suffix not in DATA)
    listing = {
        str(path.relative_to(ROOT))
        for path in texts
        if 3 * len(names_in(path.read_text("utf-8", errors="replace"))) >= 2 * len(SCHEMES)
    }
    assert len(listing) > 5
    assert listing <= set(TABLE)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_defined_on_the_page_of_the_stream(name: str) -> None:
    page = (ROOT / "docs" / "stream-v1.md").read_text("utf-8")
    assert name in names_in(page)


def every_case() -> list[Tensor]:
    groups = [plans.CASES, *plans.LATER_CASES.values()]
    return [tensor for cases in groups for tensor in cases.values()]


def test_every_scheme_has_a_case() -> None:
    """The values of `pretrained` come from elsewhere."""
    assert {tensor.scheme for tensor in every_case()} == SCHEMES.keys() - {"pretrained"}


def test_every_scheme_is_written_again() -> None:
    """`pretrained` has no rule of its own on the page."""
    assert stream_v1.DEFAULTS.keys() == SCHEMES.keys() - {"pretrained"}


def test_every_scheme_but_dirac_and_pretrained_is_multiplied_by_a_factor() -> None:
    fixed = {tensor.scheme for tensor in every_case() if scaled(tensor, 0.5) is None}
    assert fixed == {"dirac"}
