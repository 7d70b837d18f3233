"""Processes: one server, workers that share a port, signals, start and graceful stop.

The methods of the service are in `initserver.rpc`, flags in `initserver.config`.
"""

from initserver.process.descriptors import raise_limit
from initserver.process.run import leave, run_until_signalled
from initserver.process.server import Server

__all__ = ["Server", "leave", "raise_limit", "run_until_signalled"]
