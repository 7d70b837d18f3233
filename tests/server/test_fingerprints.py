"""Fingerprints from a server: of the right bits, computed once for all who ask, and given up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import initcore
import pytest
from initcore import Fingerprint, Plan, VirtualFile, layout, normal, orthogonal, zeros
from initcore.backends import load
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from tests import plans
from tests.server.observers import watched_service

Stub = service_pb2_grpc.InitServiceStub


def request(plan: Plan) -> service_pb2.DescribeRequest:
    return service_pb2.DescribeRequest(plan=to_proto(plan), fingerprints=True)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_every_tensor_has_the_fingerprint_of_its_values(backend: str) -> None:
    plan = plans.every_scheme(dtype="BF16")
    plan = Plan({**plan.tensors, "long": normal((700, 1000)), "none": zeros((0, 2))}, 7)
    plan = plan.shard({"long": (slice(3, 690), slice(None)), "sparse": slice(2, 7)})
    file = VirtualFile(layout(plan), load("numpy"))
    with watched_service(backend) as (address, _), grpc.insecure_channel(address) as channel:
        answer = Stub(channel).Describe(request(plan), timeout=60)
    assert [tensor.name for tensor in answer.tensors] == list(plan.tensors)
    for entry, told in zip(file.layout.entries, answer.tensors, strict=True):
        tensor = entry.tensor
        expected = initcore.fingerprint(
            tensor.name, file.array(entry), shape=tensor.shape, bounds=tensor.bounds
        )
        assert told.fingerprint == bytes(expected), tensor.name
    assert answer.tensors[-1].fingerprint == bytes(Fingerprint()) == bytes(16)


def test_callers_of_one_plan_cost_it_once() -> None:
    plan = Plan({"w": normal((1000, 1500)), "q": orthogonal((130, 130))})
    with watched_service() as (address, counts), grpc.insecure_channel(address) as channel:
        ask = Stub(channel).Describe
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: ask(request(plan), timeout=60), range(4)))
        answers.append(ask(request(plan), timeout=60))
        assert counts.made_bytes == answers[0].info.total_size - len(answers[0].header)
    assert len({answer.SerializeToString() for answer in answers}) == 1


def test_a_caller_who_hangs_up_ends_the_work() -> None:
    plan = Plan({"w": normal((1 << 29,))})
    with watched_service() as (address, counts), grpc.insecure_channel(address) as channel:
        call = Stub(channel).Describe.future(request(plan), timeout=60)
        while not counts.made:
            time.sleep(0.01)
        call.cancel()
        # The pool is free again: this waits for nobody.
        Stub(channel).Describe(request(Plan({"v": normal((9,))})), timeout=60)
        assert counts.made_bytes < 1 << 30
        before = -1
        while before != counts.made_bytes:
            before = counts.made_bytes
            time.sleep(0.5)
        assert before < 1 << 30


def test_fingerprints_take_a_place_among_the_downloads() -> None:
    large, small = Plan({"w": normal((1 << 29,))}), Plan({"v": normal((9,))})
    with (
        watched_service(max_streams=1) as (address, counts),
        grpc.insecure_channel(address) as channel,
    ):
        stub = Stub(channel)
        call = stub.Describe.future(request(large), timeout=60)
        while not counts.made:
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Describe(request(small), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # Without fingerprints it takes none.
        plain = service_pb2.DescribeRequest(plan=to_proto(small))
        assert stub.Describe(plain, timeout=60).tensors[0].fingerprint == b""
        call.cancel()
