"""The other processes of serving.py: clients, and servers of grpcio and nothing else.

python benchmarks/_peer.py ceiling CHUNKS     # one chunk again and again; prints its port
python benchmarks/_peer.py file CHUNKS        # as many chunks as a file has; prints its port
python benchmarks/_peer.py drawn CHUNKS       # chunks of normals, drawn when asked; prints its port
python benchmarks/_peer.py client             # a JSON order a line on stdin, an answer each
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

CHUNK = 1 << 20
_METHOD = "/ceiling.Ceiling/Fetch"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def constants(chunks: int, distinct: int) -> Callable[[bytes], Iterator[bytes]]:
    """Streams of constant chunks: all that grpcio can do.

    One chunk stays in the processor's cache. A file of `distinct` chunks is read from memory, as
    every server has to read a file that it keeps.
    """
    kept = [bytes([65 + i % 26]) * CHUNK for i in range(distinct)]

    def fetch(request: bytes) -> Iterator[bytes]:
        for i in range(chunks):
            yield kept[i % distinct]

    return fetch


def draws(chunks: int) -> Callable[[bytes], Iterator[bytes]]:
    """Streams of drawn chunks, three at a time on all CPUs: no cache, no limits, no metrics."""
    from initcore import VirtualFile, layout
    from initcore.backends import load
    from initserver.wire import OutgoingChunk

    pool, backend = ThreadPoolExecutor(len(os.sched_getaffinity(0))), load("native")

    def fetch(request: bytes) -> Iterator[bytes]:
        file = VirtualFile(layout(plan_of(chunks, int(request))), backend)
        first = file.size - (chunks << 20)

        def made(index: int) -> bytes:
            begin = first + index * CHUNK
            return OutgoingChunk.written(begin, CHUNK, partial(file.read_into, begin)).message

        ahead = [pool.submit(made, index) for index in range(min(3, chunks))]
        for index in range(chunks):
            yield ahead.pop(0).result()
            if index + 3 < chunks:
                ahead.append(pool.submit(made, index + 3))

    return fetch


def serve(stream: Callable[[bytes], Iterator[bytes]]) -> None:
    """A server of grpcio with one method, and nothing else; prints its port."""

    def fetch(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        return stream(request)

    handlers = {"Fetch": grpc.unary_stream_rpc_method_handler(fetch)}
    server = grpc.server(ThreadPoolExecutor(32), options=_UNLIMITED)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ceiling.Ceiling", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def obey() -> None:
    """Fetches what each line says, and answers with seconds and CPU seconds."""
    import initclient as ic

    there: dict[int, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        began, used = time.perf_counter(), sum(os.times()[:2])
        if order["what"] == "ceiling":
            _drain(order["target"], order["mebibytes"])
        elif order["what"] == "checked":
            _check_and_write(there, order["target"], order["mebibytes"], order["seed"])
        elif order["new_memory"]:
            ic.fetch(plan_of(order["mebibytes"], order["seed"]), target=order["target"])
        else:
            _fetch_into(there, plan_of(order["mebibytes"], order["seed"]), order["target"])
        answer = time.perf_counter() - began, sum(os.times()[:2]) - used
        print(json.dumps(answer), flush=True)


def _fetch_into(there: dict[int, Any], plan: Any, target: str) -> None:
    """Into memory that is there, as a model's is; new memory costs what the system makes it."""
    import numpy as np
    from initclient._files.sinks import Scattered
    from initclient._source import make_request, source_of
    from initclient._transport.blocking import download

    request = make_request(plan, None, source_of(target))
    layout = request.layout
    size = layout.size - layout.data_begin
    if size not in there:
        there[size] = np.ones(size, dtype=np.uint8)
    download(request, Scattered([(layout.data_begin, there[size])]))


def _drain(target: str, mebibytes: int) -> None:
    with grpc.insecure_channel(target, options=_UNLIMITED) as channel:
        total = sum(len(data) for data in channel.unary_stream(_METHOD)(b""))
    assert total == mebibytes << 20


def _check_and_write(there: dict[int, Any], target: str, mebibytes: int, seed: int) -> None:
    """The least that a client has to do with data: a checksum, and a copy to its place."""
    import numpy as np
    from initcore.wire import crc32c

    size = mebibytes << 20
    if size not in there:
        there[size] = np.ones(size, dtype=np.uint8)
    place, at = there[size], 0
    with grpc.insecure_channel(target, options=_UNLIMITED) as channel:
        for data in channel.unary_stream(_METHOD)(str(seed).encode()):
            received = np.frombuffer(data, np.uint8)[:CHUNK]
            crc32c(received.data)
            place[at : at + len(received)] = received
            at += len(received)
    assert at == size


def plan_of(mebibytes: int, seed: int) -> Any:
    """A file of normals in bfloat16."""
    import initclient as ic

    return ic.Plan({"w": ic.normal((mebibytes, 512, 1024), std=0.02, dtype="bfloat16")}, seed)


if __name__ == "__main__":
    kind, chunks = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if kind == "client":
        obey()
    else:
        serve(
            draws(chunks) if kind == "drawn" else constants(chunks, chunks if kind == "file" else 1)
        )
