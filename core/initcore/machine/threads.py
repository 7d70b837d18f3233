"""Sharing work among the CPUs that this process may use.

Threads of Python: compiled code that they call holds no lock, so all of them run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from initcore.machine.cpus import available_cpus

# Keyed by process: a fork does not have the threads of its parent.
_pools: dict[int, ThreadPoolExecutor] = {}

# As many entries as threads are at work, keyed by process too.
_at_work: dict[int, deque[int]] = {}


def run_all(task: Callable[[int], None], parts: Sequence[int], threads: int) -> None:
    """Calls task(part) for each part, on this thread and on others.

    This thread takes parts like the others, so it never waits for a pool that is busy with the
    work of other calls, only for parts that have begun.

    Args:
        task: the work.
        parts: what it is called with.
        threads: how many work at most. There are fewer while other calls of this function use
            CPUs: more threads than CPUs would cost a server a tenth of its time in switches.

    Raises:
        BaseException: the first error of a part, or what interrupts this thread (Ctrl-C); either
            way no thread is at work on a part any more.
    """
    left = deque(parts)
    helpers: list[Future[None]] = []
    begun: list[Event] = []
    # No lock, which a fork might copy while it is held: a wrong count costs only time.
    at_work = _at_work.setdefault(os.getpid(), deque())

    def help_out() -> None:
        ended = Event()
        # Before it takes a part, so that the caller knows of each helper that has one.
        begun.append(ended)
        try:
            for part in _taken(left):
                task(part)
        finally:
            _ended(at_work)
            ended.set()

    at_work.append(0)
    try:
        for part in _taken(left):
            # Before each part, since CPUs become free when other calls end.
            while len(helpers) < min(threads - 1, len(left)) and len(at_work) < available_cpus():
                at_work.append(0)
                try:
                    helpers.append(_pool().submit(help_out))
                except RuntimeError:
                    # No more threads, or the interpreter is shutting down: work alone.
                    _ended(at_work)
                    break
            task(part)
    finally:
        # A helper that has not begun is cancelled. One that has must end before the caller uses
        # the output or frees it.
        left.clear()
        for helper in helpers:
            if helper.cancel():
                _ended(at_work)
        _ended(at_work)
        _wait_for(begun)
    for helper in helpers:
        error = None if helper.cancelled() else helper.exception()
        if error is not None:
            raise error


def _wait_for(begun: list[Event]) -> None:
    """Waits until all are set; what interrupts it, such as Ctrl-C, is raised afterwards.

    The helpers write by address: memory that an interrupt freed earlier may be another's by then.
    """
    interrupt: BaseException | None = None
    while True:
        try:
            for ended in begun:
                ended.wait()
            break
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _taken(left: deque[int]) -> Iterator[int]:
    """Parts until there are none; any number of threads take from the same ones."""
    while left:
        try:
            part = left.popleft()
        except IndexError:
            return
        yield part


def _ended(at_work: deque[int]) -> None:
    with suppress(IndexError):
        at_work.pop()


def _pool() -> ThreadPoolExecutor:
    pool = _pools.get(os.getpid())
    if pool is None:
        # Two threads may both create one; an executor without work has no threads yet.
        new = ThreadPoolExecutor(available_cpus(), thread_name_prefix="initserve-fill")
        pool = _pools.setdefault(os.getpid(), new)
    return pool
