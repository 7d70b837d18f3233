"""One worker: a server in a process of its own, which its supervisor starts and drains."""

from __future__ import annotations

import logging
import os
import signal
import threading
from multiprocessing.connection import Connection

from initcore import BackendError, CheckpointError, MissingPackageError, PlanError
from initcore.backends import prefer_device, select

from initserver.config import CommandConfig, ServerConfig
from initserver.net import ListenError
from initserver.observe import FOLDER_VARIABLE, hold_metrics_folder, reserve_files, set_up_logs
from initserver.process.memory import settle
from initserver.process.run import leave
from initserver.process.server import Server, warm_up
from initserver.process.signals import SIGNALS, Signals

_LOG = logging.getLogger("initserver")

# What a worker reports, and what its supervisor orders.
WARM, READY, FAILED = "warm", "ready", "failed"
SERVE, DRAIN = "serve", "drain"


def run_worker(
    server_config: ServerConfig,
    command: CommandConfig,
    number: int,
    collect: bool,
    pipe: Connection,
) -> None:
    """Warms up, serves when the pipe says so, and drains and ends when it says so or is closed.

    A signal to a single worker drains it, and the supervisor starts another. A second signal
    does nothing here: systemd and terminals send signals to all processes of a group, and only
    the supervisor knows whether that was the first.

    Args:
        server_config: how the server runs; `listen` has a real port.
        command: how it logs.
        number: which worker this is.
        collect: whether it has metrics.
        pipe: to the supervisor.
    """
    set_up_logs(command.log_format, command.log_level, worker=number)
    with Signals(on_second=None) as signals:
        # The supervisor has blocked them until there are handlers.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            if collect:
                _join_metrics(os.environ[FOLDER_VARIABLE])
            # On a machine with several GPUs, each worker has its own.
            prefer_device(number)
            # Everything that takes long, before the port is open.
            warm_up(select(server_config.backend))
            pipe.send((WARM,))
            orders = _Orders(pipe, signals)
            orders.wait_for(SERVE)
            if orders.is_over:
                leave(0)
            server = Server(server_config, share_port=True, collect=collect)
            server.start()
            settle(server.is_idle)
        except (ListenError, PlanError, CheckpointError, ValueError) as error:
            pipe.send((FAILED, 2, str(error)))
            leave(2)
        except (MissingPackageError, BackendError) as error:
            pipe.send((FAILED, 1, str(error)))
            leave(1)
        pipe.send((READY, server.backend.name))
        orders.wait_for(DRAIN)
        server.drain()
    leave(0)


def _join_metrics(folder: str) -> None:
    """Has this process pass its metrics through a folder, if the disk has room for them."""
    hold_metrics_folder(folder)
    try:
        reserve_files(folder)
    except OSError as error:
        _LOG.warning("the calls of this worker are not in the metrics: %s: %r", error, folder)
        # prometheus_client keeps the values in memory then.
        del os.environ[FOLDER_VARIABLE]


class _Orders:
    """The supervisor's orders, received while the main thread waits for signals."""

    def __init__(self, pipe: Connection, signals: Signals) -> None:
        self._pipe = pipe
        self._signals = signals
        self._received: set[str] = set()
        threading.Thread(target=self._receive, daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether the worker has to end."""
        return bool(self._signals.count) or DRAIN in self._received

    def wait_for(self, order: str) -> None:
        """Waits until an order has come, or the worker has to end."""
        while not (self.is_over or order in self._received):
            self._signals.wait()

    def _receive(self) -> None:
        try:
            while DRAIN not in self._received:
                self._received.add(self._pipe.recv())
                self._signals.wake()
        except (EOFError, OSError):
            # The supervisor is gone.
            self._received.add(DRAIN)
            self._signals.wake()
