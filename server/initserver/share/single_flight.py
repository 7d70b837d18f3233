"""Single flight: callers that want the same value at the same time share one computation.

A caller joins with a task. The first task of a key starts a flight: its work runs on a pool.
Callers that join while the flight is on its way wait for it, and a bounded cache answers those
that come later. The waiters of a flight are its reference count: when the last one leaves, the
flight is cancelled. Consequences:

- No thread of a pool ever waits for another value, so pools keep their threads for work. Work
  that needs other values (a chunk that lies in an orthogonal matrix) is queued only when they
  are there.
- No lock is held while work runs, or during a callback.
- A waiter that leaves stops waiting at once. The work of a cancelled flight is skipped if it
  has not begun; if it has, its next call of `pulse` raises.
- An error goes to the first waiter alone; the next waiter's task starts a new flight.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from initcore.generate import Pulse

from initserver.share.caches import Cache

V = TypeVar("V")


class LeftError(Exception):
    """The waiter has left, or the flight was cancelled because its last waiter has."""


class CacheObserver(Protocol):
    """Counts how values are shared and kept."""

    def shared(self) -> None:
        """A value came from the cache or from a flight that was on its way."""

    def kept(self, nbytes: int, /) -> None:
        """The cache holds this many bytes."""

    def evicted(self, count: int, /) -> None:
        """The cache evicted this many values."""


@dataclass(frozen=True)
class Task(Generic[V]):
    """How to make a value.

    Attributes:
        key: equal for equal values.
        make: makes the value. Takes the values of `needs`, in order, and a pulse to call now
            and then during long work.
        pool: where `make` runs.
        needs: values that have to exist before this one can be made. Each function joins
            another flight.
    """

    key: Hashable
    make: Callable[[Sequence[Any], Pulse], V]
    pool: Executor
    needs: Sequence[Callable[[], Waiter[Any]]] = ()


@dataclass(frozen=True)
class DeferredTask(Generic[V]):
    """A task that is costly to describe, so it is described only when it starts a flight.

    Attributes:
        key: equal for equal values.
        resolve: returns the task, whose key is the same. Not called if the value is cached or
            on its way.
    """

    key: Hashable
    resolve: Callable[[], Task[V]]


AnyTask: TypeAlias = Task[V] | DeferredTask[V]


class Waiter(Generic[V]):
    """One caller that waits for a value."""

    def __init__(self, task: AnyTask[V], leave: Callable[[Waiter[V]], None]) -> None:
        self.task = task
        self.future: Future[V] = Future()
        self._leave = leave

    def ticks(self, seconds: float) -> Iterator[None]:
        """Yields every `seconds` until the value is ready."""
        # Not concurrent.futures.wait: it does not wake up when the future is cancelled.
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
            LeftError: as soon as this waiter leaves.
            Exception: the error of the work, for the first waiter.
        """
        try:
            return self.future.result()
        except CancelledError as error:
            raise LeftError from error

    def leave(self) -> None:
        """Stops waiting. Does nothing once the value or an error is there."""
        if self.future.cancel():
            self._leave(self)

    def deliver(self, value: V) -> None:
        """Gives the value to this waiter, unless it has left."""
        with suppress(InvalidStateError):
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Gives an error to this waiter, unless it has left."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(eq=False)
class _Flight(Generic[V]):
    """Work for one key, and its waiters in the order in which they joined."""

    key: Hashable
    waiters: list[Waiter[V]]
    needs: list[Waiter[Any]] = field(default_factory=list)
    missing: int = 0
    cancelled: bool = False

    def pulse(self) -> None:
        if self.cancelled:
            raise LeftError


class SingleFlight(Generic[V]):
    """Makes each value once for all callers that want it at the same time, and caches values.

    Args:
        cache: keeps values; used by this object alone, under its lock.
        observer: counts how values are shared and kept.
    """

    def __init__(self, cache: Cache[V], observer: CacheObserver | None = None) -> None:
        self._cache = cache
        self._observer = observer
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[V]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether the value of this key is cached or on its way."""
        with self._lock:
            return key in self._cache or key in self._flights

    def join(self, task: AnyTask[V]) -> Waiter[V]:
        """Waits for the task's value: from the cache, a flight on its way, or a new flight."""
        waiter = Waiter(task, self._left)
        started = None
        with self._lock:
            cached = self._cache.get(task.key)
            if cached is None:
                flight = self._flights.get(task.key)
                if flight:
                    flight.waiters.append(waiter)
                else:
                    started = self._flights[task.key] = _Flight(task.key, [waiter])
        if cached is not None:
            waiter.deliver(cached)
        if started:
            self._start(started, task)
        elif self._observer:
            self._observer.shared()
        return waiter

    def _start(self, flight: _Flight[V], task: AnyTask[V]) -> None:
        """Starts a flight; where that fails, the flights of the waiters behind it, in turn."""
        # A loop: thousands of waiters whose tasks all fail would exceed the stack otherwise.
        following: tuple[_Flight[V], AnyTask[V]] | None = flight, task
        while following:
            flight, task = following
            error = self._launch(flight, task)
            following = self._next(flight, error) if error else None

    def _launch(self, flight: _Flight[V], task: AnyTask[V]) -> BaseException | None:
        """Joins the needs, and queues the work if they are there; returns the error, if any."""
        try:
            ready = task.resolve() if isinstance(task, DeferredTask) else task
            flight.missing = len(ready.needs) + 1
            for need in ready.needs:
                waiter = need()
                with self._lock:
                    cancelled = flight.cancelled
                    flight.needs.append(waiter)
                if cancelled:
                    waiter.leave()
                waiter.future.add_done_callback(lambda _: self._need_done(flight, ready))
        except BaseException as error:
            return error
        # The one above len(needs): nothing is queued before all needs have been joined.
        return self._one_less(flight, ready)

    def _need_done(self, flight: _Flight[V], task: Task[V]) -> None:
        error = self._one_less(flight, task)
        if error:
            self._failed(flight, error)

    def _one_less(self, flight: _Flight[V], task: Task[V]) -> BaseException | None:
        """Counts a need as there, and queues the work when none is missing."""
        with self._lock:
            flight.missing -= 1
            if flight.missing or flight.cancelled:
                return None
        try:
            task.pool.submit(self._run, flight, task)
        except RuntimeError as error:
            # The pool is shut down: the server is stopping.
            return error
        return None

    def _run(self, flight: _Flight[V], task: Task[V]) -> None:
        if flight.cancelled:
            return
        try:
            values = [waiter.result() for waiter in flight.needs]
            value = task.make(values, flight.pulse)
        except BaseException as error:
            self._failed(flight, error)
            return
        finally:
            flight.needs.clear()
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            evicted = self._cache.put(flight.key, value)
            nbytes = self._cache.nbytes
            waiters = tuple(flight.waiters)
        for waiter in waiters:
            waiter.deliver(value)
        if self._observer:
            self._observer.kept(nbytes)
            if evicted:
                self._observer.evicted(evicted)

    def _failed(self, flight: _Flight[V], error: BaseException) -> None:
        """Gives the error to the first waiter; the task of the next one starts a new flight."""
        following = self._next(flight, error)
        if following:
            self._start(*following)

    def _next(
        self, flight: _Flight[V], error: BaseException
    ) -> tuple[_Flight[V], AnyTask[V]] | None:
        """Gives the error to the first waiter; the flight of the others, not yet started."""
        following = None
        with self._lock:
            first = flight.waiters[0] if flight.waiters else None
            others = flight.waiters[1:]
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
                if others:
                    again = self._flights[flight.key] = _Flight(flight.key, others)
                    following = again, others[0].task
        if first:
            first.fail(error)
        return following

    def _left(self, waiter: Waiter[V]) -> None:
        """Takes a waiter out of its flight, and cancels the flight after the last one."""
        needs: list[Waiter[Any]] = []
        with self._lock:
            flight = self._flights.get(waiter.task.key)
            if flight and waiter in flight.waiters:
                flight.waiters.remove(waiter)
                if not flight.waiters:
                    # Later callers start a new flight: this one may be about to end.
                    flight.cancelled = True
                    del self._flights[flight.key]
                    needs = list(flight.needs)
        for need in needs:
            need.leave()
