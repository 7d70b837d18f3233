"""A server process that measures for how long one thread held its interpreter.

A thread of the server sleeps for a moment, again and again, and notes how much processor time
the process used until it ran again: time that other processes took does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_SERVE = """
import heapq, json, sys, threading, time
from initserver import Limits, Server, ServerConfig
from initserver.process.memory import settle
config = ServerConfig(
    listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", backend={backend!r}, grace=0,
    checkpoints={checkpoints!r}, token_file={token_file!r}, limits=Limits(**{limits!r}),
)
worst = [0.0, 0.0]
# The longest: processor time, seconds by the clock, the clock at the end.
longest = []

def watch():
    pause = 0.001
    while True:
        used, wall = time.process_time(), time.monotonic()
        time.sleep(pause)
        cpu, now = time.process_time() - used, time.monotonic()
        worst[0] = max(worst[0], cpu)
        worst[1] = max(worst[1], now - wall - pause)
        heapq.heappush(longest, (cpu, now - wall - pause, now))
        if len(longest) > {most}:
            heapq.heappop(longest)

with Server(config) as server:
    settle(server.is_idle)
    threading.Thread(target=watch, daemon=True).start()
    print(server.address, server.metrics_address, flush=True)
    for line in sys.stdin:
        found, worst[:] = list(worst), [0.0, 0.0]
        last, longest = longest, []
        print(json.dumps([*found, sorted(last, reverse=True)]), flush=True)
"""


_MOST = 10


@dataclass(frozen=True)
class Hold:
    """A time in which no other thread of the server ran.

    Attributes:
        cpu: seconds of processor time of the server.
        wall: seconds by the clock.
        end: when it ended, by the monotonic clock.
    """

    cpu: float
    wall: float
    end: float


@dataclass(frozen=True)
class HeldServer:
    """A running server."""

    address: str
    metrics: str
    process: subprocess.Popen[str]

    def held(self) -> tuple[float, float]:
        """The longest time that one thread held the interpreter since the last question.

        Returns:
            Seconds of processor time, and of the clock.
        """
        cpu, wall, _ = self.held_longest()
        return cpu, wall

    def held_longest(self) -> tuple[float, float, list[Hold]]:
        """As `held`, and the longest times one by one.

        Returns:
            Seconds of processor time, of the clock, and the ten times with the most processor
            time. What other threads used without the interpreter counts too.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        cpu, wall, longest = json.loads(self.process.stdout.readline())
        return cpu, wall, [Hold(*one) for one in longest]


@contextmanager
def held_server(
    backend: str = "numpy",
    checkpoints: str | None = None,
    token_file: str | None = None,
    **limits: int,
) -> Iterator[HeldServer]:
    """A server with these limits, ready to answer."""
    script = _SERVE.format(
        backend=backend, checkpoints=checkpoints, token_file=token_file, limits=limits, most=_MOST
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address, metrics = process.stdout.readline().split()
            yield HeldServer(address, metrics, process)
        finally:
            process.kill()
