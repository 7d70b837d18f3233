"""How patient a client is: a value that users pass, and the pauses that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a fetch is continued after a failure, and when it is given up.

    A failure costs nothing that has arrived: the next call asks for the rest. Every new good
    byte sets the counts back, so a long download survives any number of failures.

    Attributes:
        attempts: failed calls in a row to each server, without a new good byte, after which
            a fetch is given up. 1 means to ask nobody twice. The default bridges some ten
            seconds.
        base_delay: seconds; the longest pause before the second call to the same server.
        max_delay: seconds; the longest of all pauses. They double in between, and each is
            drawn between zero and its longest, so that many clients do not return at once.
        idle_timeout: seconds without a message after which a connection counts as dead; None
            waits forever. A server that makes a large orthogonal matrix is silent meanwhile.
        patience: seconds without a new byte after which servers that keep saying that they
            are busy are given up. Being busy is no failure, and their own word on when to
            come back is honoured.

    Raises:
        ValueError: if a value cannot be right.

    Example:
        >>> Retry(attempts=1).attempts
        1
    """

    attempts: int = 10
    base_delay: float = 0.1
    max_delay: float = 5.0
    idle_timeout: float | None = 60.0
    patience: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; it must be at least 1")
        for name in ("base_delay", "max_delay", "patience"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a number of seconds, 0 or more")
        if self.idle_timeout is not None and not self.idle_timeout > 0:
            raise ValueError(
                f"idle_timeout is {self.idle_timeout}; it must be a number of seconds above 0, or "
                "None"
            )

    def longest_pause(self, tries: int) -> float:
        """Upper end of the pause before a server is asked again after so many tries."""
        if tries < 1:
            return 0.0
        # The exponent is bounded: a float overflows at 1024 doublings.
        return min(self.max_delay, self.base_delay * 2.0 ** min(tries - 1, 60))

    def pause(self, tries: int, draw: Callable[[], float]) -> float:
        """A pause with full jitter; `draw` gives a number from [0, 1)."""
        return self.longest_pause(tries) * draw()
