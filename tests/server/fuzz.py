"""Sends random requests to a server while another process measures how long others wait.

    python tests/server/fuzz.py --requests 20000 --seed 1

prints, for a time without attack and for the attack: the latency of health checks and of the
first byte of a small fetch (median, 99th percentile, maximum), the longest time that one thread
held the server's interpreter, and how the requests were answered. A seed gives the same
requests again. At the end: the ten times in which the server used most of the processor before
another of its threads ran, with the requests that were open then. Judge by these: the clock has
the machine's other work in it. 20,000 requests take eight minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).parents[2]))

from initcore import Plan, normal
from initcore.backends import BACKENDS
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2

from tests import plans
from tests.server.held import HeldServer, Hold, held_server

# Calls at the same time; one of a hundred requests is as large as the server takes.
IN_FLIGHT = 4
LARGE = 100
MAX_BYTES = 16 << 20

# Where the server takes tokens, the probe has this one, and so has every second attacker.
_TOKEN = "secret-of-the-probe"

_PROBE = """
import json, sys, time
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from initcore import Plan, normal
from initcore.backends import BACKENDS
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
import threading
channel = grpc.insecure_channel(sys.argv[1])
health = health_pb2_grpc.HealthStub(channel)
service = service_pb2_grpc.InitServiceStub(channel)
metadata = [("authorization", "Bearer " + sys.argv[2])]
found = {"health": [], "first byte": []}
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
number = 0
while not stop.is_set():
    number += 1
    began = time.monotonic()
    health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    found["health"].append(time.monotonic() - began)
    # A plan that no cache has.
    plan = to_proto(Plan({"w": normal((10,))}, seed=number))
    began = time.monotonic()
    call = service.Fetch(service_pb2.FetchRequest(plan=plan), timeout=60, metadata=metadata)
    next(call)
    found["first byte"].append(time.monotonic() - began)
    call.cancel()
    stop.wait(0.02)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Waits:
    """What the probe and the server measured, in seconds.

    Attributes:
        latencies: of health checks and of first bytes, sorted.
        held_cpu: the longest hold of the interpreter in processor time.
        held_wall: the same by the clock, with what other processes took.
        seconds: how long it went on.
        longest: the longest holds.
    """

    latencies: dict[str, list[float]]
    held_cpu: float
    held_wall: float
    seconds: float
    longest: list[Hold]

    def __str__(self) -> str:
        lines = [
            f"{name}: p50 {at(values, 0.5):.1f}, p99 {at(values, 0.99):.1f}, "
            f"max {values[-1] * 1e3:.1f} ms of {len(values)}"
            for name, values in self.latencies.items()
        ]
        lines.append(f"held: {self.held_cpu * 1e3:.1f} ms of CPU, {self.held_wall * 1e3:.1f} ms")
        return "; ".join(lines) + f"; {self.seconds:.0f} s"


def at(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    return values[min(len(values) - 1, int(share * len(values)))] * 1e3


def measured(server: HeldServer, attack: Callable[[], None]) -> Waits:
    """Runs an attack while a process of its own measures how long others wait."""
    probe = subprocess.Popen(
        [sys.executable, "-c", _PROBE, server.address, _TOKEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        server.held()
        began = time.monotonic()
        attack()
        seconds = time.monotonic() - began
        cpu, wall, longest = server.held_longest()
        out, _ = probe.communicate("", timeout=120)
    finally:
        probe.kill()
    latencies = {name: sorted(values) for name, values in json.loads(out).items()}
    return Waits(latencies, cpu, wall, seconds, longest)


class Attack:
    """Sends requests, a few at a time, and counts how they are answered.

    Attributes:
        answers: how many calls ended with each status.
        times: of each call, its begin and end by the monotonic clock, and a line about it.
    """

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
        )
        self.answers: Counter[str] = Counter()
        self.times: list[tuple[float, float, str]] = []
        self._open: deque[Any] = deque()

    def send(self, method: str, request: bytes, metadata: Any, compressed: bool) -> None:
        """Starts a call; waits for the oldest if too many are open."""
        size = f"{len(request):,} bytes{' packed' if compressed else ''}"
        text = f"{method.rpartition('/')[2]} {size} {request[:24].hex()}"
        began = time.monotonic()
        kind = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        more = {"timeout": 60, "metadata": metadata, "compression": kind}
        if method.endswith("/Fetch"):
            call = self.channel.unary_stream(method)(request, **more)
            self._open.append((call, True, began, text))
        else:
            call = self.channel.unary_unary(method).future(request, **more)
            self._open.append((call, False, began, text))
        while len(self._open) >= IN_FLIGHT:
            self._look()

    def finish(self) -> None:
        """Waits for all open calls."""
        while self._open:
            self._look()
        self.channel.close()

    def _look(self) -> None:
        call, is_stream, began, text = self._open.popleft()
        try:
            if is_stream:
                list(itertools.islice(call, 3))  # of what may be a petabyte
            else:
                call.result()
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        call.cancel()
        self.answers[code] += 1
        self.times.append((began, time.monotonic(), f"{text}: {code}"))

    def during(self, hold: Hold) -> list[str]:
        """The requests that were open in a time in which the server was held, largest first."""
        begin = hold.end - hold.wall
        found = [text for began, ended, text in self.times if began < hold.end and ended > begin]
        return sorted(found, key=lambda text: -int(text.split()[1].replace(",", "")))


METHODS = [
    *["/initserve.v1.InitService/Fetch"] * 6,
    *["/initserve.v1.InitService/Describe"] * 4,
    "/initserve.v1.InitService/GetServerInfo",
    "/grpc.health.v1.Health/Check",
    "/initserve.v1.InitService/None",
]


def requests(seed: int, count: int) -> Iterator[tuple[str, bytes, Any, bool]]:
    """Method, request, metadata, and whether it is compressed: the same for the same seed."""
    draw = random.Random(seed)
    small = service_pb2.FetchRequest(
        plan=to_proto(Plan({"w": normal((3, 4), std=0.5)}, seed=5)), read_offset=3, read_limit=99
    ).SerializeToString()
    every = service_pb2.FetchRequest(
        plan=to_proto(plans.every_scheme()), read_limit=1000
    ).SerializeToString()
    for number in range(count):
        if number % LARGE == LARGE // 2:
            body = draw.choice(list(LARGE_REQUESTS.values()))(draw)[:MAX_BYTES]
        elif draw.random() < 0.3:
            body = field(1, b"".join(field(2, tensor(draw)) for _ in range(draw.randrange(1, 6))))
        else:
            body = damaged(draw, small if draw.random() < 0.8 else every)
        metadata = []
        if draw.random() < 0.1:
            metadata = [(f"x-{i}", "v" * draw.randrange(100)) for i in range(draw.randrange(60))]
        if draw.random() < 0.1:
            metadata.append(("authorization", "Bearer " + "x" * draw.randrange(3000)))
        if draw.random() < 0.1:
            metadata.append(("traceparent", "0" * draw.randrange(3000)))
        yield draw.choice(METHODS), body, metadata, draw.random() < 0.2


def damaged(draw: random.Random, request: bytes) -> bytes:
    """Random bytes, or a request with some bytes changed, cut out, doubled or added."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.choice([0, 1, 5, 30, 3000]))
    data = bytearray(request)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                data[at : at + 1] = draw.randbytes(1)
            case 1:
                del data[at : at + draw.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + draw.randrange(1, 200)]
            case _:
                data[at:at] = draw.choice([b"\xff" * 10, b"\x80" * 9 + b"\x01"])
    return bytes(data)


def tensor(draw: random.Random, depth: int = 0) -> bytes:
    """A tensor of random fields; with parts, if it is not too deep."""
    sizes = [0, 1, 2, 3, 7, 64, 1000, 4097, 1 << 20, 1 << 40, -1]
    shape = [draw.choice(sizes) for _ in range(draw.choice([0, 1, 2, 2, 3, 4, 59]))]
    if draw.random() < 0.5:
        shape = [max(1, min(size, 100)) for size in shape[:4]]
    message = plan_pb2.Tensor(
        name="".join(draw.choice("ab.\n\u03c9") for _ in range(draw.randrange(8))),
        shape=shape,
        scheme=draw.randrange(30),
        dtype=draw.randrange(8),
    )
    if draw.random() < 0.3:
        axes = list(range(len(shape)))
        draw.shuffle(axes)
        message.axes.extend(axes)
    if draw.random() < 0.3:
        setattr(message, draw.choice(["a", "b", "mean", "std", "val", "gain", "sparsity"]), 0.5)
    data = message.SerializeToString()
    if draw.random() < 0.4 and depth < 6:
        parts = [tensor(draw, depth + 1) for _ in range(draw.randrange(1, 4))]
        data += b"".join(field(24, part) for part in parts)
    return data


def tensors(count: int, make: Callable[[int], plan_pb2.Tensor]) -> bytes:
    """A request whose plan has these tensors."""
    return field(1, b"".join(field(2, make(i).SerializeToString()) for i in range(count)))


def of_parts(scheme: int, shape: list[int], part: plan_pb2.Tensor, count: int) -> bytes:
    """A request whose plan is one tensor of many parts."""
    whole = plan_pb2.Tensor(name="w", scheme=scheme, shape=shape, axis=1)
    return field(
        1,
        field(2, whole.SerializeToString() + field(24, part.SerializeToString()) * count),
    )


T = plan_pb2.Tensor
# What takes the longest for its bytes, found by measuring each alone.
LARGE_REQUESTS: dict[str, Callable[[random.Random], bytes]] = {
    "fields": lambda draw: bytes([8 * draw.randrange(2, 9), 1]) * (MAX_BYTES // 2),
    "fields of the plan": lambda draw: field(1, b"\x08\x01" * (MAX_BYTES // 2 - 8)),
    "empty tensors": lambda draw: field(1, b"\x12\x00" * (MAX_BYTES // 2 - 8)),
    "as many tensors as allowed": lambda draw: tensors(
        99_999, lambda i: T(name=f"layer.{i}.{draw.random()}", scheme=2, shape=[3, 5])
    ),
    "tensors that all differ": lambda draw: tensors(
        50_000, lambda i: T(name=f"{i}", scheme=2, shape=[i + 3, 5], std=i + draw.random())
    ),
    "tiny parts": lambda draw: of_parts(
        plan_pb2.CONCATENATE, [400, 90_000], T(name="p", scheme=2, shape=[400, 1]), 90_000
    ),
    "violations": lambda draw: tensors(
        90_000, lambda i: T(name=str(i), a=1, b=1, mean=1, std=1, val=1, dtype=7, mode=9)
    ),
    "a name": lambda draw: tensors(1, lambda i: T(name="x" * (15 << 20))),
    "a stream": lambda draw: tensors(1, lambda i: T(name="w", stream="\n" * (15 << 20))),
    "long names": lambda draw: tensors(
        3900, lambda i: T(name=f"{i:05}{draw.random()}" + "x" * 4000, scheme=1)
    ),
    "dimensions": lambda draw: field(1, field(2, field(2, b"\x01" * (15 << 20)))),
    "an unknown field": lambda draw: field(1, field(15, bytes(15 << 20))),
    "groups": lambda draw: field(1, b"\x0b" * (15 << 20)),
    "zeros, which compress well": lambda draw: bytes(MAX_BYTES),
    "small matrices": lambda draw: tensors(
        3000,
        lambda i: T(name=f"{i}{draw.random()}", scheme=plan_pb2.ORTHOGONAL, shape=[100, 100]),
    ),
}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field on the wire."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number on the wire."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def fuzz(
    seed: int, count: int, quiet_seconds: float, backend: str = "numpy", tokens: bool = False
) -> tuple[Waits, Waits, Attack]:
    """Measures a time without attack, then the attack; with a server that takes tokens or not."""
    with ExitStack() as stack:
        token_file = None
        if tokens:
            token_file = f"{stack.enter_context(TemporaryDirectory())}/tokens"
            Path(token_file).write_text(f"{_TOKEN}\n")
            Path(token_file).chmod(0o600)
        server = stack.enter_context(held_server(backend, token_file=token_file, max_streams=64))
        quiet = measured(server, lambda: time.sleep(quiet_seconds))
        attack = Attack(server.address)

        def attack_server() -> None:
            for number, (method, body, metadata, packed) in enumerate(requests(seed, count)):
                known = [("authorization", f"Bearer {_TOKEN}")] if tokens and number % 2 else []
                others = [one for one in metadata if not known or one[0] != "authorization"]
                attack.send(method, body, [*others, *known], packed)
            attack.finish()

        attacked = measured(server, attack_server)
    return quiet, attacked, attack


def main() -> None:
    """Runs it and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=BACKENDS, default="auto")
    parser.add_argument("--tokens", action="store_true", help="every second caller has a token")
    options = parser.parse_args()
    quiet, attacked, attack = fuzz(
        options.seed, options.requests, 30, options.backend, options.tokens
    )
    print(f"without attack: {quiet}")
    print(f"{options.requests} requests of seed {options.seed}: {attacked}")
    print(f"answers: {dict(attack.answers)}")
    for hold in attacked.longest:
        print(f"{hold.cpu * 1e3:.0f} ms of CPU, {hold.wall * 1e3:.0f} ms by the clock:")
        print("\n".join(f"    {text}" for text in attack.during(hold)[:IN_FLIGHT]))


if __name__ == "__main__":
    main()
