"""A herd of callers that want the same values costs each of them once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from initcore import Plan, VirtualFile, layout, normal, orthogonal, permute, stack
from initcore.backends import load
from initcore.generate import matrices
from initcore.generate.matrices import Pulse
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2
from initserver.config.limits import Limits
from initserver.share.caches import LatestValues
from initserver.share.single_flight import DroppedError, Herd, Task, Wish
from initserver.values.chunks import Caller, Chunks
from initserver.values.observer import NullObserver

from tests.server.observers import watched_service

FETCH = "/initserve.v1.InitService/Fetch"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def a_herd(max_bytes: int = 100, keep_latest: bool = False) -> Herd[Any]:
    return Herd(LatestValues(max_bytes, lambda value: 10, keep_latest))


class Gate:
    """Work that begins and then waits to be let through, or to be told to end."""

    def __init__(self, value: object = "value", error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.ended = threading.Event()
        self.times = 0

    def __call__(self, values: Sequence[Any], pulse: Pulse) -> Any:
        self.times += 1
        self.begun.set()
        try:
            while not self.opened.wait(0.005):
                pulse()
            if self.error:
                raise self.error
            return self.value
        finally:
            self.ended.set()


def test_those_who_wait_for_the_same_value_share_it(pool: ThreadPoolExecutor) -> None:
    herd, gate = a_herd(), Gate()
    wishes = [herd.wish(Task("key", gate, pool)) for _ in range(64)]
    gate.opened.set()
    assert {wish.result() for wish in wishes} == {"value"}
    assert herd.wish(Task("key", gate, pool)).result() == "value"
    assert gate.times == 1


def test_a_failure_is_the_first_in_lines_alone(pool: ThreadPoolExecutor) -> None:
    herd, good = a_herd(), Gate()
    bad = Gate(error=RuntimeError("lost"))
    first = herd.wish(Task("key", bad, pool))
    others = [herd.wish(Task("key", good, pool)) for _ in range(5)]
    bad.opened.set()
    good.opened.set()
    with pytest.raises(RuntimeError, match="lost"):
        first.result()
    assert [wish.result() for wish in others] == ["value"] * 5
    assert (bad.times, good.times) == (1, 1)


def test_what_always_fails_fails_for_everybody(pool: ThreadPoolExecutor) -> None:
    herd, bad = a_herd(), Gate(error=RuntimeError("lost"))
    wishes = [herd.wish(Task("key", bad, pool)) for _ in range(20)]
    bad.opened.set()
    for wish in wishes:
        with pytest.raises(RuntimeError, match="lost"):
            wish.result()
    assert "key" not in herd


def test_who_is_dropped_stops_waiting_and_the_rest_goes_on(pool: ThreadPoolExecutor) -> None:
    herd, gate = a_herd(), Gate()
    first, second = (herd.wish(Task("key", gate, pool)) for _ in range(2))
    assert gate.begun.wait(5)
    first.drop()
    with pytest.raises(DroppedError):
        first.result()
    assert not gate.ended.is_set()
    gate.opened.set()
    assert second.result() == "value"
    assert gate.times == 1


def test_work_that_nobody_wants_ends(pool: ThreadPoolExecutor) -> None:
    herd, running, waiting = a_herd(), Gate(), Gate()
    wishes = [herd.wish(Task("a", running, pool)), herd.wish(Task("b", waiting, pool))]
    assert running.begun.wait(5)
    for wish in wishes:
        wish.drop()
    assert running.ended.wait(5)
    pool.submit(int).result(5)
    assert waiting.times == 0
    assert "a" not in herd
    assert "b" not in herd


def test_who_comes_after_work_was_dropped_starts_anew(pool: ThreadPoolExecutor) -> None:
    herd, old, new = a_herd(), Gate("old"), Gate("new")
    new.opened.set()
    first = herd.wish(Task("key", old, pool))
    assert old.begun.wait(5)
    first.drop()
    assert herd.wish(Task("key", new, pool)).result() == "new"


def test_waiting_for_a_need_takes_no_thread(pool: ThreadPoolExecutor) -> None:
    needs, herd, slow = a_herd(), a_herd(), Gate(3)
    with ThreadPoolExecutor(1) as other:

        def need() -> Wish[Any]:
            return needs.wish(Task("need", slow, other))

        def double(values: Sequence[Any], pulse: Pulse) -> Any:
            return 2 * sum(values)

        wishes = [herd.wish(Task(i, double, pool, [need, need])) for i in range(10)]
        assert slow.begun.wait(5)
        free = herd.wish(Task("free", lambda values, pulse: "free", pool))
        assert free.result() == "free"
        slow.opened.set()
        assert [wish.result() for wish in wishes] == [12] * 10
        assert slow.times == 1


def test_needs_of_work_that_nobody_wants_end_too(pool: ThreadPoolExecutor) -> None:
    needs, herd, slow = a_herd(), a_herd(), Gate()
    with ThreadPoolExecutor(1) as other:
        task: Task[Any] = Task(
            "key", lambda *_: None, pool, [lambda: needs.wish(Task("need", slow, other))]
        )
        wish = herd.wish(task)
        assert slow.begun.wait(5)
        wish.drop()
        assert slow.ended.wait(5)


def test_a_herd_in_confusion_neither_hangs_nor_mixes_values_up() -> None:
    """Threads that wish, drop and fail at random, for seconds, on small pools."""
    inner, outer = a_herd(50), a_herd(50)
    failures, results = Counter[str](), Counter[str]()
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as other:

        def make(key: int) -> Callable[[Sequence[Any], Pulse], Any]:
            def work(values: Sequence[Any], pulse: Pulse) -> Any:
                for _ in range(3):
                    time.sleep(random.random() / 3000)
                    pulse()
                if random.random() < 0.05:
                    raise RuntimeError
                return (key, *values)

            return work

        def caller(seed: int) -> None:
            random_ = random.Random(seed)
            end = time.monotonic() + 3
            while time.monotonic() < end:
                key = random_.randrange(12)
                need = Task(key // 3, make(key // 3), other)
                wish = outer.wish(Task(key, make(key), pool, [lambda n=need: inner.wish(n)]))  # type: ignore[misc]
                if random_.random() < 0.3:
                    threading.Timer(random_.random() / 500, wish.drop).start()
                try:
                    assert wish.result() == (key, (key // 3,))
                    results["made"] += 1
                except (DroppedError, RuntimeError) as error:
                    failures[type(error).__name__] += 1

        with ThreadPoolExecutor(16) as callers:
            for done in [callers.submit(caller, seed) for seed in range(16)]:
                done.result(60)
    assert results["made"] > 100
    assert set(failures) == {"DroppedError", "RuntimeError"}
    assert not outer._works
    assert not inner._works


def test_clients_of_one_orthogonal_matrix_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from initcore.generate import matrices

    made = []
    make = matrices.orthogonal_values

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(matrices, "orthogonal_values", counted)
    plan = Plan({"q": orthogonal((1200, 900)), "w": normal((1000, 1000))})
    file = VirtualFile(layout(plan), load("numpy"))
    whole = file.read(0, file.size)
    made.clear()
    request = service_pb2.FetchRequest(plan=to_proto(plan)).SerializeToString()
    with watched_service() as (address, _), grpc.insecure_channel(address) as channel:
        fetch = channel.unary_stream(FETCH, None, service_pb2.FetchResponse.FromString)
        calls = [fetch(request, timeout=60) for _ in range(8)]
        for call in calls:
            assert b"".join(message.chunk.data for message in call) == whole
    assert len(made) == 1


def test_a_stream_of_chunks_is_not_held_up_by_matrices() -> None:
    """Matrices that take seconds occupy threads of their own."""
    slow = Plan({f"q{i}": orthogonal((2000, 2000)) for i in range(8)})
    quick = service_pb2.FetchRequest(plan=to_proto(Plan({"w": normal((500, 500))})))
    with watched_service(threads=1) as (address, _), grpc.insecure_channel(address) as channel:
        fetch = channel.unary_stream(FETCH)
        request = service_pb2.FetchRequest(plan=to_proto(slow)).SerializeToString()
        calls = [fetch(request, timeout=60) for _ in range(4)]
        for call in calls:
            next(call)
        start = time.monotonic()
        list(fetch(quick.SerializeToString(), timeout=60))
        assert time.monotonic() - start < 3
        for call in calls:
            call.cancel()


def test_what_takes_long_to_find_out_is_asked_once(pool: ThreadPoolExecutor) -> None:
    herd, asked = a_herd(), []

    def whole() -> Task[str]:
        asked.append(1)
        return Task("key", lambda values, pulse: "".join(values), pool, needs=[need])

    def need() -> Wish[str]:
        return herd.wish(Task("need", lambda values, pulse: "value", pool))

    def task() -> Task[str]:
        return Task("key", lambda values, pulse: "wrong", pool, whole=whole)

    assert herd.wish(task()).result() == "value"
    assert herd.wish(task()).result() == "value"
    assert len(asked) == 1


def test_who_cannot_find_out_fails_alone(pool: ThreadPoolExecutor) -> None:
    herd = a_herd()

    def whole() -> Task[str]:
        raise RuntimeError("no needs")

    with pytest.raises(RuntimeError, match="no needs"):
        herd.wish(Task("key", lambda values, pulse: "", pool, whole=whole)).result()
    assert herd.wish(Task("key", lambda values, pulse: "value", pool)).result() == "value"


def test_small_matrices_whose_rows_alternate_are_made_once_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    make = matrices.orthogonal_values

    def counted(content: Any, seed: int, name: str, *rest: Any) -> Any:
        made.append(name)
        return make(content, seed, name, *rest)

    monkeypatch.setattr(matrices, "orthogonal_values", counted)
    parts = {f"w{n}": orthogonal((4, 64)) for n in range(20)}
    plan = Plan({"w": permute({"all": stack(parts)}, (1, 0, 2))})
    file = VirtualFile(layout(plan), load("numpy"))
    with ThreadPoolExecutor(1) as chunks, ThreadPoolExecutor(1) as larger:
        stream = Chunks(Limits(), NullObserver(), chunks, larger).stream
        whole = b"".join(one.data for one in stream(file, 0, file.size, Caller()) if one)
    assert len(made) == len(set(made)) == len(parts)
    assert whole == bytes(VirtualFile(layout(plan), load("numpy")).read(0, file.size))


class Heard:
    def __init__(self) -> None:
        self.shared_times, self.evicted_times, self.nbytes = 0, 0, -1

    def shared(self) -> None:
        self.shared_times += 1

    def kept(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def evicted(self) -> None:
        self.evicted_times += 1


def test_what_is_kept_shared_and_evicted_is_told() -> None:
    heard = Heard()
    herd: Herd[int] = Herd(LatestValues(20, lambda value: 10), heard)
    with ThreadPoolExecutor(1) as pool:
        for key in (0, 1, 2, 3, 3, 0):
            herd.wish(Task(key, lambda values, pulse: 1, pool)).result()
        pool.submit(int).result()  # the last one has been told of too
    assert (heard.shared_times, heard.evicted_times, heard.nbytes) == (1, 3, 20)
