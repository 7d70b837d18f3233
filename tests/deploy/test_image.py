"""The image: its Dockerfile, and the packages that it pins."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.manifests import DEPLOY, ROOT

LOCKS = {"cpu": ("server", "hub", "otel"), "cuda": ("server", "hub", "otel", "cuda12")}


def test_hadolint_finds_nothing() -> None:
    # Not by name alone: the environment of the tests need not be on the path.
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("target", LOCKS)
def test_bytecode_holds_when_the_times_of_files_change(target: str, tmp_path: Path) -> None:
    """As they do when buildah writes a layer: the image would compile its modules at each start."""
    stage = (
        (DEPLOY / "Dockerfile").read_text().split(f" AS build-{target}\n")[1].split("\nFROM ")[0]
    )
    (command,) = re.findall(r"python -m (compileall .*) /opt/initserve$", stage, re.M)
    source = tmp_path / "module.py"
    source.write_text("")
    subprocess.run([sys.executable, "-m", *shlex.split(command), tmp_path], check=True)
    os.utime(source, (0, source.stat().st_mtime + 1))
    done = subprocess.run(
        [sys.executable, "-v", "-c", "import module"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    (loaded,) = re.findall(r"^# code object from (.*module.*)$", done.stderr, re.M)
    assert loaded.endswith(".pyc'")


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
