"""Everything that can go wrong besides wrong arguments.

The tree of errors:

- InitserveError
  - TransportError: the way to the server failed; asking again may help.
    - UnavailableError: nobody answers at the address.
    - DeadlineError (also a TimeoutError): `timeout` seconds have passed.
  - ServerError: the server answered that it cannot or will not.
  - IntegrityError: what arrived is not the plan's file, to the bit.
- PlanError (a ValueError, from initcore): the plan is wrong; `violations` says where.
- MissingPackageError (an ImportError, from initcore): an optional package is needed.
- BackendError (a RuntimeError, from initcore): the backend asked for cannot run here.

And one warning, PlanWarning. Whatever is raised, nothing was returned and no file was
left behind.
"""

from __future__ import annotations


class InitserveError(Exception):
    """Weights could not be fetched."""


class TransportError(InitserveError):
    """The way to the server failed, before the first byte or in the middle."""


class UnavailableError(TransportError):
    """Nobody answers at the target's address."""


class DeadlineError(TransportError, TimeoutError):
    """The timeout passed before everything had arrived."""


class ServerError(InitserveError):
    """The server answered with an error.

    Attributes:
        code: the name of the gRPC status, such as "RESOURCE_EXHAUSTED".
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, str]]:
        return type(self), (str(self), self.code)


class IntegrityError(InitserveError):
    """What arrived is not what the plan stands for: a wrong checksum, size, digest or order."""


class PlanWarning(UserWarning):
    """Something about a plan is unusual, though not wrong."""
