"""Retry: when a client calls again after a failure, with exponential backoff and jitter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a fetch continues after a failure, and when it gives up.

    A failure loses no byte that has arrived: the next call requests the rest. Every new good
    byte resets the counts, so a long download survives any number of failures.

    Attributes:
        attempts: failed calls in a row to each server, without a new good byte, after which the
            fetch gives up. 1 means no retry. The default bridges some ten seconds.
        base_delay: seconds; the longest pause before the second call to the same server.
        max_delay: seconds; the longest of all pauses. The limit doubles from `base_delay` to
            `max_delay`, and each pause is drawn between zero and the limit, so that many clients
            do not return at once.
        idle_timeout: seconds without a message after which a connection counts as dead; None
            waits forever. A server that makes a large orthogonal matrix for a file reports every
            ten seconds that it is still working.
        patience: seconds without a new byte in which servers may keep answering that they are
            busy. A busy answer is no failure: the client waits for the time that the server
            names. It never starts a pause that would end after that.
        stall_timeout: seconds without a new byte after which the fetch gives up, whatever the
            servers answer, also if they report that they are still working; None means no limit.
            Of several servers, each has its share of the time.

    Raises:
        TypeError: if a value is no number, or `attempts` is no whole number.
        ValueError: if a value is out of range.

    Example:
        >>> Retry(attempts=1).attempts
        1
    """

    attempts: int = 10
    base_delay: float = 0.1
    max_delay: float = 5.0
    idle_timeout: float | None = 60.0
    patience: float = 300.0
    stall_timeout: float | None = 7200.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, Integral):
            raise TypeError(f"attempts is {self.attempts!r}; give a whole number, at least 1")
        for name in ("base_delay", "max_delay", "patience", "idle_timeout", "stall_timeout"):
            value = getattr(self, name)
            may_be_none = name.endswith("timeout")
            if not isinstance(value, Real) and not (may_be_none and value is None):
                remedy = "give a number of seconds" + (", or None" if may_be_none else "")
                raise TypeError(f"{name} is {value!r}; {remedy}")
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; it must be at least 1")
        for name in ("base_delay", "max_delay", "patience"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a number of seconds, 0 or more")
        for name in ("idle_timeout", "stall_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(
                    f"{name} is {value}; it must be a number of seconds above 0, or None"
                )

    @property
    def longest_stall(self) -> float:
        """Seconds without a new byte after which every call has ended, without a `timeout` too.

        It is `stall_timeout` and, for a server that falls silent just before, `idle_timeout`;
        infinite if one of them is None.

        >>> Retry().longest_stall
        7260.0
        """
        if self.idle_timeout is None or self.stall_timeout is None:
            return math.inf
        return self.stall_timeout + self.idle_timeout

    def longest_pause(self, tries: int) -> float:
        """The limit, in seconds, of the pause before a server's next call, after `tries` calls."""
        if tries < 1:
            return 0.0
        # The exponent is bounded: a float overflows at 1024 doublings.
        return min(self.max_delay, self.base_delay * 2.0 ** min(tries - 1, 60))

    def pause(self, tries: int, draw: Callable[[], float]) -> float:
        """A pause with full jitter; `draw` gives a number from [0, 1)."""
        return self.longest_pause(tries) * draw()
