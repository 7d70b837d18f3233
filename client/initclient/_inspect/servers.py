"""What servers say of themselves: version, backend, health, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from initcore.show import printable
from initserve.v1 import service_pb2

from initclient._exceptions import InitserveError
from initclient._machine import here as machine
from initclient._source import Service


@dataclass(frozen=True)
class ServerReport:
    """What one server says of itself.

    Attributes:
        address: its address.
        error: why there is no answer; "" if there is one.
        health: "serving", "not serving" (it starts or stops) or "unknown".
        version: its version of initserve.
        stream_version: its version of the bit contract.
        backend: the backend that computes there.
        limits: by name, in bytes, elements or calls; 0 where it does not say.
    """

    address: str
    error: str = ""
    health: str = "unknown"
    version: str = ""
    stream_version: int = 0
    backend: str = ""
    limits: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.error:
            return f"{self.address}  {self.error}"
        return (
            f"{self.address}  initserve {printable(self.version)}, stream v{self.stream_version}, "
            f"backend {printable(self.backend)}, {self.health}"
        )


def server_reports(service: Service) -> list[ServerReport]:
    """The reports of all addresses of a service, in their order; each is asked once."""
    found: dict[str, ServerReport] = {}

    def ask(address: str) -> None:
        found[address] = _report(address, service)

    works = [partial(ask, address) for address in service.addresses]
    machine().run_all(works, "initclient-info", stop=lambda: None)
    return [found[address] for address in service.addresses]


def _report(address: str, service: Service) -> ServerReport:
    from initclient._transport import blocking

    try:
        info, health = blocking.server_info(address, service)
    except InitserveError as error:
        return ServerReport(address, error=str(error))
    return ServerReport(
        address,
        health=health,
        version=info.version,
        stream_version=info.stream_version,
        backend=info.backend,
        limits=_limits(info.limits),
    )


def _limits(message: service_pb2.Limits) -> dict[str, int]:
    fields: Any = message.DESCRIPTOR.fields
    return {one.name: int(getattr(message, one.name)) for one in fields}
