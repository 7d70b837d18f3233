"""Sharing work among the CPUs this process may use.

Not Numba's own parallel loops: their default threading layer crashes when two threads
enter it, and servers do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

# Keyed by process: the threads of a parent are not there in its fork.
_pools: dict[int, ThreadPoolExecutor] = {}


def available_cpus() -> int:
    """How many threads work: INITSERVE_THREADS, else the CPUs this process may use."""
    wanted = os.environ.get("INITSERVE_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(task: Callable[[int], None], parts: Sequence[int], threads: int) -> None:
    """Calls task(part) for each part, on this thread and on threads - 1 others.

    This thread takes parts like the others, so it never waits for a pool that is busy
    with someone else's work, only for parts that are being worked on.
    """
    left = deque(parts)

    def work() -> None:
        while True:
            try:
                part = left.popleft()
            except IndexError:
                return
            task(part)

    helpers = [_pool().submit(work) for _ in range(min(threads, len(parts)) - 1)]
    try:
        work()
    finally:
        # One that has not begun finds nothing to do. One that has must end before the
        # caller may use the output, or free it.
        left.clear()
        waited = [helper.exception() for helper in helpers if not helper.cancel()]
    for error in waited:
        if error is not None:
            raise error


def _pool() -> ThreadPoolExecutor:
    pool = _pools.get(os.getpid())
    if pool is None:
        # Two threads may both come here; an executor without work has no threads yet.
        new = ThreadPoolExecutor(available_cpus(), thread_name_prefix="initserve-numba")
        pool = _pools.setdefault(os.getpid(), new)
    return pool
