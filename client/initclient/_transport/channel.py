"""Connections to servers: their options and credentials, for blocking and asyncio calls."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from typing import Any

import grpc
from initserve.v1 import service_pb2

from initclient._source import Credentials, read

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["InitService"].full_name

FETCH = f"/{_SERVICE}/Fetch"
DESCRIBE = f"/{_SERVICE}/Describe"

OPTIONS: Sequence[tuple[str, Any]] = (
    # Chunks are 1 to 2 MiB; the header of a plan with very many tensors is longer.
    ("grpc.max_receive_message_length", 128 << 20),
    # A connection of its own for each stream, and one that has not just failed.
    ("grpc.use_local_subchannel_pool", 1),
    # A name with several addresses: each call goes to the next one.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Continuing is done here; gRPC's own retries would hide failures and delay them.
    ("grpc.enable_retries", 0),
)


def tls_credentials(credentials: Credentials) -> grpc.ChannelCredentials | None:
    """gRPC's form of them, from files as they are now; None for plain connections.

    Raises:
        AuthenticationError: if a file cannot be read.
    """
    if not credentials.encrypts:
        return None
    cert = key = None
    if credentials.cert is not None and credentials.key is not None:
        cert, key = read(credentials.cert, "certificate"), read(credentials.key, "key")
    return grpc.ssl_channel_credentials(_authorities(credentials), key, cert)


def _authorities(credentials: Credentials) -> bytes | None:
    if credentials.ca is not None:
        return read(credentials.ca, "CA")
    # Where the system has none, gRPC brings its own.
    system = ssl.get_default_verify_paths().cafile
    return read(system, "CA") if system else None
