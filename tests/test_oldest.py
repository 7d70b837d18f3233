"""The oldest releases that pyproject.toml allows are those that `make test-oldest` runs on."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent

# fully_shard is public from 2.6; only 2.13 has a CPU build that installs without CUDA.
NEWER = {"torch"}


def test_every_lower_bound_is_what_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    wanted += [text for name in ("server", "hub", "otel", "jax", "torch") for text in extras[name]]
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    pins = {r.name: r for r in map(Requirement, [x for x in lines if x and x[0] != "#"])}
    assert set(pins) == {Requirement(text).name for text in wanted}
    for requirement in map(Requirement, wanted):
        (least,) = (one.version for one in requirement.specifier if one.operator == ">=")
        (pinned,) = (one.version for one in pins[requirement.name].specifier)
        assert requirement.specifier.contains(pinned)
        is_least = [*map(int, pinned.split("."))][: least.count(".") + 1] == [
            *map(int, least.split("."))
        ]
        assert is_least or requirement.name in NEWER, f"{requirement} is tested with {pinned}"


def test_the_page_of_versions_has_the_same_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["torch"], *extras["jax"]]
    least = {
        requirement.name.lower(): one.version
        for requirement in map(Requirement, wanted)
        for one in requirement.specifier
        if one.operator == ">="
    }
    least["python"] = project["requires-python"].removeprefix(">=")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "support.md").read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    # The page has another table, of platforms, with two columns.
    shown = {row[0].lower(): row[1] for row in rows if len(row) == 3}
    named = {name: version for name, version in least.items() if name in shown}
    assert len(named) == 8
    assert named == {name: shown[name] for name in named}
