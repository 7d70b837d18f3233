"""Callers without manners over HTTP, and how long everybody else waits meanwhile.

Floods come from processes of their own: they would slow down those who measure.
"""

from __future__ import annotations

import http.client
import multiprocessing
import random
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

WEIGHTS = "/large/resolve/main/model.safetensors"
"""A file that is computed, too large for the buffers of a connection."""

LARGE_BYTES = 1 << 30

Address: TypeAlias = tuple[str, int]

_METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "get", "G\x00T", "X" * 9000)
_PATHS = (
    "/", "/api/models", WEIGHTS, "/acme/small", "/-/plot/none", "*", "", "//", "/" * 3000,
    "/%", "/%zz", "/%ff%fe/resolve/main/x", "/large/resolve/main/" + "../" * 500,
    "/api/models/large/tree/main/" + "a/" * 500, "/a\x00b", "http://[::1/x", "/\xff",
    "/large/resolve/seed-99999999999999999999999999/x", "/api/models?limit=9e9&search=%00",
    "/large/resolve/" + "f" * 40 + "/config.json", "/api/models/large/paths-info/main",
    "/large/resolve/main/config.json?" + "a=b&" * 1500,
)  # fmt: skip
_HEADERS = (
    "Range: bytes=0-0", "Range: bytes=9-2", "Range: bytes=" + "0-1," * 1500, "Range: bytes=-",
    "Range: bytes=18446744073709551616-", "Content-Length: -1", "Content-Length: 99999999999",
    "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked", "Expect: 100-continue",
    "Transfer-Encoding: chunked\r\nContent-Length: 3", "If-None-Match: " + '"a",' * 1500,
    "Authorization: Bearer " + "x" * 4000, "Authorization: Basic \xff", "Host: <script>",
    "Connection: upgrade\r\nUpgrade: websocket", "X: " + "y" * 20_000, "A: b\r\n" * 500,
    " folded: x", "no colon", "Accept-Encoding: gzip, br", "traceparent: 00-zz", "\x00: \x00",
)  # fmt: skip
_ENDS = ("\r\n\r\n", "\r\n", "", "\n\n", "\r\n\r\n0\r\n\r\n", "\r\n\r\nffffffffffffffff\r\n")


def hostile(draw: random.Random) -> bytes:
    """One request that nobody should send."""
    kind = draw.randrange(8)
    if kind == 0:
        return draw.randbytes(draw.randrange(1, 2000))
    if kind == 1:
        return b"\x16\x03\x01" + draw.randbytes(200)  # TLS where there is none
    if kind == 2:
        return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + draw.randbytes(30)
    headers = draw.sample(_HEADERS, draw.randrange(4))
    # Most have only one thing wrong, so that they come far.
    method = draw.choice(_METHODS) if draw.random() < 0.3 else "GET"
    version = draw.choice(("HTTP/1.0", "HTTP/9.9", "HTTP", "")) if kind == 3 else "HTTP/1.1"
    lines = [f"{method} {draw.choice(_PATHS)} {version}", *headers]
    if draw.random() < 0.7:
        lines.append("Host: x")
    text = "\r\n".join(lines) + (draw.choice(_ENDS) if draw.random() < 0.3 else _ENDS[0])
    if draw.random() < 0.2:
        text = text * draw.randrange(2, 5)  # pipelined
    return text.encode("latin-1", errors="replace")


def bad_requests(address: Address, path: str, begun: Event) -> None:
    """Sends what nobody should send, one request after the other, over new connections."""
    answers = iter(range(1 << 62))

    def attack(seed: int) -> None:
        draw = random.Random(seed)
        while True:
            with suppress(OSError), socket.create_connection(address, timeout=30) as client:
                client.sendall(hostile(draw))
                client.settimeout(0.15)  # half of a request is never answered
                while client.recv(1 << 14):
                    if next(answers) == 100:
                        begun.set()

    _all(attack, 8)


def dripping_connections(address: Address, path: str, begun: Event) -> None:
    """Holds 1,200 connections, each with half a request, and a byte more every three seconds.

    The port has fewer places: those that are closed come again in their turn.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(1200, most - 100)
    held: list[socket.socket | None] = [None] * count
    while True:
        for number in range(count):
            one = held[number]
            try:
                if one is None:
                    one = held[number] = socket.create_connection(address, timeout=30)
                    one.sendall(b"GET / HTTP/1.1\r\nX: ")
                one.sendall(b"x")
            except OSError:
                if one is not None:
                    one.close()
                held[number] = None
            if begun.is_set():
                time.sleep(3 / count)
        begun.set()


def slow_readers(address: Address, path: str, begun: Event) -> None:
    """40 connections that ask for much, and take 100 bytes now and then."""
    reading = iter(range(1 << 62))

    def attack(seed: int) -> None:
        while True:
            with suppress(OSError), socket.create_connection(address, timeout=30) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 200)
                while client.recv(100):
                    if next(reading) == 40:
                        begun.set()
                    time.sleep(0.3)

    _all(attack, 40)


FLOODS = {"bad requests": bad_requests, "dripping": dripping_connections, "slow": slow_readers}


def _all(attack: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def flooded(
    flood: Callable[[Address, str, Event], None], address: Address, path: str
) -> Iterator[None]:
    """The body runs while a process sends the flood, from the moment when it has its force.

    Args:
        flood: one of FLOODS, which never ends.
        address: the port.
        path: what those ask for who ask for something.
    """
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=flood, args=(address, path, begun), daemon=True)
    process.start()
    try:
        assert begun.wait(60)
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def heads(address: Address, count: int, connections: int) -> tuple[int, float]:
    """Asks for the headers of the large file, over several connections.

    Args:
        address: the Hub's port.
        count: how many requests.
        connections: over how many connections.

    Returns:
        How many were answered with 200 and no body, and the seconds that all of them took.
    """
    answered = [0] * connections
    began = time.monotonic()

    def attack(number: int) -> None:
        request = f"HEAD {WEIGHTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        with socket.create_connection(address, timeout=60) as client:
            client.sendall(request * (count // connections))
            answer = b""
            while answer.count(b"\r\n\r\n") < count // connections and len(answer) < 1 << 20:
                data = client.recv(1 << 16)
                assert data
                answer += data
        if answer.endswith(b"\r\n\r\n"):
            answered[number] = answer.count(b"HTTP/1.1 200 OK")

    _all(attack, connections)
    return sum(answered), time.monotonic() - began


class Others:
    """Callers with manners, each of another kind, who note how long they wait.

    Args:
        grpc_address: of the gRPC port.
        hub_address: of the Hub's port, which has the models `large` and `small`.
        metrics_address: of the port of metrics and probes.
    """

    def __init__(self, grpc_address: str, hub_address: str, metrics_address: str) -> None:
        self._grpc = grpc_address
        self._hub = hub_address
        self._metrics = metrics_address
        self._seed = self._begin = 0
        self.calls: dict[str, Callable[[], None]] = {
            "health": self._health,
            "ready": lambda: self._get(self._metrics, "/readyz"),
            "config": lambda: self._get(self._hub, "/small/resolve/main/config.json"),
            "first byte over gRPC": self._first_byte,
            "first byte over HTTP": self._first_byte_of_a_range,
        }

    def waits(
        self, *names: str, least: int = 40, most_seconds: float = 60
    ) -> dict[str, list[float]]:
        """Seconds that each call took, sorted; new connections each time.

        Args:
            names: the calls.
            least: how often each is made.
            most_seconds: fewer are made if they take so long in all.
        """
        found: dict[str, list[float]] = {}
        errors: list[Exception] = []

        def ask(name: str) -> None:
            deadline = time.monotonic() + most_seconds
            waits = found[name] = []
            try:
                while len(waits) < least and time.monotonic() < deadline:
                    began = time.monotonic()
                    self.calls[name]()
                    waits.append(time.monotonic() - began)
                    time.sleep(0.02)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=ask, args=(name,)) for name in names or self.calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return {name: sorted(waits) for name, waits in found.items()}

    def _get(self, address: str, path: str, begin: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            headers = {} if begin is None else {"Range": f"bytes={begin}-"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert response.status == (200 if begin is None else 206)
            assert response.read(None if begin is None else 1)
        finally:
            connection.close()

    def _health(self) -> None:
        with grpc.insecure_channel(self._grpc, _LOCAL) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def _first_byte(self) -> None:
        # A plan that no cache has.
        self._seed += 1
        plan = to_proto(Plan({"w": normal((10,))}, seed=self._seed))
        with grpc.insecure_channel(self._grpc, _LOCAL) as channel:
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(
                service_pb2.FetchRequest(plan=plan), timeout=30
            )
            next(call)
            call.cancel()

    def _first_byte_of_a_range(self) -> None:
        # A chunk that no cache has.
        self._begin = (self._begin + (3 << 20)) % LARGE_BYTES
        self._get(self._hub, WEIGHTS, self._begin)


_LOCAL = [("grpc.use_local_subchannel_pool", 1)]
