"""A rollout, rehearsed: three replicas restart one after the other under sixteen clients."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
from contextlib import ExitStack
from typing import Any

import initclient as ic

from tests.server.processes import Running

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
CLIENTS = 16

PLAN = ic.Plan(
    seed=7,
    tensors={
        "embedding": ic.normal((512, 1024), std=0.02),
        "fc.weight": ic.kaiming_uniform((1024, 1024), dtype="bfloat16"),
        "fc.bias": ic.zeros((1024,)),
    },
)


def digest(weights: dict[str, Any]) -> str:
    bits = hashlib.sha256()
    for name, values in weights.items():
        bits.update(name.encode() + values.tobytes())
    return bits.hexdigest()


class Clients:
    """Threads that fetch until they are told to stop, and what came of it."""

    def __init__(self, target: list[str], expected: str) -> None:
        self.target, self.expected = target, expected
        self.done = [0] * CLIENTS
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                assert digest(ic.fetch(PLAN, target=self.target)) == self.expected
            except BaseException as error:
                self.errors.append(error)
                return
            self.done[number] += 1

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_rolling_restart_fails_no_fetch_and_changes_no_bit() -> None:
    port = free_port()
    addresses = [f"{host}:{port}" for host in HOSTS]
    expected = digest(ic.fetch(PLAN, target="local"))
    with ExitStack() as stack:

        def start(address: str) -> Running:
            server = Running("--listen", address)
            stack.callback(server.close)
            return server

        replicas = [start(address) for address in addresses]
        for replica in replicas:
            assert replica.address
        clients = Clients(addresses, expected)
        stack.callback(clients.finish)
        for number, address in enumerate(addresses):
            before = sum(clients.done)
            replicas[number].process.send_signal(signal.SIGTERM)
            assert replicas[number].end() == 0
            replicas[number] = start(address)
            assert replicas[number].address
            # The new one is in use before the next one goes, as behind a readiness probe.
            replicas[number].line(r"Fetch, OK")
            assert sum(clients.done) > before
        clients.finish()
        assert not clients.errors
        assert min(clients.done) > 0


def free_port() -> int:
    """A port that is free at all three addresses."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind((HOSTS[0], 0))
            port: int = first.getsockname()[1]
            try:
                for host in HOSTS[1:]:
                    stack.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            return port
