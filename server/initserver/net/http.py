"""A small HTTP port for Prometheus and for probes: /metrics, /livez, /healthz and /readyz.

Probes are here too because those of Kubernetes speak gRPC only without TLS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from initserver.net.connections import BoundedHTTPServer, BoundedRequest
from initserver.net.listening import listening_socket, with_port

_PLAIN = "text/plain; charset=utf-8"


class HttpPort:
    """Answers from its creation until it is closed.

    Args:
        listen: HOST:PORT.
        metrics: returns the metrics for an Accept header, and their content type.
        is_ready: returns whether the server takes new calls.

    Attributes:
        address: HOST:PORT with the real port in place of 0.

    Raises:
        ListenError: if the address cannot be had.
    """

    def __init__(
        self,
        listen: str,
        metrics: Callable[[str], tuple[bytes, str]],
        is_ready: Callable[[], bool],
    ) -> None:
        class Answers(BoundedRequest):
            server_version = "initserver"
            sys_version = ""

            def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
                """Answers a GET request."""
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, *metrics(self.headers.get("Accept", "")))
                elif path in ("/livez", "/healthz"):
                    self._answer(200, b"alive\n", _PLAIN)
                elif path == "/readyz":
                    ready = is_ready()
                    text = b"ready\n" if ready else b"not ready\n"
                    self._answer(200 if ready else 503, text, _PLAIN)
                else:
                    self._answer(
                        404, b"/metrics, /livez (also /healthz) and /readyz are here\n", _PLAIN
                    )

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        listener = listening_socket(listen)
        self.address = with_port(listen, listener.getsockname()[1])
        self._server = BoundedHTTPServer(listener, Answers)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="initserver-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
