"""The image: its Dockerfile, and the packages that it pins."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.manifests import DEPLOY, ROOT

LOCKS = {"cpu": ("server", "otel"), "cuda": ("server", "otel", "cuda12")}


def test_hadolint_finds_nothing() -> None:
    # Not by name alone: the environment of the tests need not be on the path.
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_what_the_project_asks_for(name: str) -> None:
    """A range in pyproject.toml that the pinned version left behind would show here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in LOCKS[name]:
        asked += project["optional-dependencies"][extra]
    pinned = pins(name)
    for one in map(Requirement, asked):
        assert one.specifier.contains(pinned[one.name.lower().replace("_", "-")]), one


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_everything_in_a_lock_has_hashes(name: str) -> None:
    text = (DEPLOY / f"image/requirements/{name}.txt").read_text()
    requirements = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    assert len(requirements) == len(pins(name))
    assert all("--hash=sha256:" in one for one in requirements)


def pins(name: str) -> dict[str, str]:
    text = (DEPLOY / f"image/requirements/{name}.txt").read_text()
    found = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s\\;]+)", text, re.M))
    assert found
    return found
