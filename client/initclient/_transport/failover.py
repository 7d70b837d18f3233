"""What to ask next, where and when: the decisions behind every call, without making any.

A shell asks for the next attempt, waits as long as it says, makes the call, and reports what
came of it. Time and chance come from outside, so that tests can choose them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from initclient._exceptions import DeadlineError, IntegrityError
from initclient._source import Retry
from initclient._transport.faults import Fault, Verdict

# Times that a replica has to say that its file is another one: the first time, its answer
# may have been damaged on the way, since nothing but chunks has a checksum.
_STRIKES = 2


@dataclass
class Replica:
    """What a transfer knows of one address. Streams share it; each change is one assignment.

    Attributes:
        address: where it is.
        failures: calls in a row that failed, whoever made them.
        closed_until: time before which it does not want to be asked.
        strikes: times that it had another file.
        refusal: why it is never asked again, if it is not.
    """

    address: str
    failures: int = 0
    closed_until: float = 0.0
    strikes: int = 0
    refusal: Exception | None = None

    @property
    def is_name(self) -> bool:
        """Whether gRPC may find several servers behind it, of which one says little of the rest."""
        return self.address.startswith(("dns:", "xds:"))


@dataclass(frozen=True)
class Attempt:
    """A call to make.

    Attributes:
        replica: whom to call.
        pause: seconds to wait first.
    """

    replica: Replica
    pause: float

    @property
    def address(self) -> str:
        """Where to call."""
        return self.replica.address


@dataclass
class Call:
    """What all streams of one fetch share.

    Attributes:
        replicas: the servers, in an order of this fetch's own.
        retry: how patient it is.
        started: when it began.
        timeout: seconds that it may take in all; None means no limit.
        draw: gives numbers from [0, 1).
        arrived: how far it came, as in "3 of 10 bytes"; empty while nobody has answered.
    """

    replicas: list[Replica]
    retry: Retry
    started: float
    timeout: float | None = None
    draw: Callable[[], float] = random.random
    arrived: Callable[[], str] = str

    @classmethod
    def to(cls, addresses: Sequence[str], retry: Retry, timeout: float | None, now: float) -> Call:
        """A fetch from these addresses that starts now.

        The order is shuffled, so that the clients of a fleet spread over it.
        """
        shuffled = random.sample(addresses, len(addresses))
        return cls([Replica(address) for address in shuffled], retry, now, timeout)

    def remaining(self, now: float) -> float | None:
        """Seconds left, not below zero; None without a limit."""
        return None if self.timeout is None else max(0.0, self.started + self.timeout - now)


@dataclass
class Attempts:
    """The calls of one stream: each continues what the one before it left.

    Attributes:
        call: what it shares with other streams.
        first: index of the replica that it asks first, so that streams spread too.
    """

    call: Call
    first: int = 0
    _made: int = 0
    _failures: int = 0
    _tries: dict[str, int] = field(default_factory=dict)
    _asked: list[str] = field(default_factory=list)
    _stuck_since: float | None = None
    _last: Fault | None = None
    _current: Replica | None = None

    def next(self, now: float) -> Attempt:
        """The next call.

        Raises:
            DeadlineError: if the time is up, or will be before the call may be made.
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
        if replica.address not in self._asked:
            self._asked.append(replica.address)
        return Attempt(replica, pause)

    def limit(self, now: float) -> float | None:
        """Seconds that a call with a single answer may take; None means no limit."""
        limits = (self.call.remaining(now), self.call.retry.idle_timeout)
        return min((limit for limit in limits if limit is not None), default=None)

    def progressed(self) -> None:
        """Says that new good bytes came from the last attempt: all counts start again."""
        assert self._current is not None
        self._current.failures = self._failures = 0
        self._stuck_since = None
        self._tries.clear()
        # It is in use: after a failure, any other one is the better choice.
        self._tries[self._current.address] = 1

    def failed(self, fault: Fault, now: float) -> None:
        """Says what came of the last attempt.

        Raises:
            InitserveError, PlanError: if it was the last one.
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
        """The replica that can be asked soonest, then the one that failed least of late."""
        replicas = self.call.replicas
        turn = self.first % len(replicas)
        fit = [r for r in replicas[turn:] + replicas[:turn] if r.refusal is None]
        if not fit:
            # Another stream has found the last one unfit.
            raise self._nobody_left()
        return min(fit, key=lambda replica: (self._longest_wait(replica, now), replica.failures))

    def _longest_wait(self, replica: Replica, now: float) -> float:
        tries = self._tries.get(replica.address, 0)
        return max(0.0, replica.closed_until - now) + self.call.retry.longest_pause(tries)

    def _exclude(self, replica: Replica, error: Exception) -> None:
        replica.refusal = error
        if all(other.refusal is not None for other in self.call.replicas):
            raise self._nobody_left()

    def _nobody_left(self) -> Exception:
        errors = [replica.refusal for replica in self.call.replicas if replica.refusal]
        if len(errors) == 1:
            return errors[0]
        # Wrong data outranks servers that are merely of no use.
        worst = next((e for e in errors if isinstance(e, IntegrityError)), errors[-1])
        told = "; ".join(str(error) for error in errors)
        return _with_text(worst, f"none of {len(errors)} servers can be used: {told}")

    def _given_up(self, error: Exception, now: float) -> Exception:
        """The last error, with what was tried before it."""
        if self._made == 1:
            return error
        text = f"{error} Gave up" if str(error).endswith("?") else f"{error}; gave up"
        text += f" after {self._made} calls in {now - self.call.started:.1f} s"
        if len(self._asked) > 1:
            text += f" to {', '.join(self._asked)}"
        arrived = self.call.arrived()
        if arrived and arrived not in text:
            text += f"; {arrived} have arrived"
        return _with_text(error, text)

    def _too_late(self) -> DeadlineError:
        arrived = self.call.arrived()
        where = f" after {arrived}" if arrived else ""
        addresses = ", ".join(self._asked or [r.address for r in self.call.replicas])
        text = f"the timeout of {self.call.timeout:g} s passed{where} while waiting for {addresses}"
        if self._last is None:
            return DeadlineError(text)
        error = DeadlineError(f"{text}; the last of {self._made} calls: {self._last}")
        error.__cause__ = self._last.error
        return error


def _with_text(error: Exception, text: str) -> Exception:
    """The same error with another text; what it carries besides stays."""
    error.args = (text,)
    return error
