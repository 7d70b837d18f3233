"""One worker: a server in a process of its own, which its supervisor starts and drains."""

from __future__ import annotations

import signal
import threading
from multiprocessing.connection import Connection

from initcore import BackendError, CheckpointError, MissingPackageError, PlanError

from initserver.config import CommandConfig, ServerConfig
from initserver.net import ListenError
from initserver.observe import set_up_logs
from initserver.process.memory import settle
from initserver.process.run import leave
from initserver.process.server import Server
from initserver.process.signals import SIGNALS, Signals

READY, FAILED, DRAIN = "ready", "failed", "drain"


def run_worker(
    server_config: ServerConfig,
    command: CommandConfig,
    number: int,
    collect: bool,
    pipe: Connection,
) -> None:
    """Serves until the pipe says "drain" or is closed, or a signal comes; then drains and ends.

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
            server = Server(server_config, share_port=True, collect=collect)
            server.start()
            settle()
        except (ListenError, PlanError, ValueError) as error:
            pipe.send((FAILED, 2, str(error)))
            leave(2)
        except (MissingPackageError, BackendError, CheckpointError) as error:
            pipe.send((FAILED, 1, str(error)))
            leave(1)
        pipe.send((READY, server.backend.name))
        drain = threading.Event()
        threading.Thread(target=_listen, args=(pipe, drain, signals), daemon=True).start()
        while not (signals.count or drain.is_set()):
            signals.wait()
        server.drain()
    leave(0)


def _listen(pipe: Connection, drain: threading.Event, signals: Signals) -> None:
    """Waits until the supervisor says "drain" or is gone."""
    try:
        while pipe.recv() != DRAIN:
            pass
    except (EOFError, OSError):
        pass  # the supervisor is gone
    drain.set()
    signals.wake()
