"""A herd of callers that want the same values costs each of them once.

Callers make wishes. The first wish for a key starts the work, on a pool; wishes that come
while it runs wait for it; a bounded cache answers those that come later. What follows:

- Nobody waits inside the pool, so the pool's threads are free for the work itself. Work
  that needs other values (a chunk that lies in an orthogonal matrix) is queued only when
  they are there.
- No lock is held while anything is made, or while anybody is called.
- A wish that is dropped stops waiting at once. Work without a wish left is taken back if
  it has not begun, and told to end (`Pulse`) if it has.
- Work that fails fails for the first in line alone; the next one tries for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from initcore.generate import Pulse

from initserver.share.caches import Cache

V = TypeVar("V")


class DroppedError(Exception):
    """Nobody wants the value any more."""


class CacheObserver(Protocol):
    """Hears what becomes of values."""

    def shared(self) -> None:
        """A value came from the cache or from work for somebody else."""

    def kept(self, nbytes: int) -> None:
        """The cache holds this many bytes."""

    def evicted(self) -> None:
        """A value left the cache to make room."""


class Wish(Generic[V]):
    """One caller's wish for a value."""

    def __init__(self, task: Task[V], drop: Callable[[Wish[V]], None]) -> None:
        self.task = task
        self.future: Future[V] = Future()
        self._drop = drop

    def waits(self, seconds: float) -> Iterator[None]:
        """A turn for each so many seconds in which the value is not there yet."""
        # Not concurrent.futures.wait: it does not hear of wishes that are dropped.
        while not self.future.done():
            try:
                self.future.exception(seconds)
            except TimeoutError:
                yield
            except CancelledError:
                return

    def result(self) -> V:
        """Waits for the value.

        Raises:
            DroppedError: as soon as the wish is dropped.
            Exception: what the work raised, for the first in line.
        """
        try:
            return self.future.result()
        except CancelledError as error:
            raise DroppedError from error

    def drop(self) -> None:
        """Stops waiting. Does nothing to a wish that has been fulfilled."""
        if self.future.cancel():
            self._drop(self)

    def fulfil(self, value: V) -> None:
        """Hands the value over, unless the wish was dropped."""
        with suppress(InvalidStateError):
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Hands an error over, unless the wish was dropped."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True)
class Task(Generic[V]):
    """How a value is made.

    Attributes:
        key: equal for equal values.
        make: makes it. Takes the values of `needs`, in order, and a pulse to call now and
            then during long work.
        pool: where.
        needs: each wishes for a value that has to exist before this one can be made.
        whole: where it takes time to find out the pool and the needs: a task that has them.
            Called only if the value is neither there nor being made.
    """

    key: Hashable
    make: Callable[[Sequence[Any], Pulse], V]
    pool: Executor
    needs: Sequence[Callable[[], Wish[Any]]] = ()
    whole: Callable[[], Task[V]] | None = None


@dataclass(eq=False)
class _Work(Generic[V]):
    """A task on its way, and the wishes for it, first in line first."""

    task: Task[V]
    wishes: list[Wish[V]]
    needs: list[Wish[Any]] = field(default_factory=list)
    missing: int = 0
    dropped: bool = False

    def pulse(self) -> None:
        if self.dropped:
            raise DroppedError


class Herd(Generic[V]):
    """Makes each value once for all who want it at the same time, and keeps recent ones.

    Args:
        cache: what keeps them; the herd's alone.
        observer: hears what becomes of values.
    """

    def __init__(self, cache: Cache[V], observer: CacheObserver | None = None) -> None:
        self._cache = cache
        self._observer = observer
        self._lock = threading.Lock()
        self._works: dict[Hashable, _Work[V]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether a wish for this key would cost nothing new."""
        with self._lock:
            return key in self._cache or key in self._works

    def wish(self, task: Task[V]) -> Wish[V]:
        """Wishes for a value; the answer waits for it."""
        wish = Wish(task, self._forget)
        started = None
        with self._lock:
            kept = self._cache.get(task.key)
            if kept is None:
                work = self._works.get(task.key)
                if work:
                    work.wishes.append(wish)
                else:
                    started = self._works[task.key] = _Work(task, [wish])
        if kept is not None:
            wish.fulfil(kept)
        if started:
            self._start(started)
        elif self._observer:
            self._observer.shared()
        return wish

    def _start(self, work: _Work[V]) -> None:
        task = work.task
        if task.whole:
            try:
                task = work.task = task.whole()
            except BaseException as error:
                self._failed(work, error)
                return
        work.missing = len(task.needs) + 1
        for need in task.needs:
            wish = need()
            with self._lock:
                dropped = work.dropped
                work.needs.append(wish)
            if dropped:
                wish.drop()
            wish.future.add_done_callback(lambda _: self._one_less(work))
        # The one above len(needs): nothing is queued before all of them are asked for.
        self._one_less(work)

    def _one_less(self, work: _Work[V]) -> None:
        with self._lock:
            work.missing -= 1
            if work.missing or work.dropped:
                return
        try:
            work.task.pool.submit(self._run, work)
        except RuntimeError as error:
            # The pool is shut down: the server is on its way out.
            self._failed(work, error)

    def _run(self, work: _Work[V]) -> None:
        if work.dropped:
            return
        try:
            values = [wish.result() for wish in work.needs]
            value = work.task.make(values, work.pulse)
        except BaseException as error:
            self._failed(work, error)
            return
        finally:
            work.needs.clear()
        with self._lock:
            if self._works.get(work.task.key) is work:
                del self._works[work.task.key]
            evicted = self._cache.put(work.task.key, value)
            nbytes = self._cache.nbytes
            wishes = tuple(work.wishes)
        for wish in wishes:
            wish.fulfil(value)
        if self._observer:
            self._observer.kept(nbytes)
            for _ in range(evicted):
                self._observer.evicted()

    def _failed(self, work: _Work[V], error: BaseException) -> None:
        """Tells the first in line; the next one starts anew, with a task of its own."""
        again = None
        with self._lock:
            key = work.task.key
            first = work.wishes[0] if work.wishes else None
            others = work.wishes[1:]
            if self._works.get(key) is work:
                del self._works[key]
                if others:
                    again = self._works[key] = _Work(others[0].task, others)
        if first:
            first.fail(error)
        if again:
            self._start(again)

    def _forget(self, wish: Wish[V]) -> None:
        """Takes a dropped wish out of its line, and ends work that nobody waits for."""
        needs: list[Wish[Any]] = []
        with self._lock:
            work = self._works.get(wish.task.key)
            if work and wish in work.wishes:
                work.wishes.remove(wish)
                if not work.wishes:
                    # Whoever comes now starts anew: this work may be about to end.
                    work.dropped = True
                    del self._works[wish.task.key]
                    needs = list(work.needs)
        for need in needs:
            need.drop()
