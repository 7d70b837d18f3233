"""What a caller of fetch, fetch_file or describe asked for, checked and laid out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from initcore import Checkpoints, Layout

from initclient._plan import PlanLike, lay_out
from initclient._source.checkpoints import Folder, check, open_checkpoints
from initclient._source.credentials import Credentials
from initclient._source.retry import Retry
from initclient._source.service import Service, resolve_service
from initclient._source.target import Target, refuse_backend


@dataclass(frozen=True)
class Request:
    """A plan's file, and who makes it.

    Attributes:
        layout: the file.
        service: the servers to ask; None for this process.
        backend: what computes in this process, if that was said.
        checkpoints: what this process reads for plans that take values from checkpoints.
    """

    layout: Layout
    service: Service | None
    backend: str | None = None
    checkpoints: Checkpoints | None = None

    def check(self) -> None:
        """Makes sure, where this process makes the values, that its checkpoints have them.

        Raises:
            PlanError: if they do not, or there is no folder.
        """
        if self.service is None:
            check(self.layout, self.checkpoints)

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
    checkpoints: Folder | Checkpoints | None = None,
) -> Request:
    """Checks everything that can be checked before anybody is asked and any file is read.

    Raises:
        PlanError: if the plan is wrong.
        CheckpointError: if there is no such folder of checkpoints.
        ValueError: if another argument is.
    """
    service = resolve_service(target, credentials, retry, timeout, streams)
    servers = None if service is None else service.addresses
    refuse_backend(backend, servers)
    laid_out = lay_out(plan, seed, local=service is None)
    return Request(laid_out, service, backend, open_checkpoints(checkpoints, laid_out, servers))
