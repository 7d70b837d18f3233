"""asyncio: the same results, errors and resumption, and cancellation leaves no task or file."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform
import random
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import initclient as ic
import numpy as np
import psutil
import pytest
from initclient import aio
from initclient._files.sinks import FileSink

from tests.client.processes import running
from tests.client.proxies import Kind, Mischief, proxied
from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((4000, 1000)), "b": ic.zeros((1000,))}, seed=7)
SMALL = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
NOBODY = "127.0.0.1:1"
SOON = ic.Retry(base_delay=0.01, idle_timeout=1.0, attempts=20)

_T = TypeVar("_T")


def run(call: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(call)


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return list(one) == list(two) and all(np.array_equal(one[name], two[name]) for name in one)


def test_weights_files_and_descriptions_are_those_of_the_blocking_calls(
    source: str, tmp_path: Path
) -> None:
    assert same(run(aio.fetch(PLAN, target=source)), ic.fetch(PLAN, target=source))
    path = run(aio.fetch_file(PLAN, tmp_path / "there", target=source, seed=3))
    here = ic.fetch_file(PLAN, tmp_path / "here", seed=3)
    assert path.read_bytes() == here.read_bytes()
    assert run(aio.describe(PLAN, target=source)) == ic.describe(PLAN)


def test_both_ways_take_the_same_arguments() -> None:
    import inspect

    for name in aio.__all__:
        blocking, other = getattr(ic, name), getattr(aio, name)
        assert inspect.signature(blocking).parameters == inspect.signature(other).parameters


def test_many_at_once(target: str) -> None:
    async def all_of_them() -> list[dict[str, Any]]:
        calls = [aio.fetch(SMALL, target=target, seed=seed) for seed in range(16)]
        return await asyncio.gather(*calls)

    for seed, weights in enumerate(run(all_of_them())):
        assert same(weights, ic.fetch(SMALL, seed=seed))


@pytest.mark.parametrize("kind", ["cut", "delay", "duplicate", "flip", "drop", "stall"])
def test_a_hostile_network(kind: Kind, target: str) -> None:
    todo = [Mischief(kind, 3_000_000 + 7 * n, n % 8) for n in range(4)]
    with proxied(target, todo) as proxy:
        weights = run(aio.fetch(PLAN, target=proxy.address, retry=SOON, timeout=60))
    assert same(weights, ic.fetch(PLAN))
    assert proxy.done


def test_parallel_streams(target: str, tmp_path: Path) -> None:
    plan = ic.Plan({"w": ic.normal((9000, 1000))}, seed=2)
    assert same(run(aio.fetch(plan, target=target, streams=3)), ic.fetch(plan))


def test_errors_are_those_of_the_blocking_calls(target: str, tmp_path: Path) -> None:
    once = ic.Retry(attempts=1)
    with pytest.raises(ic.UnavailableError, match="connection refused"):
        run(aio.fetch(SMALL, target=NOBODY, retry=once))
    with pytest.raises(ic.UnavailableError, match=r"Gave up after 3 calls"):
        run(aio.describe(SMALL, target=NOBODY, retry=ic.Retry(attempts=3, base_delay=0.01)))
    with pytest.raises(ic.PlanError):
        run(aio.fetch({"w": ic.normal((-1,))}, target=target))
    with pytest.raises(FileNotFoundError):
        run(aio.fetch_file(SMALL, tmp_path / "no" / "x", target=target))

    def refuse(messages: list[Response], context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INTERNAL, "the server's words")

    with (
        serving(Changed(refuse)) as bad,
        pytest.raises(ic.ServerError, match="the server's words"),
    ):
        run(aio.fetch(SMALL, target=bad, retry=once))
    assert list(tmp_path.iterdir()) == []


def test_the_deadline(target: str) -> None:
    with proxied(target, [Mischief("stall", 0)] * 100) as hole:
        start = time.monotonic()
        with pytest.raises(ic.DeadlineError):
            run(aio.fetch(SMALL, target=hole.address, timeout=0.7))
        assert 0.5 < time.monotonic() - start < 5


@pytest.mark.parametrize("streams", [1, 2])
def test_a_cancelled_download_ends_its_calls_and_leaves_no_file(
    streams: int, target: str, tmp_path: Path
) -> None:
    plan = ic.Plan({"w": ic.normal((1 << 18, 1 << 10))})
    started = asyncio.Event()

    async def cancel() -> None:
        path = tmp_path / "out"
        call = aio.fetch_file(
            plan,
            path,
            target=target,
            progress=lambda *_: started.set(),
            streams=streams,
            resume=False,
        )
        task = asyncio.create_task(call)
        await asyncio.wait_for(started.wait(), 30)
        assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(tmp_path.iterdir()) == []
        for _ in range(200):
            if asyncio.all_tasks() == {asyncio.current_task()}:
                break
            # gRPC has a task of its own that notes the end of the call.
            await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(cancel())


def test_computing_here_leaves_the_loop_free_and_can_be_cancelled(tmp_path: Path) -> None:
    plan = ic.Plan({f"w{n}": ic.normal((1000, 1000)) for n in range(100)})
    threads = []
    started = threading.Event()

    def progress(done: int, total: int) -> None:
        threads.append(threading.current_thread())
        started.set()

    async def cancel(call: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(call)
        while not started.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        started.clear()

    run(cancel(aio.fetch(plan, target="local", progress=progress)))
    path = tmp_path / "x"
    run(cancel(aio.fetch_file(plan, path, target="local", progress=progress, resume=False)))
    assert threading.main_thread() not in threads
    assert len(threads) < 100
    assert list(tmp_path.iterdir()) == []


def test_what_is_unusual_becomes_a_warning_of_the_callers_line(source: str) -> None:
    async def call() -> None:
        await aio.fetch({"w": ic.normal((0, 3))}, target=source)

    with pytest.warns(ic.PlanWarning) as seen:
        run(call())
    assert [one.filename for one in seen] == [__file__]


def test_who_is_cancelled_twice_still_waits_for_the_file_to_be_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ic.Plan({f"w{n}": ic.constant((1 << 20,), n + 1) for n in range(8)})
    writing, ended = threading.Event(), threading.Event()
    write_at = FileSink.write_at

    def slow(self: FileSink, offset: int, data: memoryview) -> None:
        writing.set()
        time.sleep(0.3)
        write_at(self, offset, data)
        ended.set()

    monkeypatch.setattr(FileSink, "write_at", slow)

    async def cancel() -> None:
        call = aio.fetch_file(plan, tmp_path / "x", target="local", resume=False)
        task = asyncio.create_task(call)
        while not writing.is_set():
            await asyncio.sleep(0.001)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set(), "the thread would write into whatever file comes next"

    run(cancel())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_cancelled_downloads_keep_no_memory(tmp_path: Path) -> None:
    """A message that arrives for a cancelled read would stay in gRPC's memory for good."""
    draw = random.Random(1)

    async def cancelled(count: int, address: str) -> None:
        for _ in range(count):
            with suppress(TimeoutError):
                async with asyncio.timeout(draw.random() * 0.05):
                    await aio.fetch_file(PLAN, tmp_path / "x", target=address)

    with running(1) as (server,):
        run(cancelled(20, server.address))
        grown = []
        # Buffers of connections and arenas of malloc come and go; what is lost grows every time.
        while not grown or (min(grown) >= 6 << 20 and len(grown) < 4):
            before = _in_use()
            run(cancelled(60, server.address))
            grown.append(_in_use() - before)
        # It was 400 KiB a call.
        assert min(grown) < 6 << 20


def _in_use() -> int:
    """Bytes that only this process has, after freed ones went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found: int = psutil.Process().memory_full_info().uss
    return found
