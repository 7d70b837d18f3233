"""Failover and backoff: chooses the server and the pause of the next call, without I/O.

A shell takes the next attempt, waits for its pause, makes the call, and reports the result. Time
and random draws come from outside, so that tests can choose them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from initclient._exceptions import DeadlineError, IntegrityError
from initclient._machine import here
from initclient._source import Retry
from initclient._transport.faults import Fault, Verdict

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
        strikes: answers with another file.
        refusal: the error that excludes it from further calls; None if it may be called.
    """

    address: str
    failures: int = 0
    closed_until: float = 0.0
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
    _failures: int = 0
    _tries: dict[str, int] = field(default_factory=dict)
    _called: list[str] = field(default_factory=list)
    _stuck_since: float | None = None
    _last: Fault | None = None
    _current: Replica | None = None

    def next(self, now: float) -> Attempt:
        """The next call.

        Raises:
            DeadlineError: if the timeout has passed, or would pass before the call may start.
        """
        replica = self._choose(now)
        tries = self._tries.get(replica.address, 0)
        pause = max(0.0, replica.closed_until - now)
        pause += self.call.retry.pause(tries, self.call.draw)
        remaining = self.call.remaining(now)
        if remaining is not None and pause >= remaining:
            raise self._too_late()
        self._current = replica
        self._made += 1
        self._tries[replica.address] = tries + 1
        if replica.address not in self._called:
            self._called.append(replica.address)
        return Attempt(replica, pause)

    def limit(self, now: float) -> float | None:
        """Seconds that a call with a single answer may take; None means no limit."""
        limits = (self.call.remaining(now), self.call.retry.idle_timeout)
        return min((limit for limit in limits if limit is not None), default=None)

    def progressed(self) -> None:
        """Notes new good bytes from the last attempt: all counts start again."""
        assert self._current is not None
        self._current.failures = self._failures = 0
        self._stuck_since = None
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
        self._last = fault
        replica.failures += 1
        if fault.pushback is not None:
            replica.closed_until = max(replica.closed_until, now + fault.pushback)
        match fault.verdict:
            case Verdict.FINAL:
                raise fault.error
            case Verdict.BUSY if retry.attempts > 1:
                if self._stuck_since is None:
                    self._stuck_since = now
                if now - self._stuck_since > retry.patience:
                    raise self._given_up(fault.error, now)
                return
            case Verdict.DIFFERS | Verdict.UNFIT:
                replica.strikes += 1
                tolerated = _STRIKES if not replica.is_name else retry.attempts
                if fault.verdict is Verdict.UNFIT or replica.strikes >= tolerated:
                    self._exclude(replica, fault.error)
                    return
            case _:
                pass
        self._failures += 1
        fit = sum(one.refusal is None for one in self.call.replicas)
        if self._failures >= retry.attempts * fit:
            raise self._given_up(fault.error, now)

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

    def _none_usable(self) -> Exception:
        errors = [replica.refusal for replica in self.call.replicas if replica.refusal]
        if len(errors) == 1:
            return errors[0]
        # Wrong data is the most serious reason.
        worst = next((e for e in errors if isinstance(e, IntegrityError)), errors[-1])
        reasons = "; ".join(str(error) for error in errors)
        return _with_text(worst, f"none of {len(errors)} servers can be used: {reasons}")

    def _given_up(self, error: Exception, now: float) -> Exception:
        """The last error, with the calls before it in its text."""
        if self._made == 1:
            return error
        text = f"{error} Gave up" if str(error).endswith("?") else f"{error}; gave up"
        text += f" after {self._made} calls in {now - self.call.started:.1f} s"
        if len(self._called) > 1:
            text += f" to {', '.join(self._called)}"
        arrived = self.call.arrived()
        if arrived and arrived not in text:
            text += f"; {arrived} have arrived"
        return _with_text(error, text)

    def _too_late(self) -> DeadlineError:
        arrived = self.call.arrived()
        addresses = ", ".join(self._called or [r.address for r in self.call.replicas])
        text = f"the timeout of {self.call.timeout:g} s leaves no time for the next call"
        text += f" to {addresses}"
        text += f" ({arrived} have arrived)" if arrived else ""
        if self._last is None:
            return DeadlineError(text)
        error = DeadlineError(f"{text}; the last of {self._made} calls: {self._last}")
        error.__cause__ = self._last.error
        return error


def _with_text(error: Exception, text: str) -> Exception:
    """The same error, attributes included, with another text."""
    error.args = (text,)
    return error
