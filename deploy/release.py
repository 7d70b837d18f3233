"""Makes a release: the version, the changelog's heading, a commit and a tag. Pushes nothing.

  python deploy/release.py 0.3.0                  checks alone: what a release would do, and what is in its way
  python deploy/release.py 0.3.0 --write          writes, commits and tags
  python deploy/release.py 0.3.0 --write --next 0.4.0
                                                  and begins the next version with a commit of its own

Then, by hand, since they publish:
  1. `.ci/run` in a fresh clone of the tag
  2. `make wheels`, and `sha256sum dist/* > dist/SHA256SUMS`; upload them with the attestations of PyPI's
     trusted publishing
  3. `deploy/build-and-check.sh --push IMAGE`, which prints the digest; then sign the image, and attest what it
     is made of and how it was built:
       cosign sign IMAGE@DIGEST
       cosign attest --type cyclonedx --predicate build/image/sbom.cdx.json IMAGE@DIGEST
       jq .predicate build/image/provenance.json > build/image/predicate.json
       cosign attest --type slsaprovenance1 --predicate build/image/predicate.json IMAGE@DIGEST
  4. push the commit and the tag
"""  # noqa: E501 - the examples of the help stand as they are typed

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = Path("core", "initcore", "_version.py")
CHANGELOG = Path("CHANGELOG.md")
CHART = Path("deploy", "chart", "Chart.yaml")

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_VERSION_LINE = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)


class Hindrance(Exception):  # noqa: N818 - what is in the way of a release
    """The release cannot be made; the text says why, and what to do."""


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="the version to release, for example 0.3.0")
    parser.add_argument("--write", action="store_true", help="write, commit and tag")
    parser.add_argument("--next", metavar="VERSION", help="begin this version afterwards")
    options = parser.parse_args(arguments)
    try:
        check(root, options.version, options.next)
        if options.write:
            release(root, options.version, datetime.date.today())
            if options.next:
                begin(root, options.next)
    except Hindrance as hindrance:
        print(f"release: {hindrance}", file=sys.stderr)
        return 1
    done = "made" if options.write else "can be made; --write makes it"
    print(f"release {options.version} {done}")
    return 0


def check(root: Path, version: str, following: str | None = None) -> None:
    """Looks for whatever is in the way of a release.

    Raises:
        Hindrance: for the first thing found.
    """
    for given in (version, *([following] if following else [])):
        if not _VERSION.fullmatch(given):
            raise Hindrance(f"{given!r} is no version; give three numbers, for example 0.3.0")
    now = current(root)
    if now != f"{version}.dev0":
        raise Hindrance(
            f"{VERSION_FILE} has version {now}; a release of {version} needs {version}.dev0"
        )
    if following and _numbers(following) <= _numbers(version):
        raise Hindrance(f"the next version, {following}, does not come after {version}")
    if _git(root, "status", "--porcelain"):
        raise Hindrance("the working tree has changes; commit or stash them")
    if _git(root, "tag", "--list", f"v{version}"):
        raise Hindrance(f"the tag v{version} exists")
    section = _section((root / CHANGELOG).read_text("utf-8"), version)
    if not re.search(r"^- ", section, re.MULTILINE):
        raise Hindrance(f"{CHANGELOG} says nothing below 'Unreleased ({version})'")


def release(root: Path, version: str, day: datetime.date) -> None:
    """Writes version and heading, commits and tags."""
    _set_version(root, version)
    changelog = root / CHANGELOG
    text = changelog.read_text("utf-8")
    text = text.replace(_heading(version), f"## {version} - {day.isoformat()}\n", 1)
    changelog.write_text(text, "utf-8")
    _commit(root, f"initserve {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"initserve {version}")


def begin(root: Path, version: str) -> None:
    """Begins a version: its number, and an empty section of the changelog."""
    _set_version(root, f"{version}.dev0")
    changelog = root / CHANGELOG
    text = changelog.read_text("utf-8")
    first = text.index("\n## ")
    changelog.write_text(f"{text[:first]}\n{_heading(version)}{text[first:]}", "utf-8")
    _commit(root, f"Begin {version}")


def current(root: Path) -> str:
    """The version in the tree."""
    found = _VERSION_LINE.search((root / VERSION_FILE).read_text("utf-8"))
    if found is None:
        raise Hindrance(f"{VERSION_FILE} has no line __version__")
    return found[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _heading(version: str) -> str:
    return f"## Unreleased ({version})\n"


def _section(changelog: str, version: str) -> str:
    """The text below the heading of a version that is not released yet."""
    _, found, rest = changelog.partition(_heading(version))
    if not found:
        raise Hindrance(f"{CHANGELOG} has no section 'Unreleased ({version})'")
    return rest.partition("\n## ")[0]


def _set_version(root: Path, version: str) -> None:
    path = root / VERSION_FILE
    text = path.read_text("utf-8")
    path.write_text(_VERSION_LINE.sub(f'__version__ = "{version}"', text), "utf-8")
    line = rf"\g<1>: {version.removesuffix('.dev0')}"
    text = (root / CHART).read_text("utf-8")
    text = re.sub("^(version|appVersion): .*$", line, text, flags=re.MULTILINE)
    (root / CHART).write_text(text, "utf-8")


def _commit(root: Path, message: str) -> None:
    files = map(str, (VERSION_FILE, CHANGELOG, CHART))
    _git(root, "commit", "--quiet", "--message", message, *files)


def _git(root: Path, *arguments: str) -> str:
    made = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise Hindrance(f"git {arguments[0]}: {made.stderr.strip()}")
    return made.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
