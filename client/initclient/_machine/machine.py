"""The machine that calls run on, and the one place where a simulation replaces it."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from initcore.machine import available_cpus

_T = TypeVar("_T")


class Event(Protocol):
    """A flag that threads wait for; `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether `set` was called."""

    def set(self) -> None:
        """Ends all waits, future ones too."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for `set`, at most `timeout` seconds; returns whether it was called."""


class Task(Protocol):
    """Work that runs beside its caller; `threading.Thread` is one."""

    def join(self) -> None:
        """Waits until it has ended."""


class Machine:
    """The clock, the threads and the channels of this process, and its calls on files.

    Attributes:
        os: the calls on files, by their names in the module `os`.
        fcntl: the locks of files, by their names in the module `fcntl`.
    """

    os: Any = os
    fcntl: Any = fcntl

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def draw(self) -> float:
        """A random number from [0, 1)."""
        return random.random()

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """The items in random order."""
        return random.sample(items, len(items))

    def secret(self) -> random.Random:
        """A source of draws that no other machine can foresee."""
        return random.SystemRandom()

    def cpus(self) -> int:
        """The number of CPUs that may be used."""
        return available_cpus()

    def event(self) -> Event:
        """A new flag."""
        return threading.Event()

    def start(self, work: Callable[[], None], name: str) -> Task:
        """Runs `work` in a thread, which does not keep the process alive."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def run_all(
        self, works: Sequence[Callable[[], None]], name: str, stop: Callable[[], None]
    ) -> None:
        """Runs each of `works` in a thread, and returns when all have ended.

        Args:
            works: the work of each thread.
            name: prefix of the threads' names.
            stop: makes all threads end soon; called after the last one, the first failure, or
                Ctrl-C here.

        Raises:
            BaseException: the first failure.
        """
        with ThreadPoolExecutor(len(works), name) as pool:
            try:
                running = [pool.submit(work) for work in works]
                for future in wait(running, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:
                stop()

    def channel(self, address: str, options: Sequence[tuple[str, Any]], credentials: Any) -> Any:
        """A blocking gRPC channel.

        Args:
            address: the server.
            options: the channel's arguments.
            credentials: gRPC's credentials; None means unencrypted.
        """
        import grpc

        if credentials is None:
            return grpc.insecure_channel(address, options=options)
        return grpc.secure_channel(address, credentials, options=options)

    def asyncio_channel(
        self, address: str, options: Sequence[tuple[str, Any]], credentials: Any
    ) -> Any:
        """A gRPC channel for the running event loop; arguments as for `channel`."""
        import grpc.aio

        if credentials is None:
            return grpc.aio.insecure_channel(address, options=list(options))
        return grpc.aio.secure_channel(address, credentials, options=list(options))


def here() -> Machine:
    """The machine that this process runs on."""
    return _machine


@contextmanager
def running_on(machine: Machine) -> Iterator[None]:
    """Makes all calls of this process run on another machine while the body runs."""
    global _machine
    before, _machine = _machine, machine
    try:
        yield
    finally:
        _machine = before


_machine = Machine()
