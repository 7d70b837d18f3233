"""Each limit is refused before the work it is about, with its reason, and shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from initcore import Plan, VirtualFile, __version__, layout, normal, orthogonal, zeros
from initcore.wire.conversion import to_proto
from initserve.v1 import plan_pb2, service_pb2, service_pb2_grpc
from initserver.config.limits import Limits
from initserver.config.server_config import CHUNK_BYTES
from initserver.rpc.service import RETRY_SECONDS, limits_message

from tests.server.observers import Counts, watched_service

Stub = service_pb2_grpc.InitServiceStub

SMALL = Plan({"w": zeros((10,))})
ENDLESS = Plan({"w": zeros((1 << 20, 1 << 20))})
MOST = 1 << 26


def request(plan: Plan, **more: Any) -> service_pb2.FetchRequest:
    return service_pb2.FetchRequest(plan=to_proto(plan), **more)


def refusal(stub: Stub, message: service_pb2.FetchRequest) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Fetch(message, timeout=30))
    return caught.value


def detail(error: grpc.RpcError, kind: type[Message]) -> Any:
    """The one detail of this kind."""
    (found,) = [d for d in rpc_status.from_call(error).details if d.Is(kind.DESCRIPTOR)]
    message = kind()
    found.Unpack(message)
    return message


def info(error: grpc.RpcError) -> tuple[str, dict[str, str]]:
    found = detail(error, error_details_pb2.ErrorInfo)
    assert found.domain == "initserve"
    return found.reason, dict(found.metadata)


@pytest.fixture(scope="module")
def limited() -> Iterator[tuple[Stub, Counts]]:
    limits = {
        "max_tensors": 100,
        "max_header_bytes": 5000,
        "max_fetch_bytes": MOST,
        "max_matrix_elements": 400,
        "max_streams": 2,
        "max_request_bytes": 1 << 18,
    }
    with (
        watched_service(**limits) as (address, counts),
        grpc.insecure_channel(address) as channel,
    ):
        yield Stub(channel), counts


@pytest.mark.parametrize(
    ("reason", "limit", "field", "message"),
    [
        (
            "MAX_TENSORS",
            100,
            "plan.tensors",
            request(Plan({str(i): zeros((1,)) for i in range(101)})),
        ),
        (
            "MAX_HEADER_BYTES",
            5000,
            "plan.tensors",
            request(Plan({str(i) + "x" * 200: zeros((1,)) for i in range(30)})),
        ),
        (
            # What JSON makes of a name shows only once the plan is laid out.
            "MAX_HEADER_BYTES",
            5000,
            "plan.tensors",
            request(Plan({str(i) + "\x01" * 100: zeros((1,)) for i in range(20)})),
        ),
        ("MAX_FETCH_BYTES", MOST, "read_limit", request(ENDLESS)),
        ("MAX_FETCH_BYTES", MOST, "read_limit", request(ENDLESS, read_limit=MOST + 1)),
    ],
)
def test_what_is_above_a_limit_is_refused_with_the_limit_and_the_field(
    limited: tuple[Stub, Counts],
    reason: str,
    limit: int,
    field: str,
    message: service_pb2.FetchRequest,
) -> None:
    stub, counts = limited
    before = counts.made_bytes
    error = refusal(stub, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert info(error) == (reason, {"limit": str(limit)})
    (violation,) = detail(error, error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert str(limit) in error.details()
    assert counts.made_bytes == before


def test_just_at_the_limits_everything_is_served(limited: tuple[Stub, Counts]) -> None:
    stub, _ = limited
    many = Plan({str(i): zeros((1,), dtype="U8") for i in range(60)})
    assert len(list(stub.Fetch(request(many), timeout=30))) == 2
    parts = list(stub.Fetch(request(ENDLESS, read_limit=MOST), timeout=30))
    assert sum(len(part.chunk.data) for part in parts) == MOST
    assert list(stub.Fetch(request(Plan({"q": orthogonal((20, 20))})), timeout=30))


def test_a_matrix_above_the_limit_is_a_wrong_shape(limited: tuple[Stub, Counts]) -> None:
    error = refusal(limited[0], request(Plan({"q": orthogonal((20, 21))})))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert info(error) == ("PLAN_INVALID", {"version": __version__})
    (violation,) = detail(error, error_details_pb2.BadRequest).field_violations
    assert violation.field == "tensors[0].shape"
    assert "at most 400 elements" in violation.description


def test_a_request_above_the_limit_is_refused_by_grpc(limited: tuple[Stub, Counts]) -> None:
    error = refusal(limited[0], service_pb2.FetchRequest(expected_digest="x" * (1 << 18)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_one_stream_too_many_is_told_when_to_come_back(limited: tuple[Stub, Counts]) -> None:
    stub, counts = limited
    part = request(ENDLESS, read_limit=MOST)
    with_room = [stub.Fetch(part, timeout=60) for _ in range(2)]
    for call in with_room:
        next(call)
    error = refusal(stub, part)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info(error) == ("MAX_STREAMS", {"limit": "2"})
    delay = detail(error, error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta().total_seconds() == RETRY_SECONDS
    # Everything else is answered.
    stub.Describe(service_pb2.DescribeRequest(plan=to_proto(SMALL)), timeout=10)
    for call in with_room:
        list(call)
    assert list(stub.Fetch(part, timeout=10))
    wait_until(lambda: counts.streams == 0)


@pytest.mark.parametrize("end", ["cancelled", "refused", "finished"])
def test_a_stream_makes_room_however_it_ends(limited: tuple[Stub, Counts], end: str) -> None:
    stub, counts = limited
    for _ in range(5):
        if end == "refused":
            refusal(stub, request(SMALL, read_offset=10**9))
        elif end == "finished":
            list(stub.Fetch(request(SMALL), timeout=10))
        else:
            call = stub.Fetch(request(ENDLESS, read_limit=MOST), timeout=10)
            next(call)
            call.cancel()
        wait_until(lambda: counts.streams == 0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("message", "code", "reason", "metadata"),
    [
        (
            request(Plan({"w": zeros((-1,))})),
            grpc.StatusCode.INVALID_ARGUMENT,
            "PLAN_INVALID",
            {"version": __version__},
        ),
        (
            request(SMALL, read_offset=10**6),
            grpc.StatusCode.OUT_OF_RANGE,
            "OFFSET_OUT_OF_RANGE",
            {"read_offset": "1000000", "total_size": str(layout(SMALL).size)},
        ),
        (
            request(SMALL, expected_digest="0" * 64),
            grpc.StatusCode.FAILED_PRECONDITION,
            "DIGEST_MISMATCH",
            {
                "expected_digest": "0" * 64,
                "plan_digest": layout(SMALL).digest,
                "version": __version__,
            },
        ),
    ],
)
def test_every_refusal_says_its_reason(
    limited: tuple[Stub, Counts],
    message: service_pb2.FetchRequest,
    code: grpc.StatusCode,
    reason: str,
    metadata: dict[str, str],
) -> None:
    error = refusal(limited[0], message)
    assert (error.code(), info(error)) == (code, (reason, metadata))


@pytest.mark.parametrize(
    "plan",
    [
        b"\xff\xff\xff",  # a number that does not end
        b"\x0a\x05ab",  # shorter than it says
        b"\x0b",  # a group
        b"\x0a\x04\x12\x02\x0a\x05",  # wrong inside the plan's tensor
        b"\x0a\x07\x12\x05\x0a\x03\xff\xfe\xfd",  # a name that is not UTF-8
    ],
)
@pytest.mark.parametrize("method", ["Fetch", "Describe"])
def test_bytes_that_are_no_message_are_the_callers_fault(method: str, plan: bytes) -> None:
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        call = channel.unary_stream(f"/initserve.v1.InitService/{method}")(plan, timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert info(caught.value) == ("REQUEST_MALFORMED", {})


def test_an_internal_error_has_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(VirtualFile, "read_into", broken)
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        error = refusal(Stub(channel), request(SMALL))
    assert error.code() == grpc.StatusCode.INTERNAL
    reason, metadata = info(error)
    assert reason == "INTERNAL"
    assert metadata["reference"] in error.details()


@pytest.mark.parametrize("size", [10, 10**6])
def test_long_values_are_cut_to_what_a_client_can_receive(size: int) -> None:
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        error = refusal(Stub(channel), request(SMALL, expected_digest="\x00💥" * size))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert info(error)[0] == "DIGEST_MISMATCH"
        message = plan_pb2.Plan(tensors=[{"name": "w" * 9 * size, "scheme": 6, "shape": [-1]}])
        error = refusal(Stub(channel), service_pb2.FetchRequest(plan=message))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert info(error)[0] == "PLAN_INVALID"


def test_a_plan_in_two_pieces_is_one_plan() -> None:
    """As protobuf has it: a field that comes twice is merged."""
    plan = Plan({"a": zeros((3,)), "b": normal((4,))}, seed=3)
    first, second = to_proto(plan), to_proto(plan)
    del first.tensors[1], second.tensors[0]
    pieces = [service_pb2.FetchRequest(plan=piece).SerializeToString() for piece in (first, second)]
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        fetch = channel.unary_stream("/initserve.v1.InitService/Fetch")
        whole = request(plan).SerializeToString()
        assert list(fetch(b"".join(pieces))) == list(fetch(whole))


def test_the_server_shows_its_limits() -> None:
    limits = {"max_tensors": 7, "cache_bytes": 0, "max_streams": 3}
    with watched_service(**limits) as (address, _), grpc.insecure_channel(address) as channel:
        shown = Stub(channel).GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10).limits
    expected = asdict(Limits(**limits))
    for field in service_pb2.Limits.DESCRIPTOR.fields:
        value = CHUNK_BYTES if field.name == "chunk_bytes" else expected[field.name]
        assert getattr(shown, field.name) == value, field.name


def test_a_limit_that_the_message_has_no_field_for_is_left_out_of_it() -> None:
    @dataclass(frozen=True, kw_only=True)
    class More(Limits):
        max_of_something: int = 5

        def __post_init__(self) -> None:
            """Without bounds."""

    assert limits_message(More(max_tensors=7)) == limits_message(Limits(max_tensors=7))
    assert limits_message(More(max_tensors=7)).max_tensors == 7


def test_every_limit_has_a_flag_and_a_help() -> None:
    for one in fields(Limits):
        assert one.metadata["flag"] == "--" + one.name.replace("_", "-")
        assert one.metadata["help"]
        assert getattr(Limits(), one.name) == one.default


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tensors", 0), ("max_streams", -1), ("cache_bytes", 1.5), ("max_request_bytes", 2**31)],
)
def test_limits_that_cannot_be_right_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is .* within"):
        Limits(**{name: value})


def test_fingerprints_just_at_the_limit_are_computed() -> None:
    with (
        watched_service(max_fingerprint_bytes=1000) as (address, _),
        grpc.insecure_channel(address) as channel,
    ):

        def ask(count: int) -> Any:
            plan = to_proto(Plan({"w": normal((count,))}))
            request = service_pb2.DescribeRequest(plan=plan, fingerprints=True)
            return Stub(channel).Describe(request, timeout=30)

        assert len(ask(250).tensors[0].fingerprint) == 16
        with pytest.raises(grpc.RpcError, match="at most 1000"):
            ask(251)


def test_warnings_that_are_not_shown_are_counted() -> None:
    plan = to_proto(Plan({f"w{n}": normal((0,)) for n in range(103)}))
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        request = service_pb2.FetchRequest(plan=plan)
        info = next(service_pb2_grpc.InitServiceStub(channel).Fetch(request, timeout=20)).info
    assert len(info.warnings) == 101
    assert info.warnings[-1] == "3 more warnings are not shown"
