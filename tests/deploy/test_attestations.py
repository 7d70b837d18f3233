"""The bill of materials is valid CycloneDX and has all packages; the provenance names the build."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy.manifests import DEPLOY
from tests.deploy.test_image import pins

# As dpkg writes it; the last package was removed and has left its settings.
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.41-12
Description: GNU C Library: Shared libraries
 Contains the standard libraries.

Package: ca-certificates
Status: install ok installed
Architecture: all
Version: 20250419

Package: nano
Status: deinstall ok config-files
Architecture: amd64
Version: 8.4-1
"""
BASE = "docker.io/library/python:3.13-slim-trixie@sha256:" + "ab" * 32
DIGEST = "sha256:" + "cd" * 32


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the command writes for one target: the target, the bill, the provenance."""
    folder: Path = tmp_path_factory.mktemp("image")
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    words = {"--image": "registry.example.com/initserver", "--digest": DIGEST, "--base": BASE}
    words |= {"--version": "0.3.0", "--revision": "f" * 40, "--root": str(folder)}
    words |= {"--target": request.param, "--build-arg": "PIP_NO_INDEX=1", "--out": str(folder)}
    command = [sys.executable, str(DEPLOY / "image" / "attest.py")]
    subprocess.run([*command, *(part for pair in words.items() for part in pair)], check=True)
    files = [folder / name for name in ("sbom.cdx.json", "provenance.json")]
    return request.param, *(path.read_text() for path in files)


def test_the_bill_is_valid_and_has_every_package(made: Any) -> None:
    target, bill, _ = made
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    components = json.loads(bill)["components"]
    python = {one["name"]: one for one in components if one["purl"].startswith("pkg:pypi/")}
    assert {name: one["version"] for name, one in python.items()} == pins(target)
    assert all(one["hashes"] for one in python.values())
    debian = {one["purl"] for one in components if one["purl"].startswith("pkg:deb/")}
    assert debian == {
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:deb/debian/ca-certificates@20250419?arch=all",
    }


def test_the_release_attests_the_files_that_the_build_writes(made: Any) -> None:
    """The commands of the checklist are those of the page, and their files are these."""
    checklist, page = (
        re.findall(r"(?m)^(?: +|\$ )((?:cosign|jq) .*)$", path.read_text("utf-8"))
        for path in (DEPLOY / "release.py", DEPLOY.parent / "docs" / "kubernetes.md")
    )
    image = "registry.example.com/initserver@sha256:..."
    assert [line.replace("IMAGE@DIGEST", image) for line in checklist] == page
    sign, bill, cut, provenance = checklist
    assert sign == "cosign sign IMAGE@DIGEST"
    # What cosign calls these formats, and the files that hold them.
    assert "attest --type cyclonedx --predicate build/image/sbom.cdx.json " in bill
    assert json.loads(made[1])["bomFormat"] == "CycloneDX"
    assert "attest --type slsaprovenance1 --predicate build/image/predicate.json " in provenance
    statement = json.loads(made[2])
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    # cosign makes the statement around the predicate itself.
    assert cut == "jq .predicate build/image/provenance.json > build/image/predicate.json"
    assert set(statement["predicate"]) == {"buildDefinition", "runDetails"}


def test_the_provenance_names_image_commit_base_and_lock(made: Any) -> None:
    target, _, text = made
    statement = json.loads(text)
    assert statement["subject"] == [
        {"name": "registry.example.com/initserver", "digest": {"sha256": "cd" * 32}}
    ]
    build = statement["predicate"]["buildDefinition"]
    digests = [one["digest"] for one in build["resolvedDependencies"]]
    lock = (DEPLOY / f"image/requirements/{target}.txt").read_bytes()
    assert digests == [
        {"gitCommit": "f" * 40},
        {"sha256": sha256(lock).hexdigest()},
        {"sha256": "ab" * 32},
    ]
    assert build["externalParameters"]["arguments"] == {"PIP_NO_INDEX": "1"}
    times = statement["predicate"]["runDetails"]["metadata"]
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", one) for one in times.values())
