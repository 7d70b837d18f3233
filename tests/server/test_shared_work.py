"""Many clients of one plan cost the real command one generation, whatever their pace."""

from __future__ import annotations

import random
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
from initcore import Plan, VirtualFile, layout, normal
from initcore.backends import load
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2
from initserver.wire.encoding import OutgoingChunk

from tests.server.processes import Running, running

MIB = 1 << 20
FETCH = "/initserve.v1.InitService/Fetch"


def counted(server: Running, name: str) -> float:
    """A counter of the server's metrics, summed over its labels."""
    with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(rf"^initserver_{name}(?:{{.*}})? (\S+)$", text, re.M)))


def test_64_clients_of_one_plan_get_the_same_bits_from_one_generation() -> None:
    """They come one after the other, and every fourth one sleeps now and then."""
    plan = Plan({f"layers.{i}.w": normal((4096, 1024)) for i in range(16)}, seed=11)
    file = VirtualFile(layout(plan), load("native"))
    assert file.size > 256 * MIB
    request = service_pb2.FetchRequest(plan=to_proto(plan)).SerializeToString()
    expected = [
        OutgoingChunk.written(at, size, partial(file.read_into, at)).message
        for at, size in ((at, min(MIB, file.size - at)) for at in range(0, file.size, MIB))
    ]

    def client(address: str, number: int) -> bool:
        pace = random.Random(number)
        time.sleep(number * 0.1)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options) as channel:
            call = channel.unary_stream(FETCH)(request, timeout=200)
            next(call)
            for chunk, message in zip(expected, call, strict=True):
                if message != chunk:
                    return False
                if number % 4 == 0 and pace.random() < 0.05:
                    time.sleep(pace.random())
        return True

    with (
        running("--backend", "native", "--metrics-listen", "127.0.0.1:0") as server,
        ThreadPoolExecutor(64) as clients,
    ):
        answers = [clients.submit(client, server.address, number) for number in range(64)]
        assert all(answer.result() for answer in answers)
        assert counted(server, "sent_bytes_total") == 64 * file.size
        elements = sum(entry.tensor.count for entry in file.layout.entries)
        assert elements <= counted(server, "elements_total") <= 1.1 * elements
        assert counted(server, "cache_bytes") <= 512 * MIB
