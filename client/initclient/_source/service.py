"""The service as a caller describes it: where it is, how to be let in, how long to wait."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from initclient._exceptions import DeadlineError
from initclient._source.credentials import Credentials
from initclient._source.retry import Retry
from initclient._source.target import Target, resolve_target


@dataclass(frozen=True)
class Service:
    """Servers that all give the same bytes.

    Attributes:
        addresses: where they are.
        credentials: how to be let in.
        retry: how patient to be.
        timeout: seconds for everything; None means no limit.
        streams: parallel streams; None chooses.
    """

    addresses: tuple[str, ...]
    credentials: Credentials
    retry: Retry
    timeout: float | None = None
    streams: int | None = None

    def after(self, seconds: float) -> Service:
        """The same servers with what is left of the timeout after so many seconds.

        Raises:
            DeadlineError: if nothing is left.
        """
        if self.timeout is None:
            return self
        if seconds >= self.timeout:
            addresses = ", ".join(self.addresses)
            raise DeadlineError(
                f"the timeout of {self.timeout:g} s passed while waiting for {addresses}"
            )
        return replace(self, timeout=self.timeout - seconds)


def resolve_service(
    target: Target | None,
    credentials: Credentials | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    streams: int | None = None,
) -> Service | None:
    """The service that the arguments and the environment name, or None for this process.

    Raises:
        ValueError: if something cannot be right, or a token would be sent in the open.
    """
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout is {timeout}; it must be a number of seconds above 0, or None")
    if streams is not None and streams < 1:
        raise ValueError(f"streams is {streams}; it must be at least 1, or None")
    addresses = resolve_target(target)
    if addresses is None:
        return None
    if credentials is None:
        credentials = Credentials.from_environment()
    credentials.check(addresses)
    return Service(addresses, credentials, retry or Retry(), timeout, streams)
