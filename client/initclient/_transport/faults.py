"""A failed call, and its meaning for the next one."""

from __future__ import annotations

from enum import Enum

from initclient._exceptions import TransportError


class Verdict(Enum):
    """The meaning of a failed call for the next one."""

    AGAIN = "again"
    """Network failure or damaged bytes: retry, on any server."""

    BUSY = "busy"
    """The server is busy: retry at the time that it names, or on another server."""

    DIFFERS = "differs"
    """The server has another file for this plan: retry it once, since the answer may have been
    damaged in transit; then use only other servers."""

    UNFIT = "unfit"
    """The server cannot serve this client: use only other servers."""

    FINAL = "final"
    """Every server would answer the same: give up."""


class Fault(Exception):  # noqa: N818 - never leaves this package; `error` does
    """A failed call.

    Attributes:
        error: the error for the user if no retry follows.
        verdict: whether a retry follows, and where.
        pushback: seconds before which the server asked not to be called; below zero: not at
            all. None if it did not ask.
        in_time: the error instead, if the timeout of the whole call has not passed.
    """

    def __init__(
        self,
        error: Exception,
        verdict: Verdict = Verdict.AGAIN,
        pushback: float | None = None,
        in_time: Exception | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.verdict = verdict
        self.pushback = pushback
        self.in_time = in_time


def silent(address: str, seconds: float | None) -> Fault:
    """The fault of a connection without a message for `seconds`."""
    return Fault(TransportError(f"no message from {address} for {seconds:g} s"))
