"""A rogue server cannot hold a client, nor make it raise foreign errors or return wrong values.

`tests/exhaustive/rogue_servers.py` makes thousands of these calls.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient._source import source_of
from initclient._transport.blocking import server_info
from initcore.wire import to_proto
from initserve.v1 import service_pb2

from tests.client.http2 import Connection, Http2Server, headers, message
from tests.client.lies import PLAN, Answer, Rogue, described, fetched
from tests.client.servers import Changed, Response, serving
from tests.exhaustive.rogue_servers import RETRY, SLACK, TIMEOUT, Run, honest_server

CALLS = 200


@pytest.fixture(scope="module")
def healthy() -> Iterator[str]:
    described(False)
    described(True)
    with honest_server() as server:
        yield server.address


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
def test_whatever_it_sends_blocking_calls_end_well(healthy: str) -> None:
    run = Run(healthy)
    run.all_blocking(range(10_000, 10_000 + CALLS), float("inf"))
    assert sum(run.outcomes.values()) == CALLS
    assert run.streams > CALLS
    assert len(run.outcomes) >= 6
    assert len(run.lies) == 7


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
def test_whatever_it_sends_calls_of_asyncio_end_well(healthy: str) -> None:
    run = Run(healthy)
    asyncio.run(run.all_with_asyncio(range(20_000, 20_000 + CALLS), float("inf")))
    assert sum(run.outcomes.values()) == CALLS
    assert run.streams > CALLS


MODEL = service_pb2.ModelInfo(name="acme/x", plan_digest=PLAN.digest, total_size=5000, tensors=2)
ANSWERS: dict[str, Answer] = {
    "models": service_pb2.ListModelsResponse(models=[MODEL]),
    "plan": service_pb2.GetModelResponse(info=MODEL, plan=to_proto(PLAN)),
    "info": service_pb2.GetServerInfoResponse(version="0.3.0", stream_version=1, backend="numpy"),
}
ASKED: dict[str, Callable[..., Any]] = {
    "models": lambda **call: ic.list_models(retry=RETRY, **call),
    "plan": lambda **call: ic.get_plan(ic.Model("acme/x", PLAN.digest), retry=RETRY, **call),
    "info": lambda target, timeout: server_info(target, source_of(target, timeout=timeout)),
}


@pytest.mark.parametrize("asked", ASKED)
def test_whatever_it_sends_about_models_and_itself_calls_end_well(asked: str) -> None:
    def one(seed: int) -> str:
        timeout = TIMEOUT if seed % 2 or asked == "info" else None
        bound = RETRY.longest_stall if timeout is None else timeout
        with Http2Server(Rogue(seed, answer=ANSWERS[asked])) as server:
            start = time.monotonic()
            try:
                result = ASKED[asked](target=server.address, timeout=timeout)
            except (ic.InitserveError, ic.PlanError) as error:
                result = error
            assert time.monotonic() - start < bound + SLACK, seed
        if isinstance(result, Exception):
            assert str(result).replace("\n", "").isprintable(), (seed, str(result))
            assert len(str(result)) < 20_000, seed
        elif asked == "plan":
            assert result == PLAN, seed
        return type(result).__name__

    with ThreadPoolExecutor(16) as pool:
        outcomes = set(pool.map(one, range(30_000, 30_100)))
    assert len(outcomes) >= 3, outcomes


Call = Callable[..., Any]


def with_asyncio(plan: ic.Plan, **options: Any) -> Any:
    return asyncio.run(aio.fetch(plan, **options))


@pytest.mark.parametrize("fetch", [ic.fetch, with_asyncio])
@pytest.mark.parametrize("bytes_first", [False, True])
def test_signs_of_life_without_bytes_end_at_the_bound_of_retry(
    fetch: Call, bytes_first: bool
) -> None:
    """Without a timeout too; the clock starts again with each good byte."""
    retry = ic.Retry(base_delay=0.001, idle_timeout=1.0, stall_timeout=1.5)
    rogue = Rogue(0)

    def answer(connection: Connection, request: bytes) -> None:
        rogue.work(connection, list(fetched(0, 0))[:3] if bytes_first else [])

    start = time.monotonic()
    with (
        Http2Server(answer) as server,
        pytest.raises(ic.TransportError, match=r"no new byte from .* for 1.5 s"),
    ):
        fetch(PLAN, target=server.address, retry=retry)
    assert 1.5 <= time.monotonic() - start < retry.longest_stall + SLACK
    assert len(rogue.told) == 1


@pytest.mark.parametrize("fetch", [ic.fetch, with_asyncio])
def test_signs_of_life_after_the_last_byte_do_not_hold_a_fetch(fetch: Call) -> None:
    rogue = Rogue(0)

    def answer(connection: Connection, request: bytes) -> None:
        rogue.work(connection, list(fetched(0, 0)))

    start = time.monotonic()
    with Http2Server(answer) as server:
        found = fetch(PLAN, target=server.address, retry=ic.Retry(idle_timeout=300.0))
    assert time.monotonic() - start < 200
    np.testing.assert_array_equal(found["w"], ic.fetch(PLAN, target="local")["w"])
    assert rogue.told == ["work"]


@pytest.mark.parametrize("fetch", [ic.fetch, with_asyncio])
def test_a_server_that_only_shows_signs_of_life_leaves_time_for_another(
    fetch: Call, healthy: str
) -> None:
    retry = ic.Retry(base_delay=0.001, idle_timeout=5.0, stall_timeout=6.0)
    rogue = Rogue(1)

    def answer(connection: Connection, request: bytes) -> None:
        rogue.work(connection, [])

    with Http2Server(answer) as server:
        while not rogue.told:
            found = fetch(PLAN, target=[server.address, healthy], retry=retry)
            np.testing.assert_array_equal(found["w"], ic.fetch(PLAN, target="local")["w"])


def test_a_description_that_only_one_server_gets_right_comes_from_that_one(healthy: str) -> None:
    """A tensor's spread is no part of the digest, the size or the header."""
    from initserve.v1 import service_pb2

    def answer(connection: Connection, request: bytes) -> None:
        found = service_pb2.DescribeResponse.FromString(described(False))
        found.tensors[0].std = 7.0
        Rogue(0).honest(connection, [found.SerializeToString()])

    with Http2Server(answer) as server:
        with pytest.raises(ic.IntegrityError, match="resolves the plan's tensors differently"):
            ic.describe(PLAN, target=server.address, retry=ic.Retry(base_delay=0.001))
        while not server.calls > 4:
            found = ic.describe(PLAN, target=[server.address, healthy])
            assert found == ic.describe(PLAN, target="local")


def sharded(path: Path, **options: Any) -> Path:
    return ic.fetch_file(PLAN, path, shard_size="1KB", **options)


def sharded_with_asyncio(path: Path, **options: Any) -> Path:
    return asyncio.run(aio.fetch_file(PLAN, path, shard_size="1KB", **options))


@pytest.mark.parametrize("fetch_file", [sharded, sharded_with_asyncio])
def test_a_timeout_is_that_of_all_files_together(fetch_file: Call, tmp_path: Path) -> None:
    """Of a model in two shards, from a server that takes longer for both than for each."""

    def late(messages: list[Response], context: grpc.ServicerContext) -> None:
        time.sleep(1.5)

    server = Changed(late)
    with serving(server) as target, pytest.raises(ic.DeadlineError):
        fetch_file(tmp_path / "model", target=target, timeout=2.5)
    assert len(server.requests) == 2
    start = time.monotonic()
    with serving(server) as target, pytest.raises(ic.DeadlineError):
        fetch_file(tmp_path / "model", target=target, timeout=0.5)
    assert time.monotonic() - start < SLACK


@pytest.mark.parametrize("mebibytes", [100, 200])
def test_a_small_message_that_unpacks_to_a_large_one_is_refused(mebibytes: int) -> None:
    packed = gzip.compress(bytes(mebibytes << 20), 1)

    def answer(connection: Connection, request: bytes) -> None:
        fields = [("content-type", b"application/grpc"), ("grpc-encoding", b"gzip")]
        connection.send(headers(connection.stream, fields, status=200))
        connection.send(message(connection.stream, packed, flag=1))

    with (
        Http2Server(answer) as server,
        pytest.raises(ic.InitserveError, match=r"not a message of this service|larger than max"),
    ):
        ic.fetch(PLAN, target=server.address, retry=ic.Retry(attempts=1))


def test_the_bound_is_shown_by_retry() -> None:
    assert ic.Retry().longest_stall == ic.Retry().stall_timeout + ic.Retry().idle_timeout
    assert ic.Retry(idle_timeout=None).longest_stall == float("inf")
    assert ic.Retry(stall_timeout=None).longest_stall == float("inf")
    with pytest.raises(ValueError, match=r"^stall_timeout is 0"):
        ic.Retry(stall_timeout=0)
