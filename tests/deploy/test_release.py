"""deploy/release.py: one commit and one tag, or a sentence and an untouched tree."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = _script()


def git(root: Path, *arguments: str) -> str:
    made = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with the files that a release changes, of version 1.2.0.dev0."""
    for path in (release.VERSION_FILE, release.CHANGELOG, release.CHART):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / release.VERSION_FILE).write_text('"""Text."""\n\n__version__ = "1.2.0.dev0"\n')
    (tmp_path / release.CHANGELOG).write_text(
        "# Changelog\n\nText.\n\n## Unreleased (1.2.0)\n\n- New.\n\n"
        "## 1.1.0 - 2020-01-01\n\n- Old.\n"
    )
    (tmp_path / release.CHART).write_text("name: a\nversion: 1.2.0\nappVersion: 1.2.0\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "config", "user.name", "t")
    git(tmp_path, "config", "user.email", "t@localhost")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_a_release_is_a_commit_and_a_tag_and_begins_the_next(tree: Path) -> None:
    assert release.main(["1.2.0"], tree) == 0
    assert git(tree, "log", "--format=%s") == "first"
    assert release.main(["1.2.0", "--write", "--next", "1.3.0"], tree) == 0
    assert git(tree, "log", "--format=%s").splitlines() == [
        "Begin 1.3.0",
        "initserve 1.2.0",
        "first",
    ]
    assert git(tree, "rev-parse", "v1.2.0^{commit}") == git(tree, "rev-parse", "HEAD~1")
    assert git(tree, "status", "--porcelain") == ""

    released = git(tree, "show", "v1.2.0:CHANGELOG.md")
    assert "## Unreleased" not in released
    assert "\n## 1.2.0 - 2" in released
    assert release.current(tree) == "1.3.0.dev0"
    for revision, version in (("v1.2.0", "1.2.0"), ("HEAD", "1.3.0")):
        chart = git(tree, "show", f"{revision}:{release.CHART.as_posix()}")
        assert chart.split("\n")[1:3] == [f"version: {version}", f"appVersion: {version}"]
    headings = [
        line
        for line in (tree / release.CHANGELOG).read_text().splitlines()
        if line.startswith("## ")
    ]
    assert headings[0] == "## Unreleased (1.3.0)"
    assert headings[1].startswith("## 1.2.0 - ")
    # There is nothing to release yet.
    assert release.main(["1.3.0", "--write"], tree) == 1


@pytest.mark.parametrize(
    ("arguments", "change", "reason"),
    [
        (["1.2"], "", "three numbers"),
        (["1.3.0"], "", "needs 1.3.0.dev0"),
        (["1.2.0", "--next", "1.2.0"], "", "does not come after"),
        (["1.2.0"], "changed", "has changes"),
        (["1.2.0"], "tagged", "the tag v1.2.0 exists"),
        (["1.2.0"], "no section", "has no section"),
    ],
)
def test_what_is_in_the_way_is_named_and_nothing_is_written(
    tree: Path,
    arguments: list[str],
    change: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changelog = tree / release.CHANGELOG
    if change == "changed":
        changelog.write_text("other")
    elif change == "tagged":
        git(tree, "tag", "v1.2.0")
    elif change == "no section":
        changelog.write_text("# Changelog\n\n## 1.1.0\n")
        git(tree, "commit", "--quiet", "--all", "--message", "second")
    before = git(tree, "rev-parse", "HEAD"), git(tree, "tag"), changelog.read_text()
    assert release.main([*arguments, "--write"], tree) == 1
    assert reason in capsys.readouterr().err
    assert before == (git(tree, "rev-parse", "HEAD"), git(tree, "tag"), changelog.read_text())


def test_this_tree_is_one_that_can_be_released() -> None:
    version = release.current(ROOT)
    assert version.endswith(".dev0")
    changelog = (ROOT / release.CHANGELOG).read_text("utf-8")
    assert "- " in release._section(changelog, version.removesuffix(".dev0"))
