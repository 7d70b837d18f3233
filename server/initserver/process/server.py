"""A server: service, health and reflection on one port, from its start to a graceful stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import grpc
from initcore import (
    CheckpointError,
    Checkpoints,
    Plan,
    VirtualFile,
    layout,
    normal,
    trunc_normal,
    uniform,
)
from initcore.backends import Backend, select

from initserver.config import ServerConfig
from initserver.models import Models
from initserver.net import HttpPort, Identity, ListenError, Tls, check_free, with_port
from initserver.observe import CallLog, PrometheusMetrics, Tracing, tracing_if_wanted
from initserver.process.descriptors import most_connections, most_hub_connections
from initserver.rpc import (
    FEW_TURNS,
    Arrivals,
    CallWatch,
    ClientTurns,
    Gate,
    Health,
    InFlight,
    InitService,
    TokenCheck,
    Tokens,
    Watcher,
    add_to_server,
    description_threads,
    stream_threads,
)

if TYPE_CHECKING:
    from initserver.hub import HubPort

_LOG = logging.getLogger("initserver")

# Threads for calls that are no downloads; they end at once, or wait for their request.
_SHORT_CALL_THREADS = 4 + FEW_TURNS

# Seconds that a client may take to shake hands; after that its connection is closed.
_HANDSHAKE_SECONDS = 10

# Calls over one connection at the same time; clients hold further ones back.
_MOST_CALLS = 1000

# Seconds after the order to stop in which the server still accepts calls that are on their way.
_SETTLE_SECONDS = 0.5

# Seconds after that in which it refuses new calls, before it closes their connections.
_REFUSE_SECONDS = 0.2

# Seconds for what is left when the grace is over: to cut calls off, and to export spans.
_LAST_SECONDS = 0.15


class Server:
    """Serves plans at an address.

    Args:
        config: how it runs.
        share_port: whether other processes listen at the same port.
        collect: whether it has metrics even without a port for them.

    Attributes:
        config: how it runs.
        backend: computes the values.
        address: HOST:PORT that it listens at, with the real port in place of 0.
        hub_address: HOST:PORT of the Hub endpoint, "" if there is none.
        metrics_address: HOST:PORT of metrics and probes, "" if there is none.
        metrics: its metrics, None if it has no use for them.

    Raises:
        ListenError: if an address cannot be bound.
        ValueError: if a file of the configuration is invalid.
        PlanError: if no backend has the configured name.
        BackendError: if the backend cannot run here.
        CheckpointError: if the folder of checkpoints does not exist. Begins with "checkpoints".
        MissingPackageError: if an optional package is missing.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        share_port: bool = False,
        collect: bool = False,
    ) -> None:
        self.config = config = config or ServerConfig()
        self._turns = ClientTurns()
        self._health = Health(self._turns)
        self.backend = select(config.backend)
        counted = collect or config.metrics_listen is not None
        self.metrics = PrometheusMetrics(self.backend.name) if counted else None
        self._tls = self._make_tls()
        tokens = Tokens(config.token_file) if config.token_file else None
        checks = [TokenCheck(tokens)] if tokens else []
        self._tracing = tracing_if_wanted(config.trace)
        self._in_flight = InFlight()
        self._gate = Gate()

        checkpoints = _open_checkpoints(config.checkpoints)
        self._models = Models(config.models, config.limits) if config.models else None
        self._service = InitService(
            self.backend, config.limits, self.metrics, config.threads, checkpoints, self._models
        )
        self._streams = stream_threads(self._service)
        self._descriptions = description_threads()
        self._calls = ThreadPoolExecutor(_SHORT_CALL_THREADS, "initserver-call")
        # The pool of methods that name none.
        self._turns.expect_few(None)
        watchers = self._watchers()
        self._server = grpc.server(
            self._calls,
            interceptors=[
                Arrivals(self._turns),
                CallWatch(watchers),
                self._gate,
                *checks,
            ],
            options=_options(config, share_port),
        )
        add_to_server(self._service, self._server, self._streams, self._descriptions)
        self._health.add_to_server(self._server)
        self.address = self._listen(share_port)
        self._http = self._open_http()
        self.metrics_address = self._http.address if self._http else ""
        self._hub = self._open_hub(checkpoints, tokens, watchers, share_port)
        self.hub_address = self._hub.address if self._hub else ""

    def start(self) -> None:
        """Answers from now on, and is ready when the backend is warm.

        Health says NOT_SERVING before that; an earlier call is answered too, a little later.
        """
        self._server.start()
        warm_up(self.backend)
        if self._hub:
            self._hub.start()
        self._health.start_serving()

    def is_idle(self) -> bool:
        """Whether no call of the service runs."""
        return self._in_flight.wait_until_none(0)

    def drain(self) -> None:
        """Stops without losing a call, and returns when the last call has ended.

        Calls that were sent before the order to stop may still be on their way, so they are
        accepted for a moment. Then new calls are refused, and running ones may finish. All of
        that, and the export of the last spans, ends within the configuration's grace, or within
        a second if that is less.
        """
        end = time.monotonic() + self.config.grace
        self._health.stop_serving()
        time.sleep(_SETTLE_SECONDS)
        self._gate.close()
        if self._hub:
            self._hub.refuse()
        time.sleep(_REFUSE_SECONDS)
        self.stop(_until(end)).wait(_until(end) + _LAST_SECONDS)
        if self._hub:
            # gRPC does not wait for downloads over HTTP.
            self._in_flight.wait_until_none(_until(end))
        if self._tracing:
            self._tracing.close(_until(end) or _LAST_SECONDS)

    def stop(self, grace: float | None = None) -> threading.Event:
        """Stops: health says NOT_SERVING, new calls are refused, running ones may finish.

        Args:
            grace: seconds until running calls are cut off; None means the configuration's.

        Returns:
            An event that is set when the last call has ended.
        """
        self._health.stop_serving()
        seconds = self.config.grace if grace is None else grace
        stopped: threading.Event = self._server.stop(seconds)
        if seconds > 0:
            threading.Thread(target=self._end_early, args=(seconds,), daemon=True).start()
        return stopped

    def close(self, grace: float | None = None) -> None:
        """Stops, waits until the last call has ended, and frees threads and ports."""
        end = time.monotonic() + (self.config.grace if grace is None else grace)
        self.stop(grace).wait()
        if self._hub:
            self._hub.close(_until(end))
        for pool in (self._streams, self._descriptions, self._calls):
            pool.shutdown(wait=True, cancel_futures=True)
        self._service.close()
        if self._models:
            self._models.close()
        self._health.close()
        self._turns.close()
        if self._http:
            self._http.close()
        if self._tracing:
            self._tracing.close(max(1.0, _until(end)))

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error, running calls are cut off at once.
        self.close(None if error is None else 0)

    def _end_early(self, grace: float) -> None:
        """Stops the server with the last download, even if clients still watch its health."""
        deadline = time.monotonic() + grace
        while self._in_flight.wait_until_none(max(0.0, deadline - time.monotonic())):
            # A call that was accepted just now may not be counted yet.
            time.sleep(0.05)
            if self._in_flight.wait_until_none(0):
                self._server.stop(0)
                return

    def _watchers(self) -> list[Watcher]:
        # Tracing goes before the log, which shows the trace's id.
        optional: list[Tracing | PrometheusMetrics | None] = [self._tracing, self.metrics]
        return [self._in_flight, *(one for one in optional if one), CallLog()]

    def _make_tls(self) -> Tls | None:
        if not self.config.tls_cert:
            return None
        metrics = self.metrics

        def on_load(identity: Identity) -> None:
            if metrics:
                expiry = identity.not_after.timestamp()
                metrics.certificate_expiry_timestamp_seconds.set(expiry)

        return Tls(self.config, on_load)

    def _listen(self, share_port: bool) -> str:
        listen = self.config.listen
        if not share_port:
            check_free(listen)
        try:
            if self._tls:
                port = self._server.add_secure_port(listen, self._tls.credentials())
            else:
                port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise ListenError(f"cannot listen at {listen}") from error
        if port == 0:
            raise ListenError(f"cannot listen at {listen}")
        return with_port(listen, port)

    def _open_hub(
        self,
        checkpoints: Checkpoints | None,
        tokens: Tokens | None,
        watchers: Sequence[Watcher],
        share_port: bool,
    ) -> HubPort | None:
        config, models = self.config, self._models
        if config.hub_listen is None or models is None:
            return None
        # Imported late: most servers have no such port, and workers should start quickly.
        from initserver.hub import Endpoint, HubPort, Pages

        try:
            pages = Pages(config.limits, self.backend.name, checkpoints)
            endpoint = Endpoint(self._service, models, config.limits, tokens, watchers, pages)
            return HubPort(
                config.hub_listen,
                endpoint,
                self._tls,
                share_port=share_port,
                most_connections=most_hub_connections(),
                stall_seconds=config.limits.max_stall_seconds,
            )
        except BaseException:
            self._server.stop(0)
            if self._http:
                self._http.close()
            raise

    def _open_http(self) -> HttpPort | None:
        if self.config.metrics_listen is None or self.metrics is None:
            return None
        try:
            return HttpPort(
                self.config.metrics_listen, self.metrics.text, lambda: self._health.is_serving
            )
        except ListenError:
            self._server.stop(0)
            raise


def _until(moment: float) -> float:
    """Seconds until then, 0 if it has passed."""
    return max(0.0, moment - time.monotonic())


def warm_up(backend: Backend) -> None:
    """Computes a few values of each kind, so that no client waits for code to load."""
    count = (1024,)
    plan = Plan(
        {
            f"{make.__name__}.{dtype}": make(count, dtype=dtype)
            for make in (normal, uniform, trunc_normal)
            for dtype in ("F32", "BF16", "F16")
        }
    )
    file = VirtualFile(layout(plan), backend)
    file.read(0, file.size)


def _open_checkpoints(folder: str | None) -> Checkpoints | None:
    if not folder:
        return None
    try:
        return Checkpoints(folder)
    except CheckpointError:
        why = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise CheckpointError(
            f"checkpoints is {folder!r}, which {why}; give the folder of the safetensors files"
        ) from None


def _options(config: ServerConfig, share_port: bool) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", config.limits.max_request_bytes),
        # With reuse, a second server on the same port would start and take half of the calls.
        ("grpc.so_reuseport", int(share_port)),
        # Others may not take the descriptors that the HTTP port and the files need.
        (
            "grpc.max_allowed_incoming_connections",
            most_connections(most_hub_connections() if config.hub_listen else 0),
        ),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * 1000),
        ("grpc.max_concurrent_streams", _MOST_CALLS),
        # A client that disappears without closing holds its stream for a minute, not for hours.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may ping every ten seconds, also between calls; gRPC's default of five minutes
        # would close the connections of clients with a shorter keepalive.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if config.max_connection_age:
        # Running calls may finish however long they take: gRPC's default grace has no end.
        age = max(1, round(config.max_connection_age * 1000))
        options.append(("grpc.max_connection_age_ms", min(age, 2**31 - 1)))
    return options
