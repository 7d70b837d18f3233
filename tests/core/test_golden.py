"""The golden vectors: the bits of stream v1, for every scheme, on every backend.

They never change. What this file holds against the product was written once, before the
version that brought it; a test below fails if somebody edits them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from initcore import VirtualFile, layout
from initcore.backends import Backend
from initcore.backends.cupy import CupyBackend
from initcore.plan import SCHEMES
from initcore.wire.plan_file import plan_from_form

from tests import native_targets

FOLDER = Path(__file__).parent.parent / "golden"

FROZEN = {
    # Release: its files, and the SHA-256 of their names and digests.
    "0.1": ("*.json", "8adcfa05df3ae92de95deaa724ce3764c7225b43d6bd303e59f6fec16909cf68"),
    "0.2": ("composed/*.json", "2eccac4afedf9c9960f602d09f50543d8d38b58fe555536f94912970296dc75e"),
    "0.3": ("derived/*.json", "1cfa1042a02f58d182f6e87445494ad0297358b8acc54aeb99b1f03264604857"),
}
FILES = {release: sorted(FOLDER.glob(pattern)) for release, (pattern, _) in FROZEN.items()}
ALL_FILES = [path for files in FILES.values() for path in files]


def cases() -> list[Any]:
    found = []
    for path in ALL_FILES:
        for number, case in enumerate(json.loads(path.read_text("utf-8"))["cases"]):
            (tensor,) = case["plan"]["tensors"]
            name = f"{path.stem}-{number}-{tensor['name']}-{tensor['dtype']}"
            found.append(pytest.param(case, id=name))
    return found


def check(case: dict[str, Any], backend: Backend) -> None:
    """Holds a backend to a golden case; tests/gpu uses it too."""
    laid_out = layout(plan_from_form(case["plan"]))
    assert laid_out.digest == case["digest"]
    (entry,) = laid_out.entries
    data = VirtualFile(laid_out, backend).read(entry.begin, entry.end - entry.begin)
    assert bytes(data[:64]).hex() == case["head"]
    assert hashlib.sha256(data).hexdigest() == case["sha256"]


@pytest.mark.parametrize("backend", ["numpy", *native_targets.NAMES])
@pytest.mark.parametrize("case", cases())
def test_the_bits_are_the_golden_ones(case: dict[str, Any], backend: str) -> None:
    check(case, native_targets.backend_of(backend))


@pytest.mark.parametrize("case", cases())
def test_the_cuda_source_has_the_golden_bits(case: dict[str, Any], cupy: Any) -> None:
    check(case, CupyBackend(cupy))


def test_every_scheme_has_golden_vectors() -> None:
    """Zero rows have too; the values of `pretrained` come from elsewhere."""
    names = [path.stem for path in ALL_FILES]
    assert sorted(names) == sorted([*(SCHEMES.keys() - {"pretrained"}), "zero_rows"])


def test_every_golden_file_belongs_to_a_release() -> None:
    assert sorted(ALL_FILES) == sorted(FOLDER.rglob("*.json"))


@pytest.mark.parametrize("release", FROZEN)
def test_nobody_edited_the_golden_vectors(release: str) -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES[release]}
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    assert hashlib.sha256(listed.encode()).hexdigest() == FROZEN[release][1]
