"""What went wrong with one call, and what follows from that."""

from __future__ import annotations

from enum import Enum

from initclient._exceptions import TransportError


class Verdict(Enum):
    """What a failed call means for the next one."""

    AGAIN = "again"
    """The way failed, or bytes were damaged on it: ask again, there or elsewhere."""

    BUSY = "busy"
    """The server has no room now: come back when it says, or ask elsewhere."""

    DIFFERS = "differs"
    """The server has another file for this plan: asked once more in case that the answer
    itself was damaged on its way, then never again."""

    UNFIT = "unfit"
    """The server cannot serve this client at all: ask elsewhere."""

    FINAL = "final"
    """Every server would say the same: give up."""


class Fault(Exception):  # noqa: N818 - never leaves this package; `error` does
    """A failed call.

    Attributes:
        error: what the user gets if this is the end.
        verdict: whether it is.
        pushback: seconds that the server wants to be left alone, if it said so.
    """

    def __init__(
        self, error: Exception, verdict: Verdict = Verdict.AGAIN, pushback: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.verdict = verdict
        self.pushback = pushback


def silent(address: str, seconds: float | None) -> Fault:
    """A connection on which nothing came for so long."""
    return Fault(TransportError(f"nothing came from {address} for {seconds:g} s"))
