"""Processes: one server, workers that share a port, signals, the start and the stop."""

from initserver.process.run import leave, run_until_signalled
from initserver.process.server import Server

__all__ = ["Server", "leave", "run_until_signalled"]
