"""Processes: one server, workers that share a port, signals, start and graceful stop.

The methods of the service are in `initserver.rpc`, flags in `initserver.config`.
"""

from initserver.process.run import leave, run_until_signalled
from initserver.process.server import Server

__all__ = ["Server", "leave", "run_until_signalled"]
