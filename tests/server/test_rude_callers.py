"""One caller against the rest: whatever it holds open, the others are served."""

from __future__ import annotations

import resource
import signal
import socket
import struct
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import initclient as ic
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from initcore import Plan, normal
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from tests.server.processes import Running, running, wait_for
from tests.server.rude import RudeConnection

FETCH = "initserve.v1.InitService/Fetch"
DESCRIBE = "initserve.v1.InitService/Describe"
INFO = "initserve.v1.InitService/GetServerInfo"
CHECK, WATCH = "grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"
LOCAL = [("grpc.use_local_subchannel_pool", 1)]
SMALL = Plan({"w": normal((1000,))})
ENDLESS = service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((1 << 20, 1 << 20))})))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running("--metrics-listen", "127.0.0.1:0", "--max-streams", "8") as server:
        assert server.address
        yield server


def assert_serves(server: Running, seconds: float = 5) -> None:
    """A new client is answered by every method, by health and by the HTTP port."""
    with grpc.insecure_channel(server.address, LOCAL) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        request = service_pb2.FetchRequest(plan=to_proto(SMALL))
        call = stub.Fetch(request, timeout=seconds, wait_for_ready=True)
        assert sum(len(message.chunk.data) for message in call) > 4000
        assert stub.Describe(service_pb2.DescribeRequest(plan=to_proto(SMALL)), timeout=seconds)
        assert stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=seconds)
        health = health_pb2_grpc.HealthStub(channel)
        state = health.Check(health_pb2.HealthCheckRequest(), timeout=seconds).status
        assert state == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=seconds)
        assert next(watch).status == state
        watch.cancel()
    with urllib.request.urlopen(f"{server.metrics}/readyz", timeout=seconds) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("method", [FETCH, DESCRIBE, INFO, CHECK, WATCH])
@pytest.mark.parametrize("begun", ["no request", "half a request"])
def test_calls_whose_request_does_not_arrive_keep_nobody_waiting(
    server: Running, method: str, begun: str
) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            rude = stack.enter_context(RudeConnection(server.address))
            for _ in range(50):
                number = rude.begin(method)
                if begun == "half a request":
                    rude.send(number, b"\x00\x00\x00\x10\x00half")
        assert_serves(server)


def test_a_herd_of_large_requests_that_arrive_slowly_is_served(server: Running) -> None:
    """As many as may run: none is taken for a rude one while its request is on its way."""
    names = (f"layer.{i}." + "x" * 1000 for i in range(3000))
    plan = to_proto(Plan({name: normal((2,)) for name in names}))
    request = service_pb2.DescribeRequest(plan=plan)
    assert request.ByteSize() > 3_000_000
    with ExitStack() as stack:
        calls = []
        for _ in range(16):
            options = [*LOCAL, ("grpc.max_receive_message_length", -1)]
            channel = stack.enter_context(grpc.insecure_channel(server.address, options))
            stub = service_pb2_grpc.InitServiceStub(channel)
            fetch = service_pb2.FetchRequest(plan=plan, read_limit=1)
            calls.append(stub.Describe.future(request, timeout=120))
            calls.append(stub.Fetch(fetch, timeout=120))
        for call in calls[1::2]:
            with suppress(grpc.RpcError):
                list(call)
        codes = Counter(call.code() for call in calls)
    # Not more than --max-streams at the same time.
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes
    assert codes[grpc.StatusCode.OK] >= 16


def test_a_request_that_unpacks_to_more_than_the_limit_takes_no_memory(server: Running) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1000)) + packer.flush()
    body = struct.pack(">BI", 1, len(bomb)) + bomb
    before = peak_memory(server)
    with RudeConnection(server.address) as rude:
        number = rude.begin(FETCH, ("grpc-encoding", "gzip"))
        for at in range(0, len(body), 16_000):
            rude.send(number, body[at : at + 16_000], end=at + 16_000 >= len(body))
        rude.socket.settimeout(60)
        answer = b""
        while b"grpc-status" not in answer:
            answer += rude.socket.recv(1 << 16)
    assert b"Decompressed message larger than max" in answer
    assert peak_memory(server) - before < 200 << 20


def peak_memory(server: Running) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_a_call_whose_request_does_not_arrive_is_cancelled(server: Running) -> None:
    with RudeConnection(server.address) as rude:
        rude.begin(FETCH)
        rude.socket.settimeout(60)
        began = time.monotonic()
        answer = b""
        # RST_STREAM, or trailers with the status.
        while time.monotonic() < began + 60 and b"grpc-status" not in answer:
            answer += rude.socket.recv(1 << 16)
        assert b"grpc-status" in answer
        assert 5 < time.monotonic() - began < 40


def test_watchers_of_health_that_accept_no_byte_keep_nobody_waiting() -> None:
    with running("--metrics-listen", "127.0.0.1:0", "--grace", "2") as server, ExitStack() as stack:
        assert server.address
        for _ in range(60):
            rude = stack.enter_context(RudeConnection(server.address, window=0))
            rude.call(WATCH, b"")
            rude.call(CHECK, b"")
        assert_serves(server)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.end(30) == 0
        assert time.monotonic() - began < 10


def test_open_streams_of_reflection_keep_nobody_waiting(server: Running) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    with ExitStack() as stack:
        for _ in range(4):
            rude = stack.enter_context(RudeConnection(server.address))
            for _ in range(50):
                rude.begin("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert_serves(server)
        with grpc.insecure_channel(server.address, LOCAL) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            answer = next(stub.ServerReflectionInfo(iter([ask]), timeout=10))
            assert len(answer.list_services_response.service) == 3


def test_names_that_are_watched_are_not_kept(server: Running) -> None:
    with grpc.insecure_channel(server.address, LOCAL) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        name = "x" * (1 << 20)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """At least as many open files as a client needs that holds thousands of connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < soft:
        pytest.skip(f"this machine allows {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_that_drip_into_the_http_port_take_no_descriptors(server: Running) -> None:
    host, _, port = server.metrics.removeprefix("http://").rpartition(":")
    with descriptors(4000), ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection((host, int(port)), 30))
            for _ in range(1100)
        ]
        for one in held:
            with suppress(ConnectionError):  # it made room for another
                one.sendall(b"G")
        assert_serves(server)
        open_files = len(server.files())
        assert open_files < 400, open_files


def test_a_burst_of_connections_finds_room_in_the_queue_of_the_http_port(server: Running) -> None:
    """The system would drop the others, and their callers would try again after seconds."""
    host, _, port = server.metrics.removeprefix("http://").rpartition(":")
    with ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        try:
            stopped = psutil.Process(server.process.pid)
            wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED)
            for _ in range(120):
                one = socket.create_connection((host, int(port)), 10)
                stack.callback(one.close)
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
            # `connect` succeeds for those too that the system has dropped.
            assert queue_of(int(port)) >= 120
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert_serves(server)


def queue_of(port: int) -> int:
    """How many connections wait until a server at a port of 127.0.0.1 accepts them."""
    listening = "0A"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if local == f"0100007F:{port:04X}" and state == listening:
            return int(queues.partition(":")[2], 16)
    raise AssertionError(f"nothing listens at {port}")


def test_a_request_that_drips_into_the_http_port_is_ended(server: Running) -> None:
    host, _, port = server.metrics.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), 30) as one:
        one.settimeout(0.2)
        began, ended = time.monotonic(), False
        while time.monotonic() < began + 60 and not ended:
            try:
                one.sendall(b"G")
                ended = not one.recv(1)
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended


def test_connections_that_say_nothing_to_the_grpc_port_leave_descriptors_for_the_rest() -> None:
    """Also where the limit cannot be raised."""
    with (
        running("--metrics-listen", "127.0.0.1:0", descriptors=600) as server,
        descriptors(4000),
        ExitStack() as stack,
    ):
        host, _, port = server.address.rpartition(":")
        for _ in range(900):
            stack.enter_context(socket.create_connection((host, int(port)), 30))
        for path in ("livez", "readyz", "metrics"):
            with urllib.request.urlopen(f"{server.metrics}/{path}", timeout=10) as answer:
                assert answer.status == 200
        assert len(server.files()) < 500
        # The silent ones have not shaken hands, so they are closed after a while.
        wait_for(lambda: len(server.files()) < 100, 60)
        # Some that the system had queued are accepted only now.
        assert_serves(server, 30)


def test_readers_that_never_read_make_room_and_slow_ones_are_not_hurt() -> None:
    limits = ("--max-streams", "4", "--max-stall-seconds", "8")
    with running(*limits) as server, ExitStack() as stack:
        address = server.address
        for _ in range(3):
            rude = stack.enter_context(RudeConnection(address))
            rude.call(FETCH, ENDLESS.SerializeToString())
        # Reads a chunk twice a second, for longer than the limit.
        channel = stack.enter_context(grpc.insecure_channel(address, LOCAL))
        slow = service_pb2_grpc.InitServiceStub(channel).Fetch(ENDLESS, timeout=120)
        next(slow)
        offsets: list[int] = []
        stop = threading.Event()

        def read_slowly() -> None:
            while not stop.wait(0.5):
                offsets.append(next(slow).chunk.offset)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        try:
            retry = ic.Retry(patience=60)
            began = time.monotonic()
            for _ in range(3):
                values = ic.fetch(SMALL, target=address, retry=retry)
                assert values["w"].shape == (1000,)
            assert time.monotonic() - began < 60
            # Each takes the place of one that does not read, until none is left.
            with ExitStack() as others:
                for _ in range(3):
                    other = others.enter_context(RudeConnection(address))
                    other.call(FETCH, ENDLESS.SerializeToString())
                time.sleep(1)
                ic.fetch(SMALL, target=address, retry=retry)
            wait_for(lambda: len(offsets) > 20, 60)
        finally:
            stop.set()
            reader.join(30)
            slow.cancel()
        assert offsets == sorted(offsets)
        server.line("the reader took nothing for 8 s and another call needed the place")


def test_a_reader_that_was_ended_while_it_paused_goes_on_with_the_rest(tmp_path: Path) -> None:
    plan = Plan({"w": normal((4000, 3000), seed=3)})
    with running("--max-streams", "1", "--max-stall-seconds", "2") as server:
        with grpc.insecure_channel(server.address, LOCAL) as channel:
            request = service_pb2.FetchRequest(plan=to_proto(plan))
            call = service_pb2_grpc.InitServiceStub(channel).Fetch(request, timeout=120)
            whole = bytearray()
            info = next(call).info
            whole += next(call).chunk.data
            time.sleep(3)
            ic.fetch(SMALL, target=server.address)
            code = None
            try:
                for message in call:
                    whole += message.chunk.data
            except grpc.RpcError as error:
                code = error.code()
            # Clients take this code for a broken connection, so they ask for the rest.
            assert code == grpc.StatusCode.CANCELLED
            assert 0 < len(whole) < info.total_size
            request.read_offset = len(whole)
            rest = service_pb2_grpc.InitServiceStub(channel).Fetch(request, timeout=120)
            for message in rest:
                whole += message.chunk.data
            assert len(whole) == info.total_size
        ic.fetch_file(plan, tmp_path / "whole", target="local")
        assert (tmp_path / "whole").read_bytes() == whole
