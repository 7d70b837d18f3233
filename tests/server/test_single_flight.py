"""Callers that want the same value at the same time share one computation."""

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
from initserver.share.single_flight import DeferredTask, LeftError, SingleFlight, Task, Waiter
from initserver.values.chunks import Caller, Chunks
from initserver.values.metrics import Metrics

from tests.server.observers import watched_service

FETCH = "/initserve.v1.InitService/Fetch"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def a_flight(max_bytes: int = 100, keep_latest: bool = False) -> SingleFlight[Any]:
    return SingleFlight(LatestValues(max_bytes, lambda value: 10, keep_latest))


class Gate:
    """Work that begins and then waits until it may end, or is cancelled."""

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


def test_waiters_for_the_same_value_share_it(pool: ThreadPoolExecutor) -> None:
    flight, gate = a_flight(), Gate()
    waiters = [flight.join(Task("key", gate, pool)) for _ in range(64)]
    gate.opened.set()
    assert {waiter.result() for waiter in waiters} == {"value"}
    assert flight.join(Task("key", gate, pool)).result() == "value"
    assert gate.times == 1


def test_an_error_goes_to_the_first_waiter_alone(pool: ThreadPoolExecutor) -> None:
    flight, good = a_flight(), Gate()
    bad = Gate(error=RuntimeError("lost"))
    first = flight.join(Task("key", bad, pool))
    others = [flight.join(Task("key", good, pool)) for _ in range(5)]
    bad.opened.set()
    good.opened.set()
    with pytest.raises(RuntimeError, match="lost"):
        first.result()
    assert [waiter.result() for waiter in others] == ["value"] * 5
    assert (bad.times, good.times) == (1, 1)


def test_work_that_always_fails_fails_for_every_waiter(pool: ThreadPoolExecutor) -> None:
    flight, bad = a_flight(), Gate(error=RuntimeError("lost"))
    waiters = [flight.join(Task("key", bad, pool)) for _ in range(20)]
    bad.opened.set()
    for waiter in waiters:
        with pytest.raises(RuntimeError, match="lost"):
            waiter.result()
    assert "key" not in flight


@pytest.mark.parametrize("fails", ["to resolve", "its needs", "its pool"])
def test_thousands_of_waiters_of_a_task_that_fails_all_get_its_error(fails: str) -> None:
    """Also where it fails before its work begins, so that no thread's stack unwinds between."""
    flight, gate = a_flight(), Gate(error=RuntimeError("lost"))
    closed = ThreadPoolExecutor(1)
    closed.shutdown()

    def lost() -> Any:
        raise RuntimeError("lost")

    tasks = {
        "to resolve": DeferredTask[Any]("key", lost),
        "its needs": Task[Any]("key", gate, closed, [lost]),
        "its pool": Task[Any]("key", gate, closed),
    }
    with ThreadPoolExecutor(1) as pool:
        waiters = [flight.join(Task("key", gate, pool))]
        waiters += [flight.join(tasks[fails]) for _ in range(5000)]
        gate.opened.set()
        for waiter in waiters:
            with pytest.raises(RuntimeError, match=r"lost|after shutdown"):
                waiter.future.result(60)
    assert "key" not in flight


def test_a_waiter_that_leaves_stops_waiting_and_the_others_go_on(pool: ThreadPoolExecutor) -> None:
    flight, gate = a_flight(), Gate()
    first, second = (flight.join(Task("key", gate, pool)) for _ in range(2))
    assert gate.begun.wait(5)
    first.leave()
    with pytest.raises(LeftError):
        first.result()
    assert not gate.ended.is_set()
    gate.opened.set()
    assert second.result() == "value"
    assert gate.times == 1


def test_a_flight_is_cancelled_when_its_last_waiter_leaves(pool: ThreadPoolExecutor) -> None:
    flight, running, waiting = a_flight(), Gate(), Gate()
    waiters = [flight.join(Task("a", running, pool)), flight.join(Task("b", waiting, pool))]
    assert running.begun.wait(5)
    for waiter in waiters:
        waiter.leave()
    assert running.ended.wait(5)
    pool.submit(int).result(5)
    assert waiting.times == 0
    assert "a" not in flight
    assert "b" not in flight


def test_a_caller_that_joins_after_a_cancelled_flight_starts_a_new_one(
    pool: ThreadPoolExecutor,
) -> None:
    flight, old, new = a_flight(), Gate("old"), Gate("new")
    new.opened.set()
    first = flight.join(Task("key", old, pool))
    assert old.begun.wait(5)
    first.leave()
    assert flight.join(Task("key", new, pool)).result() == "new"


def test_waiting_for_a_need_takes_no_thread(pool: ThreadPoolExecutor) -> None:
    needs, flight, slow = a_flight(), a_flight(), Gate(3)
    with ThreadPoolExecutor(1) as other:

        def need() -> Waiter[Any]:
            return needs.join(Task("need", slow, other))

        def double(values: Sequence[Any], pulse: Pulse) -> Any:
            return 2 * sum(values)

        waiters = [flight.join(Task(i, double, pool, [need, need])) for i in range(10)]
        assert slow.begun.wait(5)
        free = flight.join(Task("free", lambda values, pulse: "free", pool))
        assert free.result() == "free"
        slow.opened.set()
        assert [waiter.result() for waiter in waiters] == [12] * 10
        assert slow.times == 1


def test_a_cancelled_flight_leaves_the_flights_that_it_needs(pool: ThreadPoolExecutor) -> None:
    needs, flight, slow = a_flight(), a_flight(), Gate()
    with ThreadPoolExecutor(1) as other:
        task: Task[Any] = Task(
            "key", lambda *_: None, pool, [lambda: needs.join(Task("need", slow, other))]
        )
        waiter = flight.join(task)
        assert slow.begun.wait(5)
        waiter.leave()
        assert slow.ended.wait(5)


def test_random_joins_leaves_and_errors_neither_hang_nor_mix_values_up() -> None:
    """Threads that join, leave and fail at random, for seconds, on small pools."""
    inner, outer = a_flight(50), a_flight(50)
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
                waiter = outer.join(Task(key, make(key), pool, [lambda n=need: inner.join(n)]))  # type: ignore[misc]
                if random_.random() < 0.3:
                    threading.Timer(random_.random() / 500, waiter.leave).start()
                try:
                    assert waiter.result() == (key, (key // 3,))
                    results["made"] += 1
                except (LeftError, RuntimeError) as error:
                    failures[type(error).__name__] += 1

        with ThreadPoolExecutor(16) as callers:
            for done in [callers.submit(caller, seed) for seed in range(16)]:
                done.result(60)
    assert results["made"] > 100
    assert set(failures) == {"LeftError", "RuntimeError"}
    assert not outer._flights
    assert not inner._flights


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


def test_a_deferred_task_is_resolved_once(pool: ThreadPoolExecutor) -> None:
    flight, resolved = a_flight(), []

    def resolve() -> Task[str]:
        resolved.append(1)
        return Task("key", lambda values, pulse: "".join(values), pool, needs=[need])

    def need() -> Waiter[str]:
        return flight.join(Task("need", lambda values, pulse: "value", pool))

    assert flight.join(DeferredTask("key", resolve)).result() == "value"
    assert flight.join(DeferredTask("key", resolve)).result() == "value"
    assert len(resolved) == 1


def test_a_deferred_task_that_cannot_be_resolved_fails_its_waiter_alone(
    pool: ThreadPoolExecutor,
) -> None:
    flight = a_flight()

    def resolve() -> Task[str]:
        raise RuntimeError("no needs")

    with pytest.raises(RuntimeError, match="no needs"):
        flight.join(DeferredTask("key", resolve)).result()
    assert flight.join(Task("key", lambda values, pulse: "value", pool)).result() == "value"


def test_a_deferred_task_starts_the_next_flight_after_an_error(pool: ThreadPoolExecutor) -> None:
    flight, bad = a_flight(), Gate(error=RuntimeError("lost"))
    first = flight.join(Task("key", bad, pool))
    second = flight.join(DeferredTask("key", lambda: Task("key", lambda *_: "value", pool)))
    bad.opened.set()
    with pytest.raises(RuntimeError, match="lost"):
        first.result()
    assert second.result() == "value"


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
        stream = Chunks(Limits(), Metrics(), chunks, larger).stream
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

    def evicted(self, count: int) -> None:
        self.evicted_times += count


def test_the_observer_hears_of_values_that_are_shared_kept_and_evicted() -> None:
    heard = Heard()
    flight: SingleFlight[int] = SingleFlight(LatestValues(20, lambda value: 10), heard)
    with ThreadPoolExecutor(1) as pool:
        for key in (0, 1, 2, 3, 3, 0):
            flight.join(Task(key, lambda values, pulse: 1, pool)).result()
        pool.submit(int).result()  # the last one has been told of too
    assert (heard.shared_times, heard.evicted_times, heard.nbytes) == (1, 3, 20)
