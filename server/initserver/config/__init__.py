"""The configuration of a server: its fields, limits, flags and environment variables.

Values are checked here as far as that needs no file and no socket; the rooms that open those
check the rest.
"""

from initserver.config.environment import check_environment, drop_inherited
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
    "check_environment",
    "drop_inherited",
    "is_loopback",
    "settings",
    "split_address",
]
