"""Every limit and every metric is declared once, the server uses it, and the guide is right."""

from __future__ import annotations

import ast
import gc
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import initserver
import pytest
from initserver.config.limits import Limits
from initserver.values.metrics import Counter, Declaration, Gauge, Histogram, declarations

ROOT = Path(__file__).parents[2]
SOURCE = Path(initserver.__file__).parent
METHODS = {Counter: {"add"}, Gauge: {"add", "set"}, Histogram: {"observe"}}


@cache
def attributes(but: str) -> frozenset[tuple[str, str]]:
    """Each `x.NAME.OUTER` and `NAME.OUTER` of the server, without the file that declares."""
    # Read once for all tests. Python 3.11 may fail to parse (SystemError) if the collector of
    # garbage prints an exception meanwhile, since printing parses, too.
    gc.collect()
    found = set()
    for path in SOURCE.rglob("*.py"):
        if path == SOURCE / but:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                inner = node.value
                if isinstance(inner, ast.Attribute):
                    found.add((inner.attr, node.attr))
                elif isinstance(inner, ast.Name):
                    found.add((inner.id, node.attr))
    return frozenset(found)


@pytest.mark.parametrize("name", [one.name for one in fields(Limits)])
def test_every_limit_is_enforced(name: str) -> None:
    used = {
        attr for owner, attr in attributes("config/limits.py") if owner in {"limits", "_limits"}
    }
    assert name in used


@pytest.mark.parametrize("one", list(declarations()), ids=lambda one: one.name)
def test_every_metric_is_measured(one: Declaration) -> None:
    used = {method for name, method in attributes("values/metrics.py") if name == one.name}
    assert used & METHODS[one.kind]


@pytest.mark.parametrize("title", ["A new limit", "A new metric"])
def test_the_guide_names_files_that_exist(title: str) -> None:
    _, _, rest = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {title}\n")
    section = rest.partition("\n## ")[0]
    named = re.findall(r"`((?:server|docs|tests|deploy)/[^`]+)`", section)
    assert len(named) >= 4
    assert all((ROOT / path).exists() for path in named)
