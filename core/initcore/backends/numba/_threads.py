"""Sharing work among the CPUs this process may use.

Not Numba's own parallel loops: their default threading layer crashes when two threads
enter it, and servers do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

# Keyed by process: the threads of a parent are not there in its fork.
_pools: dict[int, ThreadPoolExecutor] = {}

# As many entries as threads are at work, keyed by process too.
_at_work: dict[int, deque[int]] = {}


def available_cpus() -> int:
    """How many threads work: INITSERVE_THREADS, else the CPUs this process may use."""
    wanted = os.environ.get("INITSERVE_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(task: Callable[[int], None], parts: Sequence[int], threads: int) -> None:
    """Calls task(part) for each part, on this thread and on others.

    This thread takes parts like the others, so it never waits for a pool that is busy
    with someone else's work, only for parts that are being worked on.

    Args:
        task: the work.
        parts: what it is called with.
        threads: how many work at most. They are fewer while other calls of this function use
            CPUs: more threads than CPUs only take turns, a tenth of a server's time.
    """
    left = deque(parts)

    def work() -> None:
        while True:
            try:
                part = left.popleft()
            except IndexError:
                return
            task(part)

    with _cpus_for(min(threads, len(parts))) as count:
        helpers = [_pool().submit(work) for _ in range(count - 1)]
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


@contextmanager
def _cpus_for(threads: int) -> Iterator[int]:
    """How many of these threads there are CPUs for: at least one, the caller's own."""
    # No lock, which a fork might copy locked: counted twice or not at all costs only time.
    at_work = _at_work.setdefault(os.getpid(), deque())
    count = max(1, min(threads, available_cpus() - len(at_work)))
    at_work.extend(range(count))
    try:
        yield count
    finally:
        for _ in range(count):
            at_work.pop()


def _pool() -> ThreadPoolExecutor:
    pool = _pools.get(os.getpid())
    if pool is None:
        # Two threads may both come here; an executor without work has no threads yet.
        new = ThreadPoolExecutor(available_cpus(), thread_name_prefix="initserve-numba")
        pool = _pools.setdefault(os.getpid(), new)
    return pool
