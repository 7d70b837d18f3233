"""Whatever is sent, the server says what is wrong with it, stays small and goes on serving."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, normal, orthogonal, sparse
from initcore.backends import load
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2
from safetensors.numpy import save_file

from tests import plans
from tests.server.measured import MeasuredServer, measured_server, talking

MIB = 1 << 20

# What a hostile request may be answered with.
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

IN_FLIGHT = 16


class Attack:
    """Sends bytes as requests and counts how they are answered."""

    def __init__(self, server: MeasuredServer) -> None:
        self.channel = grpc.insecure_channel(
            server.address, [("grpc.max_receive_message_length", -1)]
        )
        self.fetch = self.channel.unary_stream("/initserve.v1.InitService/Fetch")
        self.describe = self.channel.unary_unary("/initserve.v1.InitService/Describe")
        self.answers: Counter[grpc.StatusCode] = Counter()
        self._open: deque[tuple[bytes, bool, Any]] = deque()

    def send(self, request: bytes, fetch: bool) -> None:
        """Sends a request; the answer is looked at when enough others are under way."""
        start = self.fetch if fetch else self.describe.future
        self._open.append((request, fetch, start(request, timeout=60)))
        while len(self._open) >= IN_FLIGHT:
            self._look()

    def finish(self) -> None:
        while self._open:
            self._look()

    def _look(self) -> None:
        request, fetch, call = self._open.popleft()
        try:
            if fetch:
                list(itertools.islice(call, 3))  # of what may be a petabyte
            else:
                call.result()
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
            details = error.details()
        call.cancel()
        self.answers[code] += 1
        assert code in ANSWERS, (code, details, request[:2000])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_file({"w": np.ones((3, 4), np.float32)}, folder / "model.safetensors")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 100)
    # Small caches, so that what grows is not one of them; requests as large as bombs are.
    with measured_server(
        "numpy",
        str(folder),
        cache_bytes=8 * MIB,
        matrix_cache_bytes=MIB,
        max_matrix_elements=1 << 12,
        max_request_bytes=64 * MIB,
    ) as server:
        yield server


@pytest.fixture
def attack(server: MeasuredServer) -> Iterator[Attack]:
    attack = Attack(server)
    yield attack
    attack.finish()
    attack.channel.close()
    assert_serves(server)


def assert_serves(server: MeasuredServer) -> None:
    """The server still gives the right bits."""
    plan = Plan({"w": normal((300, 1000)), "q": orthogonal((30, 20)), "s": sparse((9, 9), 0.5)})
    file = VirtualFile(layout(plan), load("numpy"))
    with talking(server) as stub:
        _, *chunks = stub.Fetch(service_pb2.FetchRequest(plan=to_proto(plan)), timeout=30)
    assert b"".join(m.chunk.data for m in chunks) == file.read(0, file.size)


SIZES = st.integers(0, 40) | st.sampled_from(
    [-1, -(2**63), 2**63 - 1, 2**62, 2**32, 2**31, 2**20, 2**16, 4097]
)
REALS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0, 0.5])
NAMES = st.deferred(
    lambda: (
        st.text(max_size=20) | st.sampled_from(["w", "", "__metadata__", "\x00" * 50, "💥" * 1025])
    )
)
U64 = st.integers(0, 40) | st.sampled_from([2**64 - 1, 2**63, 2**32])
I64 = SIZES
ENUM = st.integers(0, 30) | st.sampled_from([-1, 2**31 - 1, -(2**31), 1000])
SLICES = st.builds(plan_pb2.Slice, start=st.none() | SIZES, stop=st.none() | SIZES)
FILE_NAMES = [
    *("model.safetensors", "broken.safetensors", "none.safetensors", "", ".", "..", "/", "~"),
    *(
        "../model.safetensors",
        "a/../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
    ),
    *("model.safetensors\x00", "\x00", "x" * 4000, "x/" * 2000, "../" * 1300, "💥" * 1025),
    *("con\nfig", "model.safetensors/", "./model.safetensors", "//model.safetensors", "C:\\x"),
]
FILES = st.deferred(lambda: st.sampled_from(FILE_NAMES))
SHA256 = st.deferred(
    lambda: st.sampled_from(["", "0" * 64, "G" * 64, "../" * 21, "\x00" * 64, "a" * 5000])
)


def tensors_with(parts: Any) -> st.SearchStrategy[plan_pb2.Tensor]:
    return st.builds(
        plan_pb2.Tensor,
        parts=parts,
        name=NAMES,
        shape=st.lists(SIZES, max_size=4) | st.just([1] * 70),
        dtype=ENUM,
        scheme=st.integers(1, 29) | ENUM,
        stream=st.none() | NAMES,
        seed=st.none() | U64,
        slices=st.just([]) | st.lists(SLICES, max_size=4),
        **{
            name: st.none() | st.none() | st.none() | REALS
            for name in ("a", "b", "mean", "std", "val", "gain", "sparsity", "scale")
        },
        groups=st.none() | st.none() | I64,
        mode=st.just(0) | ENUM,
        nonlinearity=st.just(0) | ENUM,
        distribution=st.just(0) | ENUM,
        layout=st.just(0) | ENUM,
        batch_axes=st.just([]) | st.lists(st.integers(-5, 5), max_size=3),
        relative=st.none() | st.booleans(),
        zero_rows=st.just([]) | st.lists(I64, max_size=3),
        axis=st.none() | st.integers(-5, 5) | st.sampled_from([2**31 - 1, -(2**31)]),
        axes=st.just([]) | st.lists(st.integers(-5, 5) | st.just(2**31 - 1), max_size=5),
        checkpoint=st.none() | FILES,
        source=st.none() | FILES | st.just("w"),
        sha256=st.none() | SHA256,
    )


WITHOUT_PARTS = tensors_with(st.just([]))


@st.composite
def leaves(draw: st.DrawFn) -> plan_pb2.Tensor:
    """A function, since Hypothesis would print all that it is made of again and again."""
    return draw(WITHOUT_PARTS)


LEAVES = leaves()

# Those that could be right: random fields above rarely are.
PRETRAINED = st.builds(
    plan_pb2.Tensor,
    name=NAMES,
    shape=st.just([3, 4]),
    scheme=st.just(plan_pb2.PRETRAINED),
    checkpoint=FILES,
    source=st.none() | FILES | st.just("w"),
    sha256=st.none() | SHA256,
)
PARTS = st.builds(
    plan_pb2.Tensor,
    name=NAMES,
    shape=st.lists(st.integers(0, 5), min_size=2, max_size=2),
    scheme=st.integers(1, 8),
    val=st.none() | st.just(2),
)
JOINED = st.recursive(
    PARTS | PRETRAINED | LEAVES,
    lambda inner: st.builds(
        plan_pb2.Tensor,
        name=NAMES,
        shape=st.just([]) | st.lists(st.integers(0, 12), max_size=3),
        scheme=st.integers(24, 27) | st.integers(1, 29),
        parts=st.lists(inner, max_size=3),
        slices=st.just([]) | st.just([]) | st.lists(SLICES, max_size=3),
        zero_rows=st.just([]) | st.just([0]) | st.lists(I64, max_size=3),
        axis=st.none() | st.integers(-3, 3) | st.just(2**31 - 1),
        axes=st.just([]) | st.permutations([0, 1]) | st.lists(st.integers(-3, 3), max_size=3),
    ),
    max_leaves=6,
)

ANY = LEAVES | JOINED | PRETRAINED | tensors_with(st.lists(LEAVES, max_size=2))


@st.composite
def tensors(draw: st.DrawFn) -> plan_pb2.Tensor:
    """Any of them; some have parts that their scheme does not take."""
    return draw(ANY)


TENSORS = tensors()
REQUESTS = st.builds(
    service_pb2.FetchRequest,
    plan=st.builds(plan_pb2.Plan, seed=U64, tensors=st.lists(TENSORS, max_size=3)),
    read_offset=st.just(0) | U64,
    read_limit=st.integers(0, 5000) | U64,
    expected_digest=st.just("") | st.text(max_size=70) | st.just("x" * 100_000),
)


def test_no_message_is_answered_with_an_internal_error(attack: Attack) -> None:
    send_messages(attack, 1000)
    assert attack.answers[grpc.StatusCode.OK] > 100


def test_nor_where_there_is_no_folder_of_checkpoints() -> None:
    with measured_server("numpy", max_matrix_elements=1 << 12) as server:
        attack = Attack(server)
        send_messages(attack, 200)
        attack.channel.close()
        assert_serves(server)


def send_messages(attack: Attack, count: int) -> None:
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(REQUESTS)
    def send(request: service_pb2.FetchRequest) -> None:
        attack.send(request.SerializeToString(), fetch=True)
        describe = service_pb2.DescribeRequest(
            plan=request.plan, fingerprints=request.read_offset % 2 == 0
        )
        attack.send(describe.SerializeToString(), fetch=False)

    send()
    attack.finish()
    assert attack.answers.total() >= 2 * count


def test_a_flood_of_broken_bytes_does_no_harm_and_takes_no_memory(
    attack: Attack, server: MeasuredServer
) -> None:
    random_ = random.Random(20)
    valid = service_pb2.FetchRequest(
        plan=to_proto(plans.every_scheme()), read_limit=1000
    ).SerializeToString()
    small = service_pb2.FetchRequest(
        plan=to_proto(Plan({"w": normal((3, 4), std=0.5)}, seed=5)), read_offset=3, read_limit=99
    ).SerializeToString()
    before = 0
    for count in range(18_000):
        attack.send(broken(random_, small if count % 8 else valid), fetch=bool(count % 2))
        if count == 3000:
            attack.finish()
            before = server.rss
    attack.finish()
    assert attack.answers.total() == 18_000
    assert attack.answers[grpc.StatusCode.INVALID_ARGUMENT] > 1000
    assert server.rss - before < 48 * MIB


def broken(random_: random.Random, request: bytes) -> bytes:
    """Random bytes, or a request with a few bytes changed, cut out, doubled or added."""
    kind = random_.randrange(6)
    if kind == 0:
        return random_.randbytes(random_.choice([0, 1, 5, 30, 300]))
    data = bytearray(request)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data))
        if kind == 1:
            data[at] = random_.randrange(256)
        elif kind == 2:
            data[at] ^= 1 << random_.randrange(8)
        elif kind == 3:
            del data[at : at + random_.randrange(1, 20)]
            if not data:
                break
        elif kind == 4:
            data[at:at] = data[at : at + random_.randrange(1, 200)]
        else:
            data[at:at] = random_.choice(
                [b"\xff" * 10, b"\x80" * 9 + b"\x01", random_.randbytes(4)]
            )
    return bytes(data)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field on the wire."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def tensor(name: str = "w", scheme: int = 6, **more: Any) -> bytes:
    return plan_pb2.Tensor(name=name, scheme=scheme, **more).SerializeToString()


def names(count: int, make: Any) -> bytes:
    return b"".join(field(2, tensor(make(i))) for i in range(count))


def part(content: bytes) -> bytes:
    return field(24, content)


def nested(depth: int) -> bytes:
    """Tensors within tensors, each of one part."""
    inner = tensor(scheme=plan_pb2.ZEROS, shape=[2])
    for _ in range(depth):
        inner = tensor(scheme=plan_pb2.PERMUTE, axes=[0]) + part(inner)
    return field(2, inner)


STACK = tensor(scheme=plan_pb2.STACK)
SMALLEST = b"\x20\x06"  # a scheme, ZEROS, and nothing else

BOMBS = {
    "millions of empty parts": lambda: field(2, STACK + part(b"") * (13 << 20)),
    "millions of small parts": lambda: field(2, STACK + part(SMALLEST) * (8 << 20)),
    "small parts in many tensors": lambda: b"".join(
        field(2, tensor(str(i), scheme=plan_pb2.STACK) + part(SMALLEST) * 90) for i in range(85_000)
    ),
    "small parts of long tags": lambda: b"".join(
        field(2, tensor(str(i), scheme=25) + b"\xc2\x81\x80\x00\x02\x20\x06" * 60)
        for i in range(85_000)
    ),
    "parts with every field wrong": lambda: field(
        2, STACK + part(tensor(a=1, b=1, mean=1, std=1, val=1, gain=1, dtype=2)) * 90_000
    ),
    "slices in many parts": lambda: field(2, STACK + part(tensor() + field(7, b"") * 8000) * 2500),
    "zero rows in many tensors": lambda: b"".join(
        field(2, tensor(str(i), shape=[1 << 20]) + field(23, b"\xff\x3f" * 8000))
        for i in range(2500)
    ),
    "zero rows in many parts": lambda: field(
        2, STACK + part(tensor(shape=[1 << 20]) + field(23, b"\xff\x3f" * 8000)) * 2500
    ),
    "nested a thousand deep": lambda: nested(1000),
    "nested deep and wide": lambda: (
        nested(7)
        + field(2, part(part(part(part(part(part(part(part(part(SMALLEST * 7000)))))))))) * 900
    ),
    "millions of axes": lambda: field(2, tensor() + field(26, b"\x01" * (40 << 20))),
    "a checkpoint of 40 MiB": lambda: field(2, tensor(checkpoint="x" * (40 << 20))),
    "many checkpoints": lambda: b"".join(
        field(2, tensor(str(i), 28, shape=[3], checkpoint=f"{i}" + "x" * 3000, source="y" * 4000))
        for i in range(5000)
    ),
    "millions of empty tensors": lambda: field(2, b"") * (20 << 20),
    "millions of names": lambda: names(1_000_000, str),
    "a header of long names": lambda: names(7000, lambda i: f"{i:05}" + "x" * 4000),
    "a header of escapes": lambda: names(5000, lambda i: f"{i:05}" + "\x01" * 3000),
    "streams of escapes": lambda: b"".join(
        field(2, tensor(str(i), stream=f"{i:05}" + "\x01" * 4000)) for i in range(15_000)
    ),
    "a name of 40 MiB": lambda: field(2, tensor("x" * (40 << 20))),
    "a stream of 40 MiB": lambda: field(2, tensor(stream="x" * (40 << 20))),
    "millions of dimensions": lambda: field(2, tensor() + field(2, b"\x01" * (40 << 20))),
    "millions of slices": lambda: field(2, tensor() + field(7, b"") * (20 << 20)),
    "slices in many tensors": lambda: field(2, tensor() + field(7, b"") * 8000) * 2500,
    "dimensions in many tensors": lambda: field(2, field(2, b"\x01" * 16000)) * 2500,
    "millions of batch axes": lambda: field(2, tensor() + field(21, b"\x01" * (40 << 20))),
    "violations in every field": lambda: b"".join(
        field(2, tensor(str(i), a=1, b=1, mean=1, std=1, val=1, gain=1, dtype=99, mode=99))
        for i in range(99_000)
    ),
    "a field that is not known": lambda: field(15, bytes(40 << 20)),
    "groups that never end": lambda: b"\x0b" * (20 << 20),
    "the same name a million times": lambda: field(2, tensor()) * 1_000_000,
    "warnings without end": lambda: b"".join(
        field(2, tensor(f"{i:05}" + "ω" * 60, shape=[0])) for i in range(50_000)
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_large_requests_take_no_more_than_a_few_times_their_size(
    bomb: str, server: MeasuredServer, attack: Attack
) -> None:
    plan = BOMBS[bomb]()
    before = server.peak_rss
    attack.send(field(1, plan), fetch=True)
    attack.finish()
    # One of 40 MiB is there as gRPC's slice, as bytes, and as the plan's bytes: 203 MiB at most.
    assert server.peak_rss - before < 320 * MIB, attack.answers


def test_a_request_above_the_limit_is_refused_by_grpc(attack: Attack) -> None:
    attack.send(bytes(65 << 20), fetch=True)
    attack.finish()
    assert attack.answers == {grpc.StatusCode.RESOURCE_EXHAUSTED: 1}
