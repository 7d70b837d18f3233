"""Processes fetch that were started by a process that has fetched, as data loaders do."""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys

import initclient as ic
import pytest

PLAN = ic.Plan({"w": ic.normal((600, 1000))}, seed=1)


def digest(target: str) -> str:
    return hashlib.sha256(ic.fetch(PLAN, target=target, timeout=30)["w"].data).hexdigest()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child(method: str, target: str) -> None:
    expected = digest(target)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(digest, [target]) == expected


# In a process of its own: one with threads, such as this one with its server, must not fork.
FORK = """
import multiprocessing, sys
from tests.client.test_processes import digest
expected = digest(sys.argv[1])
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(digest, [sys.argv[1]] * 4) == [expected] * 4
assert digest(sys.argv[1]) == expected
print("equal")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forking is for Linux")
def test_a_forked_child(target: str) -> None:
    command = [sys.executable, "-c", FORK, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout == "equal\n", done.stderr
