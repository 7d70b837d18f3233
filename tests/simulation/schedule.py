"""A schedule: what one seed draws, played to its end, with every promise checked on the way.

A schedule has rounds. In each, one process fetches, or two at once; servers fail, disks fill up,
files vanish, processes are killed. The next round goes on with what the one before left.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.aio
from initclient._machine import running_on

from tests.simulation import invariants, loop
from tests.simulation.contents import PLANS, SHARD_SIZE, SMALL, files_of
from tests.simulation.disk import Disk
from tests.simulation.faults import OTHER_VALUES
from tests.simulation.servers import Network, Server
from tests.simulation.world import Failure, Process, World

# In place of 8 MiB, so that a small file has several blocks.
BLOCK = 512

# Where the files of the schedules are: in memory, if the machine has such a folder.
_MEMORY = Path("/dev/shm")

_PART, _JOURNAL = "part", "journal"
_LINE = re.compile(rb"^(\d+) (\d+) [0-9a-f]{8}$", re.MULTILINE)


@contextmanager
def prepared() -> Iterator[None]:
    """Makes the blocks of partial files small while the body runs, and ignores warnings."""
    from initclient._compute import ranges
    from initclient._files import journal, outputs, partial
    from initclient._transport import download

    modules: list[Any] = [ranges, journal, outputs, partial, download]
    before = [module.BLOCK for module in modules]
    for module in modules:
        module.BLOCK = BLOCK
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, block in zip(modules, before, strict=True):
            module.BLOCK = block


def play(seed: int, trace: Callable[[str], None] | None = None) -> Failure | None:
    """Plays a schedule.

    Args:
        seed: decides everything in it.
        trace: takes each event as a line.

    Returns:
        The promise that it broke; None for none.
    """
    root = _MEMORY if _MEMORY.is_dir() else Path("/tmp")
    folder = root / f"initserve-simulation-{os.getpid()}"

    def show(line: str) -> None:
        assert trace is not None
        trace(line.replace(str(folder), "FOLDER").replace(folder.name, "FOLDER"))

    world = World(seed, show if trace else None)
    disk = Disk(world, folder)
    try:
        schedule = Schedule(world, disk)
        with running_on(schedule.world):
            try:
                schedule.play()
            finally:
                disk.end()
                world.end()
    finally:
        disk.end()
        disk.close_all()
    return world.failure


@dataclass
class Round:
    """One round of a schedule.

    Attributes:
        plans: the plan of each process, by its number in `PLANS`.
        calm: whether nothing but the servers does harm.
        resume: the argument of `fetch_file`.
    """

    plans: list[int]
    calm: bool
    resume: bool = True


class Schedule:
    """Everything that a seed draws.

    Args:
        world: the world, before its first event.
        disk: its disk.
    """

    def __init__(self, world: World, disk: Disk) -> None:
        self.world = world
        self.random = random = world.random
        self.disk = disk
        idle = random.choice((1.0, 5.0, 20.0))
        self.retry = ic.Retry(
            attempts=random.choice((1, 2, 4)),
            base_delay=random.choice((0.05, 0.5)),
            max_delay=random.choice((0.5, 5.0)),
            idle_timeout=idle,
            patience=random.choice((0.0, 5.0, 60.0)),
            stall_timeout=10 * idle + 20,
        )
        self.timeout = None if random.random() < 0.6 else random.choice((0.5, 5.0, 100.0))
        self.streams = random.choice((1, 1, 2, 3))
        self.healthy = random.random() < 0.6
        count = random.choice((1, 2, 2, 3, 4))
        self.servers = [
            Server.drawn(random, f"{name}:1", idle, self.healthy and number == 0)
            for number, name in enumerate("abcd"[:count])
        ]
        self.lies = random.random() < 0.08 and (count > 1 or not self.healthy)
        if self.lies:
            self.servers[-1].faults += (OTHER_VALUES,)
        # All elements where a server lies, so that no lie is ever missed.
        self.check = 1000 if self.lies else random.choice((0, 0, 0, 0, 0, 1, 2))
        network = Network(world, self.servers)
        world.os, world.fcntl = disk.os, disk.fcntl
        world.channel = network.channel  # type: ignore[method-assign]
        world.asyncio_channel = network.asyncio_channel  # type: ignore[method-assign]
        world.limit = self.retry.longest_stall + 1
        self.plan = self._draw_plan()
        self.is_async = random.random() < 0.25
        self.processes: list[Process] = []
        self.disturbed: dict[Process, int] = {}
        self.untouched = self.was_empty = True

    def play(self) -> None:
        """Plays all rounds."""
        random, world = self.random, self.world
        for server in self.servers:
            world.log(f"server {server}")
        world.log(f"{self.retry} timeout={self.timeout} streams={self.streams}")
        for server in self.servers:
            if server.faults and random.random() < 0.3:
                self._kill_server(server)
        world.busy = self.streams > 1 or self.is_async
        if random.random() < 0.45:
            self._play_memory()
        else:
            self._play_files()

    def _draw_plan(self) -> int:
        return self.random.choice(SMALL if self.lies else range(len(PLANS)))

    # In memory

    def _play_memory(self) -> None:
        kinds = ("fetch", "fetch", "twice", "describe")
        kind = self.random.choice(kinds)
        process = self.world.spawn("client", partial(getattr(self, f"_{kind}")))
        self.world.run([process])
        if not self.world.failure:
            invariants.check_memory(self, kind, process)

    @property
    def _arguments(self) -> dict[str, Any]:
        addresses = [server.address for server in self.servers]
        found: dict[str, Any] = {"target": addresses, "retry": self.retry, "timeout": self.timeout}
        return found

    def _fetch(self) -> Any:
        arguments = {**self._arguments, "streams": self.streams, "check": self.check}
        plan = PLANS[self.plan]
        if self.is_async:
            return loop.run(self.world, lambda: initclient.aio.fetch(plan, **arguments))
        return ic.fetch(plan, **arguments)

    def _twice(self) -> Any:
        with ic.Client(**self._arguments, streams=self.streams) as client:
            client.fetch(PLANS[self.plan], check=self.check)
            # The second call has its own limits.
            self.world.task.process.progressed = self.world.time
            return client.fetch(PLANS[self.plan], check=self.check)

    def _describe(self) -> Any:
        arguments, plan = {**self._arguments, "fingerprints": True}, PLANS[self.plan]
        if self.is_async:
            return loop.run(self.world, lambda: initclient.aio.describe(plan, **arguments))
        return ic.describe(plan, **arguments)

    # Files

    def _play_files(self) -> None:
        random, disk = self.random, self.disk
        self.sharded = random.random() < 0.2
        if self.sharded:
            # The end of one file's call may stay away for as long, before the next one begins.
            self.world.limit += self.servers[0].idle
        self.path = disk.folder / ("weights" if self.sharded else "weights.safetensors")
        self.old = self._prepare()
        disk.locks = random.choice(("real",) * 8 + ("none", "ignored"))
        if self.lies and disk.locks == "ignored":
            # Two fetches of one plan write into one file there, which is right while the bytes
            # of both are.
            disk.locks = "none"
        disk.short = random.choice((0.0, 0.0, 0.3))
        rounds = [self._draw_round() for _ in range(random.choice((0, 1, 2)))]
        rounds.append(Round([self.plan], calm=random.random() < 0.8))
        self.plans = {plan for one in rounds for plan in one.plans}
        self.kept, self.kept_plan = 0, self.plan
        disk.watched = partial(invariants.check_path, self)
        for number, one in enumerate(rounds):
            self.world.log(f"round {number}: {one} kept={self.kept}")
            self._play_round(one)
            if self.world.failure:
                return
            invariants.check_path(self)
            if self.world.failure:
                return

    def _prepare(self) -> dict[str, bytes]:
        """What is at the path before the first round."""
        if self.random.random() < 0.6:
            return {}
        if self.random.random() < 0.5 and not self.sharded:
            old = {"": b"what was there before"}
        else:
            old = files_of(self.random.randrange(len(PLANS)), self.sharded)
            if self.sharded and old.keys() != files_of(self.plan, True).keys():
                return {}
        if self.sharded:
            self.path.mkdir()
        for name, data in old.items():
            (self.path / name if name else self.path).write_bytes(data)
        return old

    def _draw_round(self) -> Round:
        random = self.random
        count = 2 if random.random() < 0.3 else 1
        plans = [
            self._draw_plan() if random.random() < 0.3 and not self.sharded else self.plan
            for _ in range(count)
        ]
        return Round(
            plans, calm=random.random() < 0.2 and count == 1, resume=random.random() < 0.85
        )

    def _play_round(self, one: Round) -> None:
        world, random, disk = self.world, self.random, self.disk
        world.busy = len(one.plans) > 1 or self.streams > 1 or self.is_async
        processes = []
        for number, plan in enumerate(one.plans):
            # Values that this process computes are not checked, but may resume others.
            local = random.random() < 0.1 and not self.lies
            work = partial(self._fetch_file, plan, one.resume, local)
            processes.append(world.spawn(f"{'AB'[number]}", work))
        self.processes, self.disturbed = processes, {}
        self.was_empty = not disk.names(".part", ".journal")
        if not one.calm:
            for process in processes:
                self._trouble(process)
        world.run(processes)
        disk.full, disk.broken = False, ""
        if not world.failure:
            invariants.check_round(self, one, processes)
        self.kept, self.kept_plan = 0, one.plans[0]
        if len(processes) == 1 and one.resume:
            self.kept = self._kept(processes[0], one.plans[0])
        if not one.calm and random.random() < 0.3:
            self._disturb(between=True)

    def _fetch_file(self, plan: int, resume: bool, local: bool) -> Any:
        arguments: dict[str, Any] = {"resume": resume}
        if local:
            arguments |= {"target": "local"}
        else:
            arguments |= {**self._arguments, "streams": self.streams, "check": self.check}
        if self.sharded:
            arguments["shard_size"] = SHARD_SIZE
        if self.is_async:
            make = partial(initclient.aio.fetch_file, PLANS[plan], self.path, **arguments)
            return loop.run(self.world, make)
        return ic.fetch_file(PLANS[plan], self.path, **arguments)

    def _trouble(self, process: Process) -> None:
        """Draws what happens at the steps of a process."""
        random, disk = self.random, self.disk
        call = random.choice(("pwrite", "fsync", "write", "replace"))
        kinds: list[Callable[[], None]] = [
            partial(self._kill, process),
            partial(self._cut_power, process),
            partial(setattr, disk, "full", True),
            partial(setattr, disk, "broken", call),
            self._disturb,
            self._disturb,
        ]
        if random.random() < 0.2:
            return
        for kind in random.sample(kinds, random.choice((1, 1, 2))):
            at = random.randrange(1, random.choice((10, 40, 120)))
            process.at.setdefault(at, []).append(kind)
            later = random.randrange(at, at + 40)
            process.at.setdefault(later, []).append(partial(setattr, disk, "full", False))

    def _kill(self, process: Process) -> None:
        self.disk.release(process)
        self.world.kill(process)

    def _cut_power(self, process: Process) -> None:
        """Ends all processes of the machine, and loses what only memory had."""
        self.world.log("the power is cut")
        for one in self.processes:
            if not one.over:
                self._kill(one)
        self.disk.cut_power()
        self.disturbed = {process: process.steps}
        self.untouched = False

    def _kill_server(self, server: Server) -> None:
        random, world = self.random, self.world
        dies = random.choice((0.0, 0.01, 0.3, 3.0))
        world.after(dies, server.kill)
        world.after(dies + random.choice((0.0, 0.5, 5.0, 100.0)), server.restart)

    def _disturb(self, between: bool = False) -> None:
        """Someone removes or replaces a file of a fetch, or damages it between two rounds."""
        random = self.random
        # Names with a dot in front are the fetch's own; no page tells people to touch them.
        names = [path for path in self.disk.names(_PART, _JOURNAL) if path.name[0] != "."]
        self.kept = 0
        if not names:
            return
        self.disturbed = {process: process.steps for process in self.processes}
        self.untouched = False
        path = random.choice(names)
        how = random.choice(("removed", "removed", "replaced", "cut" if between else "replaced"))
        self.world.log(f"{path.suffix} file is {how}")
        if how == "removed":
            path.unlink()
        elif how == "replaced":
            other = path.with_name("other")
            other.write_bytes(bytes(path.stat().st_size))
            other.replace(path)
        else:
            os.truncate(path, path.stat().st_size // 2)

    def _kept(self, process: Process, plan: int) -> int:
        """The bytes of complete blocks that a killed process left, or one that failed noted."""
        if self.disturbed:
            return 0
        if process.alive:
            found = invariants.noted(process.error)
            return found[0] if found else 0
        names = self.disk.names(_JOURNAL)
        # The journal of a process that was killed early may be another plan's, or tell of a file
        # that someone has replaced since.
        if self.sharded or len(names) != 1 or len(self.plans) > 1 or not self.untouched:
            return 0
        size = len(files_of(plan, False)[""])
        blocks = {int(index) for _, index in _LINE.findall(names[0].read_bytes())}
        return sum(min(BLOCK, size - index * BLOCK) for index in blocks)
