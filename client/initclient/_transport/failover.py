"""Failover and backoff: chooses the server and the pause of the next call, without I/O.

A shell takes the next attempt, waits for its pause, makes the call, and reports the result. Time
and random draws come from outside, so that tests can choose them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from initcore import PlanError

from initclient._exceptions import (
    AuthenticationError,
    DeadlineError,
    IntegrityError,
    ServerError,
    TransportError,
)
from initclient._machine import here
from initclient._source import Retry, route
from initclient._transport.faults import Fault, Verdict

_LOG = logging.getLogger("initclient")

# Answers of "another file" that exclude a replica. One may be damage in transit, since only
# chunks have a checksum.
_STRIKES = 2


@dataclass
class Replica:
    """The state of one address. Streams share it; each change is one assignment.

    Attributes:
        address: its address.
        failures: failed calls in a row, of all streams.
        closed_until: time before which it asked not to be called.
        closed_by: the error with that time; None if it named none.
        strikes: answers with another file.
        refusal: the error that excludes it from further calls; None if it may be called.
    """

    address: str
    failures: int = 0
    closed_until: float = 0.0
    closed_by: Exception | None = None
    strikes: int = 0
    refusal: Exception | None = None

    @property
    def is_name(self) -> bool:
        """Whether it may resolve to several servers, so that one does not stand for the others."""
        return self.address.startswith(("dns:", "xds:"))


@dataclass(frozen=True)
class Attempt:
    """A call to make.

    Attributes:
        replica: the server.
        pause: seconds to wait before the call.
    """

    replica: Replica
    pause: float

    @property
    def address(self) -> str:
        """The server's address."""
        return self.replica.address

    @property
    def source(self) -> str:
        """The server's address for people, with the proxy on the way to it."""
        return route(self.replica.address)


@dataclass
class Call:
    """The state that all streams of one fetch share.

    Attributes:
        replicas: the servers, in this fetch's random order.
        retry: the limits on retries.
        started: the time of its start.
        timeout: seconds for the whole fetch; None means no limit.
        draw: returns random numbers from [0, 1).
        arrived: returns the bytes that arrived, such as "3 of 10 bytes"; empty before the first
            answer.
    """

    replicas: list[Replica]
    retry: Retry
    started: float
    timeout: float | None = None
    draw: Callable[[], float] = field(default_factory=lambda: here().draw)
    arrived: Callable[[], str] = str

    @classmethod
    def to(cls, addresses: Sequence[str], retry: Retry, timeout: float | None, now: float) -> Call:
        """A fetch from these addresses that starts now.

        The order is shuffled, so that many clients spread over the servers.
        """
        shuffled = here().shuffled(addresses)
        return cls([Replica(address) for address in shuffled], retry, now, timeout)

    def remaining(self, now: float) -> float | None:
        """Seconds left, not below zero; None without a limit."""
        return None if self.timeout is None else max(0.0, self.started + self.timeout - now)


@dataclass
class Attempts:
    """The calls of one stream; each continues where the one before ended.

    Attributes:
        call: the state shared with other streams.
        first: index of the replica of the first call, so that streams spread too.
    """

    call: Call
    first: int = 0
    _made: int = 0
    # By address: failed calls in a row.
    _failures: dict[str, int] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _called: list[str] = field(default_factory=list)
    _stuck_since: float | None = None
    _fresh: float | None = None
    _begun: float = 0.0
    _last: Fault | None = None
    _current: Replica | None = None

    def again(self) -> Attempts:
        """The calls for another range: with fresh counts, and the time of the last good byte."""
        return Attempts(self.call, self.first, _fresh=self._fresh)

    def next(self, now: float) -> Attempt:
        """The next call.

        Raises:
            DeadlineError: if the timeout has passed, or would pass before the call may start.
            InitserveError: if every server asks for a longer pause than `Retry.patience` leaves,
                or no byte can come within `Retry.stall_timeout`.
        """
        retry = self.call.retry
        if self._fresh is None:
            self._fresh = now
        replica = self._choose(now)
        tries = self._tries.get(replica.address, 0)
        closed = max(0.0, replica.closed_until - now)
        pause = closed + retry.pause(tries, self.call.draw)
        remaining = self.call.remaining(now)
        if remaining is not None and pause >= remaining:
            raise self._too_late(replica)
        since = now if self._stuck_since is None else self._stuck_since
        if closed and now + closed - since > retry.patience:
            assert replica.closed_by is not None
            raise self._impatient(replica.closed_by, closed, now)
        if self._stalled(now + pause):
            raise self._given_up(self._stall(now), now)
        self._current = replica
        self._begun = now + pause
        self._made += 1
        self._tries[replica.address] = tries + 1
        if replica.address not in self._called:
            self._called.append(replica.address)
        _LOG.info("call %d goes to %s in %.1f s", self._made, route(replica.address), pause)
        return Attempt(replica, pause)

    def limit(self, now: float) -> float | None:
        """Seconds that a call with a single answer may take; None means no limit."""
        limits = (self.call.remaining(now), self.call.retry.idle_timeout, self._stall_left(now))
        return min((limit for limit in limits if limit is not None), default=None)

    def progressed(self, now: float | None = None) -> None:
        """Notes new good bytes from the last attempt: all counts and clocks start again."""
        assert self._current is not None
        self._current.failures = 0
        self._failures.clear()
        self._stuck_since = None
        self._fresh = now
        if self._current.is_name:
            # Among its servers is one that can serve this fetch.
            self._current.strikes = 0
        self._tries.clear()
        # After a failure of this replica, any other one is the better choice.
        self._tries[self._current.address] = 1

    def failed(self, fault: Fault, now: float) -> None:
        """Notes a failure of the last attempt.

        Raises:
            InitserveError, PlanError: if no further attempt is allowed.
        """
        replica, retry = self._current, self.call.retry
        assert replica is not None
        fault = self._last = self._timely(fault, now)
        _LOG.info("a call to %s failed: %s", route(replica.address), _in_short(fault.error))
        replica.failures += 1
        if fault.pushback is not None and fault.pushback >= 0:
            if now + fault.pushback >= replica.closed_until:
                # In this order: another stream that sees the time finds the error.
                replica.closed_by = fault.error
                replica.closed_until = now + fault.pushback
            if self._stuck_since is None and fault.pushback > 0:
                self._stuck_since = now
        match fault.verdict:
            case Verdict.FINAL:
                raise fault.error
            case Verdict.BUSY if retry.attempts > 1:
                if self._stuck_since is None:
                    self._stuck_since = now
                if now - self._stuck_since > retry.patience and not self._has_untried(now):
                    raise self._given_up(fault.error, now)
                return
            case Verdict.DIFFERS | Verdict.UNFIT:
                replica.strikes += 1
                if replica.strikes >= self._tolerated(fault):
                    self._exclude(replica, fault.error)
                    return
            case _:
                pass
        self._failures[replica.address] = self._failures.get(replica.address, 0) + 1
        # Failures of servers that a stream excluded meanwhile leave the others their calls.
        fit = [one.address for one in self.call.replicas if one.refusal is None]
        if sum(self._failures.get(address, 0) for address in fit) >= retry.attempts * len(fit):
            raise self._given_up(fault.error, now)

    def _has_untried(self, now: float) -> bool:
        """Whether a server may be called that was not called since the last good byte.

        One that is slow to say that it is busy must not use up the patience for all of them.
        """
        return any(
            one.refusal is None and one.closed_until <= now and one.address not in self._tries
            for one in self.call.replicas
        )

    def check_stall(self, now: float) -> None:
        """Checks that good bytes still come, however many other messages do.

        One server takes only its share of the time, so that another one may still deliver.

        Raises:
            Fault: if the last good byte, or the call's start, is longer ago than this server's
                share of what was left of `Retry.stall_timeout` then.
        """
        if self._stalled(now):
            raise Fault(self._stall(now))
        current = self._current
        assert current is not None
        # Another stream may have excluded this server since the call began.
        fit = sum(one.refusal is None or one is current for one in self.call.replicas)
        since = max(self._begun, self._fresh or 0.0)
        left = self._stall_left(since)
        if left is not None and fit > 1 and now - since > left / fit:
            source = route(current.address)
            text = f"no byte from {source} for {left / fit:.3g} s, though it answers"
            raise Fault(TransportError(text), Verdict.UNFIT)

    def _tolerated(self, fault: Fault) -> int:
        """How many refusals of this kind exclude the current replica."""
        assert self._current is not None
        if fault.pushback is not None and fault.pushback < 0:
            return 1
        if self._current.is_name:
            return self.call.retry.attempts
        return 1 if fault.verdict is Verdict.UNFIT else _STRIKES

    def _timely(self, fault: Fault, now: float) -> Fault:
        """The fault, with the error for a timeout that has passed only if it has."""
        if fault.in_time is None or self.call.remaining(now) == 0.0:
            return fault
        return Fault(fault.in_time, fault.verdict, fault.pushback)

    def _stall_left(self, now: float) -> float | None:
        limit = self.call.retry.stall_timeout
        fresh = now if self._fresh is None else self._fresh
        return None if limit is None else max(0.0, fresh + limit - now)

    def _stalled(self, now: float) -> bool:
        return self._stall_left(now) == 0.0

    def _stall(self, now: float) -> TransportError:
        seconds = self.call.retry.stall_timeout
        addresses = ", ".join(self._called or [r.address for r in self.call.replicas])
        text = f"no new byte from {addresses} for {seconds:g} s (Retry.stall_timeout)"
        return TransportError(f"{text}; the last failure: {self._last}" if self._last else text)

    def _choose(self, now: float) -> Replica:
        """The replica with the shortest wait; among equals, the one with the fewest failures."""
        replicas = self.call.replicas
        turn = self.first % len(replicas)
        fit = [r for r in replicas[turn:] + replicas[:turn] if r.refusal is None]
        if not fit:
            # Another stream has excluded the last one.
            raise self._none_usable()
        return min(fit, key=lambda replica: (self._longest_wait(replica, now), replica.failures))

    def _longest_wait(self, replica: Replica, now: float) -> float:
        tries = self._tries.get(replica.address, 0)
        return max(0.0, replica.closed_until - now) + self.call.retry.longest_pause(tries)

    def _exclude(self, replica: Replica, error: Exception) -> None:
        replica.refusal = error
        if all(other.refusal is not None for other in self.call.replicas):
            raise self._none_usable()

    def _none_usable(self, *others: Exception) -> Exception:
        """The error if each server has refused, or has failed with one of `others`."""
        refusals = [(r.address, r.refusal) for r in self.call.replicas if r.refusal]
        errors = [*(error for _, error in refusals), *others]
        if len(errors) == 1:
            return errors[0]
        reasons = [
            # The violations of a plan do not name the server.
            f"{address}: {_in_short(error)}" if isinstance(error, PlanError) else _in_short(error)
            for address, error in refusals
        ]
        reasons += map(_in_short, others)
        # Wrong data is the most serious reason; a refusal says more than no answer.
        worst = min(reversed(errors), key=_rank)
        text = f"none of {len(self.call.replicas)} servers can be used: {'; '.join(reasons)}"
        return _with_text(worst, text)

    def _given_up(self, error: Exception, now: float) -> Exception:
        """The last error, with the calls before it in its text."""
        if self._made == 1:
            return error
        last = _in_short(error)
        text = f"{last} Gave up" if last.endswith("?") else f"{last}; gave up"
        text += f" after {self._made} calls in {now - self.call.started:.1f} s"
        if len(self._called) > 1:
            text += f" to {', '.join(self._called)}"
        arrived = self.call.arrived()
        if arrived and arrived not in text:
            text += f"; {arrived} have arrived"
        return self._none_usable(_with_text(error, text))

    def _impatient(self, error: Exception, pause: float, now: float) -> Exception:
        """The error of servers that ask for a longer pause than the client's patience."""
        patience = self.call.retry.patience
        if pause > patience:
            text = f"{_in_short(error)}; it asks for a pause of {pause:.3g} s, and the client's "
            error = _with_text(error, f"{text}patience is {patience:g} s (Retry.patience)")
        return self._given_up(error, now)

    def _too_late(self, replica: Replica) -> DeadlineError:
        arrived = self.call.arrived()
        addresses = ", ".join(self._called or [r.address for r in self.call.replicas])
        text = f"the timeout of {self.call.timeout:g} s leaves no time for the next call"
        text += f" to {addresses}"
        text += f" ({arrived} have arrived)" if arrived else ""
        last = replica.closed_by if self._last is None else self._last.error
        if last is None:
            return DeadlineError(text)
        error = DeadlineError(f"{text}; the last of {self._made} calls: {_in_short(last)}")
        error.__cause__ = last
        return error


def _rank(error: Exception) -> int:
    if isinstance(error, IntegrityError):
        return 0
    return 1 if isinstance(error, PlanError | ServerError | AuthenticationError) else 2


def _in_short(error: Exception) -> str:
    """An error's text in one line; of a plan's violations, the first."""
    if not isinstance(error, PlanError):
        return str(error)
    more = f" and {len(error.violations) - 1} more" if len(error.violations) > 1 else ""
    first = str(error.violations[0]) if error.violations else ""
    return f"{error.heading.rstrip(':')}: {first}{more}" if error.heading else f"{first}{more}"


def _with_text(error: Exception, text: str) -> Exception:
    """The same error, attributes included, with another text."""
    if isinstance(error, PlanError):
        found = PlanError(error.violations, heading=text)
        found.__cause__ = error.__cause__
        return found
    error.args = (text,)
    return error
