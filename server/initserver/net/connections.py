"""An HTTP server whose connections are bounded in number and in time.

The standard library's server has a thread for each connection and waits for a client as long as
bytes drip in. Here a connection ends `MOST_SECONDS` after it was accepted, and when
`MOST_CONNECTIONS` are open, the oldest one whose request is not yet whole makes room. So a
probe, which sends its request at once, is answered while others hold connections open.

Servers from PyPI were looked at: those that bound connections (uvicorn, waitress, cheroot)
refuse the new one, which would be the probe, and their timeouts start again with every byte.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST_CONNECTIONS = 64
"""Connections at the same time."""

MOST_SECONDS = 5.0
"""How long a connection may take, from its acceptance to the last byte of the answer."""


class BoundedHTTPServer(ThreadingHTTPServer):
    """Answers on a socket that already listens.

    Args:
        listener: the socket.
        answers: answers requests. `setup` and `parse_request` of `BoundedRequest` mark when a
            request is whole.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, answers: type[BoundedRequest]) -> None:
        super().__init__(listener.getsockname()[:2], answers, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._changed = threading.Condition()
        # Both in the order of acceptance, with the time at which the connection ends.
        self._open: dict[socket.socket, float] = {}
        self._reading: dict[socket.socket, None] = {}
        # Those that made room, until their threads have closed them.
        self._leaving: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread of its own, when there is room for it."""
        with self._changed:
            while len(self._open) >= MOST_CONNECTIONS:
                self._end_late()
                # Without waiting for the thread of that connection, which on a busy machine runs
                # late: behind a hundred rude connections a probe would wait for seconds.
                if self._reading and len(self._leaving) < MOST_CONNECTIONS:
                    self._end_oldest()
                else:
                    # Meanwhile new connections wait in the system's queue.
                    self._changed.wait(0.1)
            self._open[request] = time.monotonic() + MOST_SECONDS
            self._reading[request] = None
        super().process_request(request, client_address)

    def request_is_whole(self, request: socket.socket) -> None:
        """From now on the connection is not ended to make room."""
        with self._changed:
            self._reading.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection and makes room for another."""
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._reading.pop(request, None)
            self._leaving.discard(request)
            self._changed.notify_all()

    def service_actions(self) -> None:
        """Ends the connections that have taken too long; called several times a second."""
        with self._changed:
            self._end_late()

    def handle_error(self, request: object, client_address: object) -> None:
        """Logs nothing: a client that disconnects is no error of the server."""

    def _end_oldest(self) -> None:
        request = next(iter(self._reading))
        del self._reading[request], self._open[request]
        self._leaving.add(request)
        _end(request)

    def _end_late(self) -> None:
        now = time.monotonic()
        for request, end in self._open.items():
            if end > now:
                break
            _end(request)


class BoundedRequest(BaseHTTPRequestHandler):
    """Reads one request of a `BoundedHTTPServer`; subclasses answer it."""

    timeout = MOST_SECONDS
    server: BoundedHTTPServer

    def parse_request(self) -> bool:
        """Parses the request's line and headers."""
        found = super().parse_request()
        self.server.request_is_whole(self.connection)
        return found

    def log_message(self, format: str, *arguments: object) -> None:
        """Logs nothing: probes come every few seconds."""


def _end(request: socket.socket) -> None:
    """Wakes the thread that reads from a connection or writes to it; the thread closes it."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
