"""What a server settles about its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest
from initcore import Plan, VirtualFile, layout, normal
from initcore.backends import load
from initserver import Limits
from initserver.values import plans

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


PLANS = """
import gc, sys
from initcore import Plan, layout, normal
from initserver.process.memory import settle

if "settled" in sys.argv:
    settle()
else:
    gc.disable()
kept = [
    layout(Plan({f"{n}": normal((n + 3, 5), std=n + 1) for n in range(20_000)}, seed=seed))
    for seed in range(2)
]
print(len(gc.get_objects()))
"""


def objects_to_collect(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PLANS, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_collection_of_garbage_passes_over_large_plans() -> None:
    """A hundred thousand objects take ten milliseconds, in which no thread runs."""
    assert objects_to_collect() > 400_000
    assert objects_to_collect("settled") < 320_000


def test_a_large_layout_is_freed_some_tensors_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed at once, it would keep all other threads from running."""
    recent = plans.RecentPlans(Limits(), load("numpy"))
    tensors = {str(n): normal((2, n + 1), std=1) for n in range(2500)}
    plan = Plan(tensors, seed=7)
    del tensors
    read = VirtualFile(layout(plan), load("numpy"))
    alive = [weakref.ref(entry.tensor) for entry in read.layout.entries]
    alive += [weakref.ref(tensor) for tensor in plan.tensors.values()]
    del plan
    left: list[int] = []

    def sleep(_: float) -> None:
        left.append(sum(one() is not None for one in alive))

    # Of this module alone: other threads of the tests sleep too.
    monkeypatch.setattr(plans, "time", SimpleNamespace(sleep=sleep))
    recent._evicted(read)
    gone = threading.Event()
    recent._freeing.submit(gone.wait)
    assert left == []  # it is still read
    del read
    gone.set()
    recent._freeing.submit(int).result()  # its one thread has freed all
    assert left == [5000, 4000, 3000, 2000, 1000]
    assert not any(one() for one in alive)
    recent.close()
