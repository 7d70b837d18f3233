"""Failover and backoff: the choice of the next call, with the test's clock and draws."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import initclient as ic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initclient._transport.failover import Attempts, Call, Replica
from initclient._transport.faults import Fault, Verdict

NAMES = ("a:1", "b:1", "c:1")
BROKEN = Fault(ic.TransportError("it broke"))


def attempts(
    names: tuple[str, ...] = NAMES,
    *,
    draw: float = 1.0,
    timeout: float | None = None,
    first: int = 0,
    **retry: float | None,
) -> Attempts:
    """Attempts at time 0, with the longest pauses unless `draw` is given."""
    replicas = [Replica(name) for name in names]
    call = Call(replicas, ic.Retry(**retry), 0.0, timeout, lambda: draw)  # type: ignore[arg-type]
    return Attempts(call, first)


def failing(them: Attempts, fault: Fault = BROKEN) -> Iterator[tuple[str, float]]:
    """Addresses and pauses of attempts that all fail, on a clock that only pauses advance."""
    now = 0.0
    while True:
        attempt = them.next(now)
        yield attempt.address, attempt.pause
        now += attempt.pause
        them.failed(Fault(type(fault.error)(str(fault)), fault.verdict, fault.pushback), now)


def test_after_a_failure_another_server_is_asked_at_once_and_all_before_a_pause() -> None:
    told = failing(attempts(base_delay=0.1))
    first = [next(told) for _ in range(3)]
    assert {address for address, _ in first} == set(NAMES)
    assert [pause for _, pause in first] == [0, 0, 0]
    assert next(told)[1] == 0.1


def test_pauses_double_up_to_the_longest() -> None:
    told = failing(attempts(("a:1",), base_delay=0.1, max_delay=1.0, attempts=9))
    pauses = [next(told)[1] for _ in range(9)]
    assert pauses == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1])


@given(
    base=st.floats(0, 10), most=st.floats(0, 100), tries=st.integers(0, 10**6), draw=st.floats(0, 1)
)
def test_a_pause_is_drawn_from_zero_to_its_longest(
    base: float, most: float, tries: int, draw: float
) -> None:
    retry = ic.Retry(base_delay=base, max_delay=most)
    assert 0 <= retry.pause(tries, lambda: draw) <= retry.longest_pause(tries) <= most
    assert retry.pause(tries, lambda: 0.0) == 0
    assert retry.longest_pause(tries) <= retry.longest_pause(tries + 1)
    assert retry.longest_pause(0) == 0


def test_failures_in_a_row_are_the_end_and_the_error_tells_the_story() -> None:
    told = failing(attempts(attempts=2))
    asked = [next(told)[0] for _ in range(6)]
    assert sorted(asked) == sorted(NAMES * 2)
    with pytest.raises(ic.TransportError) as caught:
        next(told)
    text = str(caught.value)
    assert text.startswith("it broke; gave up after 6 calls in 0.3 s to ")
    assert all(name in text for name in NAMES)


def test_one_attempt_means_one_and_its_own_error() -> None:
    them = attempts(("a:1",), attempts=1)
    them.next(0.0)
    with pytest.raises(ic.TransportError, match=r"^it broke$"):
        them.failed(Fault(ic.TransportError("it broke")), 0.1)


def test_progress_starts_all_counts_again() -> None:
    them = attempts(("a:1",), attempts=3)
    for _ in range(100):
        them.next(0.0)
        them.progressed()
        them.failed(BROKEN, 0.0)
        assert them.next(0.0).pause == 0.1
        them.failed(BROKEN, 0.0)


def test_the_server_that_broke_off_is_not_the_first_choice() -> None:
    them = attempts()
    served = them.next(0.0).address
    them.progressed()
    them.failed(BROKEN, 0.0)
    assert them.next(0.0).address != served


def test_streams_start_at_different_servers_and_share_what_they_learn() -> None:
    call = attempts().call
    one, two = Attempts(call, 0), Attempts(call, 1)
    bad = one.next(0.0).address
    assert two.next(0.0).address != bad
    one.failed(Fault(ic.IntegrityError("other"), Verdict.UNFIT), 0.0)
    asked = {stream.next(0.0).address for _ in range(20) for stream in (one, two)}
    assert bad not in asked


@pytest.mark.parametrize("seconds", [0.5, 30.0])
def test_pushback_is_waited_for(seconds: float) -> None:
    busy = Fault(ic.InitserveError("busy"), Verdict.BUSY, seconds)
    told = failing(attempts(("a:1",), draw=0.0), busy)
    assert [next(told)[1] for _ in range(4)] == [0, seconds, seconds, seconds]


def test_while_one_server_is_busy_the_others_are_asked() -> None:
    told = failing(attempts(), Fault(ic.InitserveError("busy"), Verdict.BUSY, 10.0))
    first = [next(told) for _ in range(3)]
    assert {address for address, _ in first} == set(NAMES)
    assert [pause for _, pause in first] == [0, 0, 0]
    assert next(told)[1] >= 10


def test_being_busy_is_no_failure_but_patience_ends() -> None:
    busy = Fault(ic.BusyError("busy", "RESOURCE_EXHAUSTED"), Verdict.BUSY, 1.0)
    them = attempts(("a:1",), attempts=2, patience=60.0, draw=0.0)
    now, count = 0.0, 0
    with pytest.raises(ic.BusyError, match=r"busy; gave up after 6\d calls in 6\d.0 s"):  # noqa: PT012
        while True:
            now += them.next(now).pause
            them.failed(busy, now)
            count += 1
    assert count >= 60


def test_patience_ends_after_each_server_has_been_asked() -> None:
    """One that takes long to say that it is busy uses up the patience of one, not of all."""
    busy = Fault(ic.BusyError("busy", "RESOURCE_EXHAUSTED"), Verdict.BUSY)
    them = attempts(patience=5.0, draw=0.0)
    now, asked = 0.0, []
    with pytest.raises(ic.BusyError, match="gave up after 3 calls"):  # noqa: PT012
        while True:
            asked.append(them.next(now).address)
            now += 20.0
            them.failed(busy, now)
    assert sorted(asked) == sorted(NAMES)


def test_another_file_is_heard_twice_then_never_asked_again() -> None:
    other = Fault(ic.IntegrityError("a has another"), Verdict.DIFFERS)
    told = failing(attempts(("a:1",)), other)
    assert [next(told)[0] for _ in range(2)] == ["a:1", "a:1"]
    with pytest.raises(ic.IntegrityError, match=r"^a has another$"):
        next(told)
    told = failing(attempts(), other)
    assert sorted(next(told)[0] for _ in range(6)) == sorted(NAMES * 2)
    with pytest.raises(ic.IntegrityError, match="none of 3 servers can be used: a has") as caught:
        next(told)
    assert str(caught.value).count("a has another") == 3


def test_a_server_of_another_version_does_not_harm_the_download() -> None:
    them = attempts()
    for _ in range(50):
        attempt = them.next(0.0)
        if attempt.address == "b:1":
            them.failed(Fault(ic.IntegrityError("other"), Verdict.DIFFERS), 0.0)
        else:
            them.progressed()
            them.failed(BROKEN, 0.0)
    assert them.call.replicas[1].strikes <= 2


def test_a_name_is_more_than_one_server() -> None:
    other = Fault(ic.IntegrityError("other"), Verdict.DIFFERS)
    told = failing(attempts(("dns:///init:1",), attempts=4), other)
    assert len([next(told) for _ in range(4)]) == 4


def test_what_every_server_would_say_ends_it_at_once() -> None:
    them = attempts()
    them.next(0.0)
    with pytest.raises(ic.AuthenticationError, match=r"^who are you$"):
        them.failed(Fault(ic.AuthenticationError("who are you"), Verdict.FINAL), 0.0)


@given(
    timeout=st.floats(0.1, 20),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
    costs=st.lists(st.floats(0, 2), min_size=1),
)
def test_no_call_starts_after_the_deadline(
    timeout: float, draws: list[float], costs: list[float]
) -> None:
    them = attempts(timeout=timeout, attempts=10**6)
    turn = 0

    def draw() -> float:
        return draws[turn % len(draws)]

    them.call.draw = draw
    now = 0.0
    with pytest.raises(ic.DeadlineError, match="the timeout of"):  # noqa: PT012
        while turn < 10**5:
            attempt = them.next(now)
            now += attempt.pause
            assert now < timeout
            now += max(0.01, costs[turn % len(costs)])
            them.failed(BROKEN, now)
            turn += 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("base_delay", -1),
        ("max_delay", float("inf")),
        ("idle_timeout", 0),
        ("patience", float("nan")),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        ic.Retry(**{name: value})  # type: ignore[arg-type]


def test_streams_cover_the_file_without_gap_or_overlap() -> None:
    from initclient._transport.download import ranges, stream_count

    for size in (1, 8 << 20, (64 << 20) + 1, 10**9, 10**12 + 7):
        for wanted in (None, 1, 2, 3, 7, 64):
            count = stream_count(size, wanted)
            found = ranges(size, count)
            assert len(found) == count
            assert found[0][0] == 0
            assert found[-1][1] == size
            assert all(begin < end for begin, end in found)
            assert all(one[1] == two[0] for one, two in pairwise(found))


@given(
    servers=st.integers(1, 3),
    answers=st.lists(
        st.tuples(
            st.sampled_from([*Verdict]),
            st.one_of(st.none(), st.floats(-1, 1e9)),
            st.floats(0, 3),
        ),
        min_size=1,
    ),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_without_a_timeout_every_fetch_ends_at_the_bound_of_retry(
    servers: int, answers: list[tuple[Verdict, float | None, float]], draw: float
) -> None:
    """Whatever servers answer and however long they take for it, up to the idle timeout."""
    retry = {"idle_timeout": 3.0, "stall_timeout": 50.0, "patience": 20.0, "max_delay": 1.0}
    them = attempts(NAMES[:servers], draw=draw, attempts=10**6, **retry)
    now, turn = 0.0, 0
    with pytest.raises(ic.InitserveError):  # noqa: PT012
        while turn < 10**5:
            attempt = them.next(now)
            assert attempt.pause <= 20.0 + 1.0
            verdict, pushback, seconds = answers[turn % len(answers)]
            now += attempt.pause + max(0.01, seconds)
            them.failed(Fault(ic.TransportError("no"), verdict, pushback), now)
            turn += 1
    assert now <= them.call.retry.longest_stall + 1.0


@pytest.mark.parametrize("others", range(1, 8))
def test_a_server_that_only_shows_signs_of_life_takes_its_share_of_the_time(others: int) -> None:
    names = tuple(f"{letter}:1" for letter in "hgfedcba"[:others])
    them = attempts((*names, "good:1"), stall_timeout=80.0)
    now, share = 0.0, 80.0 / (others + 1)
    while (attempt := them.next(now)).address != "good:1":
        begun = now
        with pytest.raises(Fault, match="though it answers"):  # noqa: PT012
            while True:
                now += share / 100
                them.check_stall(now)
        assert now - begun == pytest.approx(share, rel=0.2)
        them.failed(Fault(ic.TransportError(attempt.address), Verdict.UNFIT), now)
    assert 80.0 - now > 0.8 * share


def test_a_server_that_another_stream_excluded_still_leaves_time() -> None:
    """Two streams of one call wait for the same server; the other server is well."""
    call = attempts(("bad:1", "good:1"), stall_timeout=80.0).call
    one, two = Attempts(call), Attempts(call)
    assert one.next(0.0).address == two.next(0.0).address == "bad:1"
    one.failed(Fault(ic.TransportError("no byte"), Verdict.UNFIT), 41.0)
    with pytest.raises(Fault, match="though it answers") as caught:
        two.check_stall(41.0)
    two.failed(caught.value, 41.0)
    assert one.next(41.0).address == two.next(41.0).address == "good:1"


@pytest.mark.parametrize("before", [1, 2])
def test_failures_of_a_server_that_another_stream_excluded_do_not_count(before: int) -> None:
    """The last call on it may run while, or long before, the other stream excludes it."""
    names = ("bad:1", "worse:1", "good:1")[2 - before :]
    call = attempts(names, attempts=1).call
    one, two = Attempts(call), Attempts(call)
    assert one.next(0.0).address == two.next(0.0).address == names[0]
    if before == 2:
        two.failed(BROKEN, 0.0)
        assert two.next(0.0).address == names[1]
    one.failed(Fault(ic.AuthenticationError("no"), Verdict.UNFIT), 0.0)
    two.failed(BROKEN, 0.0)
    assert two.next(0.0).address == "good:1"
    with pytest.raises(ic.InitserveError, match=r"gave up after .* calls"):
        two.failed(Fault(ic.TransportError("last")), 0.0)


def test_a_pause_beyond_the_patience_is_not_begun() -> None:
    for verdict in (Verdict.BUSY, Verdict.AGAIN):
        them = attempts(("a:1",), patience=60.0)
        them.next(0.0)
        them.failed(Fault(ic.BusyError("busy", "RESOURCE_EXHAUSTED"), verdict, 1e9), 0.0)
        with pytest.raises(ic.BusyError, match=r"a pause of 1e\+09 s.*patience is 60 s"):
            them.next(0.0)


def test_a_server_that_asks_for_a_long_pause_is_left_to_the_others() -> None:
    told = failing(attempts(attempts=2, patience=60.0), Fault(BROKEN.error, pushback=1e9))
    assert {next(told)[0] for _ in range(3)} == set(NAMES)
    with pytest.raises(ic.TransportError, match="a pause of"):
        next(told)


def test_a_refusal_of_one_server_is_told_if_the_others_fail() -> None:
    them = attempts(("a:1", "b:1"), attempts=2, draw=0.0)
    refused = False
    with pytest.raises(ic.LimitError, match=r"none of 2 servers.*too large.*it broke; gave up"):  # noqa: PT012
        for _ in range(20):
            if them.next(0.0).address == "a:1" and not refused:
                refused = True
                limit = ic.LimitError("too large", "INVALID_ARGUMENT", "MAX_TENSORS")
                them.failed(Fault(limit, Verdict.UNFIT), 0.0)
            else:
                them.failed(Fault(ic.TransportError("it broke")), 0.0)


def test_a_name_is_called_again_after_a_refusal() -> None:
    """Another server behind it may accept; progress shows that one does."""
    refusal = Fault(ic.AuthenticationError("who are you"), Verdict.UNFIT)
    told = failing(attempts(("dns:///init:1",), attempts=4), refusal)
    assert len([next(told) for _ in range(4)]) == 4
    with pytest.raises(ic.AuthenticationError):
        next(told)
    them = attempts(("dns:///init:1",), attempts=4)
    for _ in range(50):
        them.next(0.0)
        them.failed(refusal, 0.0)
        them.next(0.0)
        them.progressed()
