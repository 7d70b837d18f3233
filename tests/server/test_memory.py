"""What a server settles about its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CHUNKS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from initserver.process.memory import settle

if "settled" in sys.argv:
    settle()

def chunks(count):
    for _ in range(count // 5):
        five = [b"x" * number for number in range(1 << 20, (1 << 20) + 5)]

with ThreadPoolExecutor(1) as pool:
    pool.submit(chunks, 50).result()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pool.submit(chunks, 500).result()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 500)
"""


def faults_per_chunk(*arguments: str, **environment: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", CHUNKS, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_memory_of_chunks_is_used_again() -> None:
    assert faults_per_chunk() > 20
    assert faults_per_chunk("settled") < 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_what_the_environment_says_of_memory_holds() -> None:
    assert faults_per_chunk("settled", MALLOC_TRIM_THRESHOLD_="131072") > 20
