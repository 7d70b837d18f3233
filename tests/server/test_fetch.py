"""Fetch serves any byte range of the plan's file, and stops when nobody listens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import google_crc32c
import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, normal, zeros
from initcore.backends import load
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc
from numpy.typing import NDArray

from tests import plans

Stub = service_pb2_grpc.InitServiceStub

EVERY = plans.every_scheme()
LARGE = Plan({"w": normal((1000, 1000)), "odd": zeros((5,), dtype="U8")}, seed=3)


def file_of(plan: Plan) -> VirtualFile:
    return VirtualFile(layout(plan), load("numpy"))


WHOLE = {id(plan): bytes(file_of(plan).read(0, file_of(plan).size)) for plan in (EVERY, LARGE)}


def responses(stub: Stub, plan: Plan, **fields: int | str) -> Iterator[service_pb2.FetchResponse]:
    return stub.Fetch(service_pb2.FetchRequest(plan=to_proto(plan), **fields), timeout=30)


def data_of(stub: Stub, plan: Plan, **fields: int | str) -> bytes:
    first, *rest = responses(stub, plan, **fields)
    assert first.WhichOneof("payload") == "info"
    return b"".join(message.chunk.data for message in rest)


def test_the_first_message_says_what_the_file_is(stub: Stub) -> None:
    file = layout(EVERY)
    info = next(responses(stub, EVERY)).info
    assert (info.total_size, info.plan_digest, info.stream_version) == (file.size, file.digest, 1)
    assert tuple(info.warnings) == file.warnings


def test_chunks_follow_each_other_in_pieces_of_one_mebibyte_with_their_checksums(
    stub: Stub,
) -> None:
    _, *messages = responses(stub, LARGE)
    whole, position = WHOLE[id(LARGE)], 0
    for message in messages:
        chunk = message.chunk
        assert chunk.offset == position
        assert chunk.crc32c == google_crc32c.value(chunk.data)
        assert chunk.data == whole[position : position + (1 << 20)]
        position += len(chunk.data)
    assert position == len(whole)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_range_equals_that_range_of_the_file(stub: Stub, data: st.DataObject) -> None:
    whole = WHOLE[id(EVERY)]
    offset = data.draw(st.integers(0, len(whole)))
    limit = data.draw(st.integers(0, len(whole) + 10))
    end = offset + limit if limit else len(whole)
    got = data_of(stub, EVERY, read_offset=offset, read_limit=limit)
    assert got == whole[offset:end]


def test_a_range_may_start_in_the_middle_of_chunk_and_element(stub: Stub) -> None:
    whole = WHOLE[id(LARGE)]
    got = data_of(stub, LARGE, read_offset=1_234_567, read_limit=2_222_221)
    assert got == whole[1_234_567 : 1_234_567 + 2_222_221]


def test_limits_beyond_64_bits_of_sum_reach_to_the_end(stub: Stub) -> None:
    whole = WHOLE[id(EVERY)]
    assert data_of(stub, EVERY, read_offset=5, read_limit=2**64 - 1) == whole[5:]


def test_reading_from_the_end_gives_the_info_alone(stub: Stub) -> None:
    assert data_of(stub, EVERY, read_offset=len(WHOLE[id(EVERY)])) == b""


def test_reading_past_the_end_is_out_of_range(stub: Stub) -> None:
    size = len(WHOLE[id(EVERY)])
    with pytest.raises(grpc.RpcError) as caught:
        data_of(stub, EVERY, read_offset=size + 1)
    assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert str(size) in caught.value.details()


def test_the_expected_digest_must_be_the_plans(stub: Stub) -> None:
    digest = layout(EVERY).digest
    assert data_of(stub, EVERY, expected_digest=digest) == WHOLE[id(EVERY)]
    with pytest.raises(grpc.RpcError) as caught:
        data_of(stub, EVERY, expected_digest="0" * 64)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert digest in caught.value.details()
    assert "0" * 64 in caught.value.details()


def test_a_plan_without_tensors_is_a_header_alone(stub: Stub) -> None:
    assert data_of(stub, Plan()) == layout(Plan()).header


def test_a_cancelled_call_stops_the_generation(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_into = VirtualFile.read_into

    def counted(file: VirtualFile, offset: int, out: NDArray[np.uint8]) -> None:
        reads.append(offset)
        read_into(file, offset, out)

    monkeypatch.setattr(VirtualFile, "read_into", counted)
    huge = Plan({"w": normal((1 << 20, 1 << 20))})
    call = responses(stub, huge)
    next(call)
    next(call)
    call.cancel()
    deadline = time.monotonic() + 10
    before = -1
    while before != len(reads) and time.monotonic() < deadline:
        before = len(reads)
        time.sleep(0.5)
    assert 0 < before == len(reads) < 100
