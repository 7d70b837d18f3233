"""The digest of a large plan is computed in little memory, and while other threads run."""

from __future__ import annotations

import threading
import time
import tracemalloc

from initcore import Plan, normal
from initcore.file.digest import plan_digest
from initcore.resolve import resolve


def longest_hold(threads: int, work: threading.Thread) -> float:
    """The most processor time that this process used before one of some threads ran again."""
    holds: list[float] = []

    def watch() -> None:
        while work.is_alive():
            used = time.process_time()
            time.sleep(0.001)
            holds.append(time.process_time() - used)

    watching = [threading.Thread(target=watch) for _ in range(threads)]
    for thread in (work, *watching):
        thread.start()
    for thread in (work, *watching):
        thread.join()
    return max(holds)


def test_no_thread_waits_long_for_the_digest_of_a_plan_whose_tensors_all_differ() -> None:
    tensors = {f"{i}": normal((i + 3, 5), std=i + 0.5) for i in range(50_000)}
    resolved = resolve(Plan(tensors))
    work = threading.Thread(target=plan_digest, args=(1, resolved))
    assert longest_hold(3, work) < 0.1


def test_the_text_of_a_large_plan_never_exists_as_a_whole() -> None:
    """A name has four kilobytes, and its stream too: 24 MB of text in all."""
    tensors = {f"{i}" + "x" * 4000: normal((3, 5), stream=f"{i}" + "y" * 4000) for i in range(3000)}
    resolved = resolve(Plan(tensors))
    tracemalloc.start()
    try:
        plan_digest(1, resolved)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
