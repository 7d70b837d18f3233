"""Everything that can go wrong besides wrong arguments.

The tree of errors:

- InitserveError
  - TransportError: the way to the server failed, and went on failing when asked again.
    - UnavailableError: nobody answers at the address.
    - DeadlineError (also a TimeoutError): `timeout` seconds have passed.
  - AuthenticationError: a certificate or a token is missing, wrong or not accepted.
  - ServerError: the server answered that it cannot or will not; `code` and `reason` say why.
    - BusyError: it had no room for the call, for longer than `Retry.patience`.
    - LimitError: the plan or the request is larger than the server allows.
  - IntegrityError: what arrived is not the plan's file, to the bit.
  - VerificationError: what `verify` looked at is not what the plan says; `report` says where.
- PlanError (a ValueError, from initcore): the plan is wrong; `violations` says where.
- MissingPackageError (an ImportError, from initcore): an optional package is needed.
- BackendError (a RuntimeError, from initcore): the backend asked for cannot run here.
- CheckpointError (a RuntimeError, from initcore): a checkpoint, or the folder of them, cannot be
  read or has changed.

And two warnings, PlanWarning and PartialFileWarning. Whatever is raised, nothing was returned
and no file has its final name; a note on the error says what `fetch_file` keeps to go on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class InitserveError(Exception):
    """Weights could not be fetched, or are not what they should be."""


class TransportError(InitserveError):
    """The way to the server failed, before the first byte or in the middle."""


class UnavailableError(TransportError):
    """Nobody answers at the target's address."""


class DeadlineError(TransportError, TimeoutError):
    """The timeout passed before everything had arrived."""


class AuthenticationError(InitserveError):
    """One side does not accept the other: a certificate or a token is missing or wrong."""


class ServerError(InitserveError):
    """The server answered with an error.

    Attributes:
        code: the name of the gRPC status, such as "INTERNAL".
        reason: the server's word for the cause, for programs to compare; empty if it gave none.
        metadata: what the server adds to the reason, such as a limit's name and value.
    """

    def __init__(
        self, message: str, code: str, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.code, self.reason, self.metadata)


class BusyError(ServerError):
    """The server had no room for the call, however often it was asked."""


class LimitError(ServerError):
    """The plan or the request is larger than the server allows; asking again will not help.

    `reason` names the limit, such as "MAX_TENSORS".
    """

    @property
    def limit(self) -> int | None:
        """The limit's value, where the server said it."""
        value = self.metadata.get("limit", "")
        return int(value) if value.isdecimal() else None


class IntegrityError(InitserveError):
    """What arrived is not what the plan stands for: a wrong checksum, size, digest or order."""


class PlanWarning(UserWarning):
    """Something about a plan is unusual, though not wrong."""


class PartialFileWarning(UserWarning):
    """What a fetch to a file that was cut has left cannot all be used."""
