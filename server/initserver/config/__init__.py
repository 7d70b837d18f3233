"""What a server can be configured to do: fields, limits, flags and environment variables."""

from initserver.config.flags import Settings, UsageError, add_flags, settings
from initserver.config.limits import Limits
from initserver.config.server_config import (
    CHUNK_BYTES,
    CommandConfig,
    ServerConfig,
    is_loopback,
    split_address,
)

__all__ = [
    "CHUNK_BYTES",
    "CommandConfig",
    "Limits",
    "ServerConfig",
    "Settings",
    "UsageError",
    "add_flags",
    "is_loopback",
    "settings",
    "split_address",
]
