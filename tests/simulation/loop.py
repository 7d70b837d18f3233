"""An event loop of asyncio whose clock and threads are the world's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tests.simulation.world import THREADS, Ended, Task, World

_T = TypeVar("_T")


class Loop(asyncio.BaseEventLoop):
    """The event loop of one task of a world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._selector = _Selector(world)
        self.set_exception_handler(self._unhandled)
        self._begun: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._task)
        world.endings.append(self._end)

    def time(self) -> float:
        """The virtual clock."""
        return self._world.time

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, work: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Runs `work` in a task of the world."""
        future = self.create_future()

        def run() -> None:
            try:
                result, error = work(*arguments), None
            except Exception as caught:
                result, error = None, caught
            self.call_soon_threadsafe(settle, result, error)

        def settle(result: Any, error: Exception | None) -> None:
            if not future.done():
                future.set_exception(error) if error else future.set_result(result)

        self._world.start(run, "executor")
        return future

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        self._world.fail(THREADS, f"{context.get('message')}: {context.get('exception')!r}")

    def _task(self, loop: Any, coroutine: Any, **named: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, **named)
        self._begun.append(task)
        return task

    def _end(self) -> None:
        """Ends the coroutines of a process that was killed."""
        for task in self._begun:
            coroutine: Any = task.get_coro()
            # Those that wait in their own cleaning up complain about the second end.
            with suppress(Ended, RuntimeError):
                while not task.done() and inspect.getcoroutinestate(coroutine) != "CORO_CLOSED":
                    coroutine.throw(Ended)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._begun.clear()

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._selector.wake()


class _Selector:
    """Waits as a selector of sockets does, of which there are none."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sleeper: tuple[Task, int] | None = None

    def select(self, timeout: float | None) -> list[Any]:
        """Waits for `timeout` or `wake`."""
        if timeout is not None and timeout <= 0:
            return []
        task = self._world.task
        self._sleeper = task, task.token + 1
        try:
            self._world.suspend(timeout)
        finally:
            self._sleeper = None
        return []

    def wake(self) -> None:
        """Ends the wait."""
        if self._sleeper:
            self._world.resume(*self._sleeper, 0.0, True)


def run(world: World, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Runs a coroutine to its end, as `asyncio.run` does."""
    loop = Loop(world)
    try:
        return loop.run_until_complete(make())
    finally:
        loop.close()
