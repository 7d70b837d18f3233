"""A process that has used a client may fork: no child crashes or hangs, and all fetch right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORKS = int(os.environ.get("FORKS", "150"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_children_of_a_process_with_a_used_client_fetch_the_right_bits(target: str) -> None:
    command = [sys.executable, "-m", "tests.client.forking", str(FORKS), target]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"of {FORKS} children: {{'right': {FORKS}}}" in run.stdout
