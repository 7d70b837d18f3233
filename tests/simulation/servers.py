"""Model servers: each sends the right file of any plan, but for the faults of its character."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from initserve.v1 import service_pb2

from tests.simulation.channels import AsyncChannel, Channel, Event, Exchange, Status
from tests.simulation.contents import chunk, content_of
from tests.simulation.faults import (
    ANYWHERE,
    AT_A_CHUNK,
    AT_THE_INFO,
    NAMES,
    any_status,
    broken,
    hinted,
    refused,
    unknown_scheme,
)
from tests.simulation.world import World


@dataclass
class Server:
    """A server.

    Attributes:
        address: its address.
        faults: what its calls suffer from, by name; none for a healthy server.
        often: the share of its calls that suffer.
        chunk_bytes: the size of its chunks.
        latency: seconds before each message.
        idle: the client's limit of silence.
        up: whether it runs.
        epoch: how often it was restarted.
        open: calls that run.
    """

    address: str
    faults: tuple[str, ...]
    often: float
    chunk_bytes: int
    latency: float
    idle: float
    up: bool = True
    epoch: int = 0
    open: list[Exchange] = field(default_factory=list)

    @classmethod
    def drawn(cls, random: Random, address: str, idle: float, healthy: bool) -> Server:
        """A server of a random character."""
        faults: tuple[str, ...] = ()
        if not healthy:
            faults = tuple(random.sample(NAMES, random.choice((1, 1, 2, 4))))
        return cls(
            address,
            faults,
            random.choice((0.2, 0.6, 1.0)),
            random.choice((100, 333, 1024, 10_000)),
            random.choice((0.0, 0.001, 0.05)) if random.random() < 0.9 else 0.5 * idle,
            idle,
        )

    def kill(self) -> None:
        """Ends it with all its calls."""
        self.up = False
        for exchange in self.open:
            exchange.interrupt(broken())
        self.open.clear()

    def restart(self) -> None:
        """Starts it again."""
        self.up = True
        self.epoch += 1

    def __str__(self) -> str:
        about = ", ".join(self.faults) or "healthy"
        return f"{self.address}: {about}; {self.often:.0%} of calls, {self.chunk_bytes} bytes"


class Network:
    """The channels of a world to its servers.

    Args:
        world: the world.
        servers: the servers.
    """

    def __init__(self, world: World, servers: list[Server]) -> None:
        self._world = world
        self._servers = {server.address: server for server in servers}

    def channel(self, address: str, options: Any, credentials: Any) -> Channel:
        """A blocking channel; see `Machine.channel`."""
        return Channel(self._world, address, self._answer, self._opened)

    def asyncio_channel(self, address: str, options: Any, credentials: Any) -> AsyncChannel:
        """A channel of asyncio."""
        return AsyncChannel(self._world, address, self._answer, self._opened)

    def _answer(self, channel: Channel, method: str, request: Any) -> Iterator[Event]:
        server, world = self._servers[channel.address], self._world
        if channel.epoch is None:
            channel.epoch = server.epoch
        is_stale, channel.epoch = channel.epoch != server.epoch, server.epoch
        if not server.up:
            return iter([refused()])
        if is_stale:
            return iter([Event(0.0, status=broken(), text="a stale connection")])
        fault = ""
        if server.faults and world.random.random() < server.often:
            fault = world.random.choice(server.faults)
        if world.tracing:
            place = f"{request.read_offset}+{request.read_limit}" if "Fetch" in method else ""
            world.log(f"{method.rpartition('/')[2]} {server.address} {place} {fault or 'well'}")
        if fault == "refused":
            return iter([refused()])
        script = _fetch if isinstance(request, service_pb2.FetchRequest) else _describe
        return script(server, world.random, request, fault)

    def _opened(self, address: str, exchange: Exchange) -> None:
        # A kill of the server ends it.
        self._servers[address].open.append(exchange)


def _fetch(
    server: Server, random: Random, request: service_pb2.FetchRequest, fault: str
) -> Iterator[Event]:
    content = content_of(request.plan)
    begin, size = request.read_offset, content.layout.size
    end = min(size, begin + request.read_limit) if request.read_limit else size
    good = [Event(server.latency, _info(content.info), text="info")]
    for at in range(begin, end, server.chunk_bytes):
        data = content.data[at : min(at + server.chunk_bytes, end)]
        text = f"bytes {at}+{len(data)}"
        good.append(Event(server.latency, chunk(at, data), good=len(data), text=text))
    good.append(Event(server.latency, text="end"))
    chunks = range(1, len(good) - 1)
    place, change = -1, None
    if fault in AT_THE_INFO:
        place, change = 0, AT_THE_INFO[fault]
    elif fault in AT_A_CHUNK and chunks:
        place, change = random.choice(chunks), AT_A_CHUNK[fault]
    elif fault in ANYWHERE:
        place, change = random.randrange(len(good)), ANYWHERE[fault]
    for index, event in enumerate(good):
        if index == place and change:
            yield from change(random, event, content, server.idle)
        else:
            yield event


def _describe(
    server: Server, random: Random, request: service_pb2.DescribeRequest, fault: str
) -> Iterator[Event]:
    response = service_pb2.DescribeResponse()
    response.CopyFrom(content_of(request.plan).description)
    if not request.fingerprints:
        for tensor in response.tensors:
            tensor.fingerprint = b""
    statuses = {
        "cut": lambda _: broken(),
        "any status": any_status,
        "hint": hinted,
        "unknown scheme": unknown_scheme,
    }
    if fault in statuses:
        yield Event(server.latency, status=statuses[fault](random), text=fault)
        return
    if fault in ("silence", "endless signs of life"):
        yield Event(float("inf"), text="silence")
    if fault in ("another file", "another header"):
        name = "plan_digest" if fault == "another file" else ""
        if name:
            response.info.plan_digest = "0" * 64
        else:
            response.header = bytes(len(response.header))
    elif fault == "early end" and response.tensors:
        response.tensors.pop()
    elif fault == "garbage":
        internal = Status(grpc.StatusCode.INTERNAL, "Exception deserializing response!")
        yield Event(server.latency, status=internal, text=fault)
        return
    delay = random.uniform(0.5, 2.0) * server.idle if fault == "pause" else server.latency
    yield Event(delay, response.SerializeToString(), text="description")


def _info(info: service_pb2.FileInfo) -> bytes:
    return service_pb2.FetchResponse(info=info).SerializeToString()
