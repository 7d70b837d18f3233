"""The world: a machine of one thread with a virtual clock, where one seed decides every order.

Code of the product runs in it unchanged. Each of its threads is a greenlet, which gives way where
a real one would wait, or where another one could run between two system calls. The clock moves
only when nothing is left to do, so an hour of pauses takes no time.
"""

from __future__ import annotations

import heapq
import random
from asyncio import events
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet
from initclient._machine import Machine

_T = TypeVar("_T")

BUSY = "no busy loop"
DEADLOCK = "no deadlock"
CALLS = "calls are bounded"
WAITS = "waits are bounded"
THREADS = "threads end well"

# Steps without any passing of time: far more than a fetch of a small file needs.
_MOST_STEPS = 20_000


class Ended(BaseException):
    """The schedule is over: ends tasks that are still in the middle of something."""


@dataclass(frozen=True)
class Failure:
    """A broken promise of the product.

    Attributes:
        name: the promise.
        text: what happened.
    """

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Process:
    """A process that runs the client.

    Attributes:
        name: its name in the trace.
        alive: whether it was not killed.
        steps: the steps so far: system calls and messages.
        at: what happens at a step, by its number.
        descriptors: its open files.
        calls: its open calls.
        accepted: good bytes that servers delivered to it.
        progressed: the time of the last good byte, or of its start.
        requests: calls that it made.
        started: the time of its start.
        finished: the time of its end.
        result: the result of its work.
        error: the exception that ended it.
    """

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.alive = True
        self.steps = 0
        self.at: dict[int, list[Callable[[], None]]] = {}
        self.descriptors: set[int] = set()
        self.calls: set[Any] = set()
        self.accepted = self.requests = 0
        self.progressed = self.started = now
        self.finished: float | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether its work has ended, or it was killed."""
        return self.finished is not None or not self.alive


class Task:
    """A thread of a process: `start` of the machine returns it."""

    def __init__(self, world: World, process: Process, work: Callable[[], None], name: str) -> None:
        self.process = process
        self.name = name
        self.token = 0
        self.ended = Flag(world)
        self._world = world
        self._work = work
        self.greenlet = greenlet(self._run, world.hub)

    def join(self) -> None:
        """Waits until it has ended."""
        self.ended.wait()

    def _run(self, _: bool) -> None:
        try:
            self._work()
        except Ended:
            pass
        except BaseException as error:
            self._world.fail(THREADS, f"{self.name} ended with {error!r}")
        self.ended.set()


class Flag:
    """An event of the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._set = False
        self._waiting: list[tuple[Task, int]] = []

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    def set(self) -> None:
        """Ends all waits, future ones too."""
        self._set = True
        self.wake()

    def wake(self) -> None:
        """Ends the present waits."""
        waiting, self._waiting = self._waiting, []
        for task, token in waiting:
            self._world.resume(task, token, 0.0, True)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for `set`; returns whether it was called."""
        if not self._set:
            task = self._world.task
            self._waiting.append((task, task.token + 1))
            self._world.suspend(timeout)
        return self._set


class World(Machine):
    """A machine for `running_on`.

    Args:
        seed: decides everything that happens.
        trace: takes each event as a line; None for none.

    Attributes:
        random: the source of all draws.
        hub: the greenlet that hands out the turns.
        time: the virtual clock.
        failure: the first broken promise.
        limit: seconds that a process may take without a good byte.
        busy: whether tasks run at the same time, so that their order matters.
        unwinding: whether the schedule is over.
        endings: called at the end, after the last task.
    """

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(seed)
        self.hub = getcurrent()
        self.time = 1000.0
        self.failure: Failure | None = None
        self.limit = float("inf")
        self._trace = trace
        self._queue: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self._still = 0
        self._tasks: list[Task] = []
        self._running: Task | None = None
        self.unwinding = False
        self.busy = False
        self.endings: list[Callable[[], None]] = []

    def now(self) -> float:
        """The virtual clock."""
        return self.time

    def draw(self) -> float:
        """A draw of the seed."""
        return self.random.random()

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """An order of the seed."""
        return self.random.sample(items, len(items))

    def sleep(self, seconds: float) -> None:
        """Lets others run for as long."""
        self.step(f"sleep {seconds:.3f}")
        self.suspend(seconds)

    def secret(self) -> random.Random:
        """The draws of the seed."""
        return self.random

    def cpus(self) -> int:
        """Two, so that threads of one call meet."""
        return 2

    def event(self) -> Flag:
        """A flag of this world."""
        return Flag(self)

    def start(self, work: Callable[[], None], name: str) -> Task:
        """A task beside the running one, in its process."""
        return self._begin(self.task.process, work, name)

    def run_all(
        self, works: Sequence[Callable[[], None]], name: str, stop: Callable[[], None]
    ) -> None:
        """Tasks beside the running one, as in `Machine.run_all`."""
        changed = Flag(self)
        failed: list[BaseException] = []
        left = len(works)

        def run(work: Callable[[], None]) -> None:
            nonlocal left
            try:
                work()
            except Ended:
                raise
            except BaseException as error:
                failed.append(error)
            left -= 1
            changed.wake()

        for number, work in enumerate(works):
            self.start(lambda work=work: run(work), f"{name}-{number}")  # type: ignore[misc]
        try:
            while left and not failed:
                changed.wait()
            if failed:
                raise failed[0]
        finally:
            stop()
            while left:
                changed.wait()

    # What happens

    def spawn(self, name: str, work: Callable[[], Any]) -> Process:
        """A new process, which runs `work`."""
        process = Process(name, self.time)

        def run() -> None:
            try:
                process.result = work()
            except Ended:
                raise
            except BaseException as error:
                process.error = error
            process.finished = self.time
            self.log(f"ends: {process.error or 'well'}")

        self._begin(process, run, "main")
        return process

    def kill(self, process: Process) -> None:
        """Ends a process in the middle: none of its code runs any more."""
        process.alive = False
        for call in list(process.calls):
            call.abandon()
        process.calls.clear()
        self.log("is killed", process)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Calls `action` later."""
        self._count += 1
        tie = self.random.random()
        heapq.heappush(self._queue, (self.time + seconds, tie, self._count, action))

    def step(self, text: str) -> None:
        """A place where another task may run, or the process may be killed."""
        if self.unwinding:
            raise Ended
        task = self.task
        process = task.process
        process.steps += 1
        self._still += 1
        self.log(text)
        if self._still > _MOST_STEPS:
            self.fail(BUSY, f"{_MOST_STEPS} steps at one moment, the last: {text}")
        for action in process.at.pop(process.steps, ()):
            action()
        if not process.alive:
            self.suspend()
        if self.busy and self.random.random() < 0.3:
            self.suspend(self.random.choice((0.0, 0.001)))

    def suspend(self, seconds: float | None = None) -> bool:
        """Lets others run for `seconds`, or until `resume`; returns the value of `resume`."""
        if self.unwinding:
            raise Ended
        task = self.task
        task.token += 1
        if seconds is not None:
            self.resume(task, task.token, seconds, False)
        # Other tasks run in this thread meanwhile, without a loop or with loops of their own.
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            value: bool = self.hub.switch()
        finally:
            events._set_running_loop(loop)
        return value

    def resume(self, task: Task, token: int, seconds: float, value: bool) -> None:
        """Continues a task later, unless something else continues it before."""

        def switch() -> None:
            if task.token == token and task.process.alive and not task.greenlet.dead:
                self._running = task
                task.greenlet.switch(value)
                self._running = None

        self.after(seconds, switch)

    def run(self, processes: Sequence[Process]) -> None:
        """Runs until all these processes have ended, or a promise is broken."""
        queue = self._queue
        while not self.failure and any(not process.over for process in processes):
            if not queue:
                self.fail(DEADLOCK, "every task waits for another one")
                return
            time, _, _, action = heapq.heappop(queue)
            if time > self.time:
                self.time = time
                self._still = 0
                for process in processes:
                    if not process.over and time - process.progressed > self.limit:
                        waited = time - process.progressed
                        self.fail(WAITS, f"no good byte for {waited:.0f} s")
                        return
            action()

    def fail(self, name: str, text: str) -> None:
        """Notes a broken promise, and ends the schedule."""
        if self.unwinding:
            return
        if self.failure is None:
            self.failure = Failure(name, text)
            self.log(f"FAILS {self.failure}")
        if self._running:
            self.suspend()

    def end(self) -> None:
        """Ends all tasks that are still there."""
        self.unwinding = True
        for task in self._tasks:
            # A task that has not begun passes the exception on to here.
            with suppress(Ended):
                while not task.greenlet.dead:
                    task.greenlet.throw(Ended)
        for ending in self.endings:
            ending()
        self._tasks.clear()
        self._queue.clear()

    def log(self, text: str, process: Process | None = None) -> None:
        """Adds a line to the trace."""
        if self._trace:
            task = self._running
            who = process.name if process else "world" if task is None else task.process.name
            name = "" if task is None or process else f"/{task.name}"
            self._trace(f"{self.time - 1000:10.3f} {who}{name}: {text}")

    @property
    def task(self) -> Task:
        """The running task."""
        assert self._running is not None
        return self._running

    @property
    def tracing(self) -> bool:
        """Whether lines of the trace are read."""
        return self._trace is not None

    def _begin(self, process: Process, work: Callable[[], None], name: str) -> Task:
        task = Task(self, process, work, name)
        self._tasks.append(task)
        task.token = 1
        self.resume(task, 1, 0.0, True)
        return task
