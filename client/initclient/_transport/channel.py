"""Connections to servers: their options and credentials, for blocking and asyncio calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from initserve.v1 import service_pb2

from initclient._source import Credentials, authorities_of, pair_of, proxy_of

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["InitService"].full_name

FETCH = f"/{_SERVICE}/Fetch"
DESCRIBE = f"/{_SERVICE}/Describe"
LIST_MODELS = f"/{_SERVICE}/ListModels"
GET_MODEL = f"/{_SERVICE}/GetModel"
GET_SERVER_INFO = f"/{_SERVICE}/GetServerInfo"

HEALTH = "/grpc.health.v1.Health/Check"
"""gRPC's own protocol of health checks, without the package that has its messages."""
HEALTH_STATUSES = {b"\x08\x01": "serving", b"\x08\x02": "not serving"}
"""By the bytes of a HealthCheckResponse: its one field is a number."""

OPTIONS: Sequence[tuple[str, Any]] = (
    # Chunks have 1 to 2 MiB; the header of a plan with very many tensors is longer.
    ("grpc.max_receive_message_length", 128 << 20),
    # Each channel has a connection of its own, never one that has just failed elsewhere.
    ("grpc.use_local_subchannel_pool", 1),
    # An idle channel closes its connection after a minute: the server may have vanished
    # meanwhile without closing it.
    ("grpc.client_idle_timeout_ms", 60_000),
    # Calls to a name with several addresses go to each in turn.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # The client retries itself; gRPC's own retries would hide and delay failures.
    ("grpc.enable_retries", 0),
)

_NO_PROXY: Sequence[tuple[str, Any]] = (
    ("grpc.enable_http_proxy", 0),
    # The variable GRPC_ADDRESS_HTTP_PROXY works apart from that switch.
    ("grpc.address_http_proxy_enabled_addresses", ""),
)


def options_for(address: str) -> list[tuple[str, Any]]:
    """The options of a channel; to this machine, and where no proxy is named, without proxies."""
    return [*OPTIONS, *(_NO_PROXY if proxy_of(address) is None else ())]


@dataclass(frozen=True)
class Tls:
    """The contents of the files of a TLS connection. Equal for equal contents.

    Attributes:
        authorities: certificates of the authorities, PEM; None means those of gRPC.
        key: this client's private key, PEM; None without one.
        cert: this client's certificate chain, PEM; None without one.
    """

    authorities: bytes | None = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """The same as gRPC's credentials."""
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.cert)


def tls_of(credentials: Credentials) -> Tls | None:
    """Reads the files of credentials; None for unencrypted connections.

    Raises:
        AuthenticationError: if a file cannot be read, or is not what it should be, in PEM.
    """
    if not credentials.encrypts:
        return None
    cert, key = pair_of(credentials)
    return Tls(authorities_of(credentials), key, cert)
