"""The errors and warnings of the client, besides those for wrong arguments.

The tree of errors:

- InitserveError
  - TransportError: network failure; retries exhausted.
    - UnavailableError: no server answers.
    - DeadlineError (also a TimeoutError): `timeout` has passed, or would pass before the next
      call may start.
  - AuthenticationError: a certificate or a token is missing, wrong or not accepted.
  - ServerError: the server cannot serve the request, or refuses it; `code` and `reason` say why.
    - BusyError: the server was busy for longer than `Retry.patience`.
    - LimitError: the plan or the request exceeds a limit of the server.
  - IntegrityError: the bytes that arrived are not the plan's file.
  - VerificationError: `verify` found values that differ from the plan; `report` says where.
- PlanError (a ValueError, from initcore): the plan is wrong; `violations` says where.
- MissingPackageError (an ImportError, from initcore): an optional package is not installed.
- BackendError (a RuntimeError, from initcore): the requested backend cannot run here.
- CheckpointError (a RuntimeError, from initcore): a checkpoint, or the folder of checkpoints,
  cannot be read or has changed.

And two warnings, PlanWarning and PartialFileWarning. A call that raises returns nothing and gives
no file its final name; a note on the error names the partial file that `fetch_file` keeps for
resuming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A longer number is no limit, and Python refuses to read some of them.
_MOST_DIGITS = 30


class InitserveError(Exception):
    """Base class: weights could not be fetched, or differ from the plan."""


class TransportError(InitserveError):
    """Network failure, before the first byte or in the middle; retries exhausted."""


class UnavailableError(TransportError):
    """No server answers at the target's address."""


class DeadlineError(TransportError, TimeoutError):
    """The timeout has passed, or would pass before the next call may start."""


class AuthenticationError(InitserveError):
    """One side does not accept the other: a certificate or a token is missing or wrong."""


class ServerError(InitserveError):
    """The server answered with an error.

    Attributes:
        code: the name of the gRPC status, such as "INTERNAL".
        reason: the cause, as a constant for programs to compare; empty if the server gave none.
        metadata: further values of the error, such as a limit's name and value.
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
    """The server was still busy when the client gave up."""


class LimitError(ServerError):
    """The plan or the request exceeds a limit of the server; a retry does not help.

    `reason` names the limit, such as "MAX_TENSORS".
    """

    @property
    def limit(self) -> int | None:
        """The limit's value; None if the server did not send it."""
        value = self.metadata.get("limit", "")
        return int(value) if value.isdecimal() and len(value) <= _MOST_DIGITS else None


class IntegrityError(InitserveError):
    """The bytes that arrived are not the plan's file: wrong checksum, size, digest or order."""


class PlanWarning(UserWarning):
    """Something about a plan is unusual, though not wrong."""


class PartialFileWarning(UserWarning):
    """A partial file cannot be resumed, or not all of it."""
