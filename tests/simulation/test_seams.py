"""The code that the simulation drives takes time, chance, threads and files from the machine."""

from __future__ import annotations

import ast
from pathlib import Path

import initclient
import pytest

ROOT = Path(initclient.__file__).parent

# Modules that a simulated process must not use directly. Their file's own reading is no step of a
# fetch: `verify` and `diff` read files with it.
FORBIDDEN = {"time", "random", "secrets", "concurrent"}
ON_FILES = {"os", "fcntl", "tempfile", "shutil"}
READS_ONLY = {"safetensors.py"}

FILES = [
    pytest.param(path, id=str(path.relative_to(ROOT)))
    for room in ("_transport", "_files", "_inspect", "_checking", ".")
    for path in sorted((ROOT / room).glob("*.py"))
]


@pytest.mark.parametrize("path", FILES)
def test_a_simulated_file_uses_no_clock_or_thread_of_its_own(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    forbidden = FORBIDDEN | (ON_FILES if path.parent.name == "_files" else set())
    found = imported & forbidden if path.name not in READS_ONLY else set()
    assert not found, (
        f"{path.name} imports {', '.join(sorted(found))}; take them from initclient._machine, so "
        "that the simulation decides what they do"
    )
    if path.parent.name not in ("_transport", "_files"):
        return
    threads = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "threading"
    }
    assert threads <= {"Lock"}, f"{path.name} uses threading.{threads - {'Lock'}}"
