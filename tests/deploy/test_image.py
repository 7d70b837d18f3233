"""The image: its Dockerfile, what it pins, and the cache that it brings along."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.manifests import DEPLOY, ROOT

LOCKS = {"cpu": ("server", "numba", "otel"), "cuda": ("server", "numba", "otel", "cuda12")}


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


LOCATOR = "initcore.backends.numba._cache.SeededCacheLocator"
SMALL = """
from numba import njit

@njit("int64(int64)", cache=True)
def after(x):
    return x + 1

assert after(41) == 42
"""


def start(package: Path, cache: Path, **more: str) -> str:
    """A process with the image's settings, and what Numba says of its cache."""
    environment = os.environ | {
        "PYTHONPATH": str(package),
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_CACHE_LOCATOR_CLASSES": LOCATOR,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_DEBUG_CACHE": "1",
        **more,
    }
    command = [sys.executable, "-c", "import small"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_image_brings_its_compiled_code_along(tmp_path: Path) -> None:
    # A module of one line stands for the backend, which takes ten seconds to compile.
    package = tmp_path / "package"
    package.mkdir()
    (package / "small.py").write_text(SMALL)
    built = start(package, tmp_path, NUMBA_CACHE_LOCATOR_CLASSES="InTreeCacheLocator")
    assert "data saved" in built
    seeds = {file: file.read_bytes() for file in (package / "__pycache__").glob("*.nb[ci]")}

    first = start(package, tmp_path / "cache")
    assert "data loaded" in first
    assert "data saved" not in first
    # For another processor it is compiled, into the folder that can be written.
    other = start(package, tmp_path / "cache", NUMBA_CPU_NAME="x86-64-v2", NUMBA_CPU_FEATURES="")
    assert "data saved" in other
    assert seeds == {file: file.read_bytes() for file in (package / "__pycache__").glob("*.nb[ci]")}


def test_the_image_names_the_locator_that_exists() -> None:
    module, _, name = LOCATOR.rpartition(".")
    assert f"NUMBA_CACHE_LOCATOR_CLASSES={LOCATOR} " in (DEPLOY / "Dockerfile").read_text()
    assert hasattr(importlib.import_module(module), name)
