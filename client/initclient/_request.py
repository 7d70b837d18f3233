"""What a caller of fetch, fetch_file or describe asked for, checked and laid out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from initcore import Layout

from initclient._credentials import Credentials
from initclient._plans import PlanLike, lay_out
from initclient._retry import Retry
from initclient._service import Service, resolve_service
from initclient._target import Target, refuse_backend


@dataclass(frozen=True)
class Request:
    """A plan's file, and who makes it.

    Attributes:
        layout: the file.
        service: the servers to ask; None for this process.
        backend: what computes in this process, if that was said.
    """

    layout: Layout
    service: Service | None
    backend: str | None = None

    def news(self, said: Iterable[str]) -> list[str]:
        """What a server says about the plan beyond what this side has said already."""
        return [text for text in said if text not in self.layout.warnings]


def make_request(
    plan: PlanLike,
    *,
    seed: int | None,
    target: Target | None,
    timeout: float | None,
    retry: Retry | None,
    credentials: Credentials | None,
    backend: str | None = None,
    streams: int | None = None,
) -> Request:
    """Checks everything that can be checked before anybody is asked.

    Raises:
        PlanError: if the plan is wrong.
        ValueError: if another argument is.
    """
    service = resolve_service(target, credentials, retry, timeout, streams)
    refuse_backend(backend, None if service is None else service.addresses)
    return Request(lay_out(plan, seed, local=service is None), service, backend)
