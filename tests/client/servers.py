"""Servers that misbehave, each in its own way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import google_crc32c
import grpc
from initcore import VirtualFile, layout
from initcore.backends import load
from initcore.wire.conversion import from_proto
from initserve.v1 import service_pb2, service_pb2_grpc

Response = service_pb2.FetchResponse
Change = Callable[[list[Response]], Any]

PIECE = 1000


def honest(request: service_pb2.FetchRequest) -> list[Response]:
    """The messages of a correct server for a range, in chunks of a thousand bytes."""
    file = VirtualFile(layout(from_proto(request.plan)), load("numpy"))
    info = service_pb2.FileInfo(
        total_size=file.size, plan_digest=file.layout.digest, stream_version=1
    )
    messages = [Response(info=info)]
    length = request.read_limit or file.size - request.read_offset
    for offset, piece in file.pieces(request.read_offset, length, PIECE):
        data = bytes(piece)
        chunk = service_pb2.Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
        messages.append(Response(chunk=chunk))
    return messages


class Changed(service_pb2_grpc.InitServiceServicer):
    """Sends the messages of a correct server after a change, which may also end the call.

    Attributes:
        requests: what it was asked, in order, with the time of each.
    """

    def __init__(
        self, change: Callable[[list[Response], grpc.ServicerContext], Any], times: int = 10**9
    ) -> None:
        self._change = change
        self._times = times
        self.requests: list[tuple[float, service_pb2.FetchRequest]] = []

    def Fetch(  # noqa: N802
        self, request: service_pb2.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[Response]:
        self.requests.append((time.monotonic(), request))
        messages = honest(request)
        wanted = len(self.requests) <= self._times
        changed = self._change(messages, context) if wanted else None
        yield from messages if changed is None else changed

    def Describe(  # noqa: N802
        self, request: service_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> service_pb2.DescribeResponse:
        """The right file, but a tensor of an unknown type and scheme."""
        file = layout(from_proto(request.plan))
        return service_pb2.DescribeResponse(
            info=honest(service_pb2.FetchRequest(plan=request.plan))[0].info,
            header=file.header,
            tensors=[service_pb2.TensorInfo(name="w", dtype=99, scheme=99)],
        )


@contextmanager
def serving(servicer: service_pb2_grpc.InitServiceServicer) -> Iterator[str]:
    """The address of a server with this servicer."""
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_InitServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
