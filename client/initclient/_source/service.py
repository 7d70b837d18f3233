"""A service as a source of values: addresses, credentials, retry, streams, timeout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from initclient._exceptions import DeadlineError
from initclient._source.connections import Connections
from initclient._source.credentials import Credentials
from initclient._source.environment import check_cipher_suites, check_grpc_variables
from initclient._source.retry import Retry
from initclient._source.target import addresses_of


@dataclass(frozen=True)
class Service:
    """Servers that all give the same bytes.

    Attributes:
        addresses: their addresses.
        credentials: certificates and tokens.
        retry: when to continue after a failure and when to give up.
        streams: parallel streams of a download; None chooses by size.
        timeout: seconds for each call, failures and pauses included; None means no limit.
        connections: idle connections for the next call; None opens new ones for each call.
    """

    addresses: tuple[str, ...]
    credentials: Credentials
    retry: Retry
    streams: int | None = None
    timeout: float | None = None
    connections: Connections | None = field(default=None, repr=False, compare=False)

    def after(self, seconds: float) -> Service:
        """The same service with the timeout that is left after `seconds`.

        Raises:
            DeadlineError: if no time is left.
        """
        if self.timeout is None:
            return self
        if seconds >= self.timeout:
            addresses = ", ".join(self.addresses)
            raise DeadlineError(
                f"the timeout of {self.timeout:g} s leaves no time for the next call to {addresses}"
            )
        left = self.timeout - seconds
        return Service(
            self.addresses, self.credentials, self.retry, self.streams, left, self.connections
        )


def service_at(
    target: str | Sequence[str],
    *,
    named_by: str = "target",
    credentials: Credentials | None = None,
    retry: Retry | None = None,
    streams: int | None = None,
    timeout: float | None = None,
) -> Service:
    """The service at these addresses, with defaults for everything that is not given.

    Args:
        target: the addresses.
        named_by: the argument or the variable that named them, for errors.
        credentials: None takes those of the environment.
        retry: None means `Retry()`.
        streams: parallel streams.
        timeout: seconds for each call.

    Raises:
        TypeError: for an address that is not text.
        ValueError: for a value out of range, a token that would be sent unencrypted, or a
            variable of gRPC that would end the process.
        AuthenticationError: for TLS with cipher suites that do not exist.
    """
    check_limits(timeout, streams, retry, credentials)
    addresses = addresses_of(target, named_by)
    check_grpc_variables()
    settled = Credentials.from_environment() if credentials is None else credentials
    try:
        settled.check(addresses)
    except ValueError as error:
        if credentials is not None:
            raise
        raise ValueError(f"INITSERVE_TOKEN_FILE is set: {error}") from None
    if settled.encrypts:
        check_cipher_suites()
    return Service(addresses, settled, retry or Retry(), streams, timeout)


def check_limits(
    timeout: float | None,
    streams: int | None,
    retry: Retry | None,
    credentials: Credentials | None,
) -> None:
    """Refuses values of another type, or out of range.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a timeout that is not above 0, or fewer than 1 stream.
    """
    if timeout is not None and not isinstance(timeout, Real):
        raise TypeError(f"timeout is {timeout!r}; give a number of seconds above 0, or None")
    if streams is not None and not isinstance(streams, Integral):
        raise TypeError(f"streams is {streams!r}; give a whole number, at least 1, or None")
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry is {retry!r}; give an ic.Retry, such as ic.Retry(attempts=5)")
    if credentials is not None and not isinstance(credentials, Credentials):
        # Not shown: it may be a token.
        raise TypeError(
            f"credentials is a {type(credentials).__name__}; give an ic.Credentials, such as "
            "ic.Credentials(token_file='token')"
        )
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout is {timeout}; it must be a number of seconds above 0, or None")
    if streams is not None and streams < 1:
        raise ValueError(f"streams is {streams}; it must be at least 1, or None")
