"""The configuration of a server and of its command, each value checked where it enters.

Every field carries its flag's help and group as metadata; `flags.py` makes the command line
and the environment variables from that. An error about a value begins with the field's name,
so that the command line can put the flag or the variable in its place.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from typing import Any

from initcore.backends import BACKENDS

from initserver.config.limits import Limits

CHUNK_BYTES = 1 << 20
"""Bytes of data in one chunk: gRPC moves 1 to 2 MiB at a time fastest, and clients accept 4."""

DEFAULT_LISTEN = "127.0.0.1:50051"

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


def _option(default: Any, group: str, metavar: str, help: str, **more: Any) -> Any:
    metadata = {"group": group, "metavar": metavar, "help": help, **more}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How a server runs.

    Attributes:
        listen: HOST:PORT; port 0 lets the system pick one, IPv6 hosts stand in brackets.
        backend: name of the backend that computes the values; None means INITSERVE_BACKEND, else
            "auto".
        threads: chunks made at the same time; None means one for each CPU that the process may
            use, by its affinity and its cgroup's quota, rounded up.
        checkpoints: folder of safetensors files that plans may take values from.
        models: folder of plans that callers may name, as NAME/plan.yaml or ORG/NAME/plan.yaml.
        tls_cert: path of the server's certificate chain, PEM. Read again when it changes,
            as are the next three.
        tls_key: path of its private key, PEM, not encrypted.
        tls_client_ca: path of the certificates of the authorities that sign those of clients,
            PEM; None requires no client certificate.
        token_file: path of the bearer tokens that are accepted; None requires none.
        insecure: whether other machines may connect without TLS.
        grace: seconds that running downloads may take when the server stops.
        max_connection_age: seconds after which a client has to connect again; 0 is never.
        metrics_listen: HOST:PORT of metrics and probes over HTTP; None means no such port.
        trace: whether calls are traced with OpenTelemetry.
        limits: how much a request may ask for, and how much is cached.

    Raises:
        ValueError: if a value is invalid. The message begins with the field's name.
    """

    listen: str = _option(
        DEFAULT_LISTEN,
        "serving",
        "HOST:PORT",
        "address to listen at; port 0 picks a free one. Beyond this machine it needs TLS or "
        "--insecure",
    )
    backend: str | None = _option(
        None,
        "serving",
        "",
        "computes values: always the same bits, at different speed. auto takes a GPU "
        "if one answers, else compiled code if it is installed, else NumPy",
        choices=BACKENDS,
        shown="auto",
    )
    threads: int | None = _option(
        None,
        "serving",
        "N",
        "chunks made at the same time. The CPUs are those of the process's affinity, or its "
        "container's quota if that is less, rounded up",
        shown="one for each CPU",
    )
    checkpoints: str | None = _option(
        None,
        "serving",
        "FOLDER",
        "safetensors files below this folder may be named by plans (scheme PRETRAINED); without "
        "it such plans are refused",
    )
    models: str | None = _option(
        None,
        "serving",
        "FOLDER",
        "plans below this folder, as NAME/plan.yaml or ORG/NAME/plan.yaml, may be named by "
        "callers; they are read again when they change",
    )
    tls_cert: str | None = _option(
        None,
        "security",
        "FILE",
        "the server's certificate chain (PEM): turns TLS on. Read again when it changes, as are "
        "the other files here: rotation needs no restart",
    )
    tls_key: str | None = _option(
        None, "security", "FILE", "the certificate's private key (PEM, not encrypted)"
    )
    tls_client_ca: str | None = _option(
        None,
        "security",
        "FILE",
        "mutual TLS: accept only clients with a certificate that these authorities (PEM) signed",
    )
    token_file: str | None = _option(
        None,
        "security",
        "FILE",
        "accept only calls with one of these bearer tokens: one a line, as TOKEN or NAME:TOKEN "
        "(logs show the name); lines that begin with # are comments. Health checks need none",
    )
    insecure: bool = _option(
        False,
        "security",
        "",
        "let other machines connect without TLS, where something else protects the traffic",
    )
    grace: float = _option(
        30.0,
        "stopping and connections",
        "SECONDS",
        "time that running downloads have to finish after the first signal",
    )
    max_connection_age: float = _option(
        600.0,
        "stopping and connections",
        "SECONDS",
        "after about this time a client has to connect again, and so finds new servers; running "
        "downloads finish first, however long they take. 0: never",
    )
    metrics_listen: str | None = _option(
        None,
        "monitoring",
        "HOST:PORT",
        "plain HTTP for /metrics (Prometheus), /livez and /readyz. They hold no secrets, but "
        "keep the port inside the cluster",
        shown="off",
    )
    trace: bool = _option(
        False,
        "monitoring",
        "",
        "trace calls with OpenTelemetry, which takes its settings from OTEL_* variables; on by "
        "default if OTEL_EXPORTER_OTLP_ENDPOINT is set. Needs initserve[otel]",
    )
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        host, _ = split_address(self.listen, "listen")
        if self.metrics_listen is not None:
            split_address(self.metrics_listen, "metrics_listen")
        _at_least(self, "threads", 1)
        for name in ("grace", "max_connection_age"):
            _seconds(self, name)
        if self.tls_key and not self.tls_cert:
            raise ValueError("tls_cert is not given, but a key is: give both or none")
        if self.tls_cert and not self.tls_key:
            raise ValueError("tls_key is not given, but a certificate is: give both or none")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError(
                "tls_cert is not given, but authorities of clients are: mutual TLS needs the "
                "server's own certificate and key too"
            )
        if not (self.insecure or self.tls_cert or is_loopback(host)):
            raise ValueError(
                f"listen is {self.listen!r}, so other machines could read and change what is "
                "sent: give a certificate and its key (--tls-cert, --tls-key), listen at "
                "127.0.0.1, or give --insecure if something else protects the network"
            )


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """Settings of the command `initserver` alone: its processes and its log.

    Attributes:
        workers: processes that share the port.
        log_format: "text" for people, "json" for machines.
        log_level: the least severe records that are written.

    Raises:
        ValueError: if a value is invalid. The message begins with the field's name.
    """

    workers: int = _option(
        1, "serving", "N", "processes that share the port; one that crashes is started again"
    )
    log_format: str = _option(
        "text", "monitoring", "", "log lines for people or for machines", choices=LOG_FORMATS
    )
    log_level: str = _option(
        "info",
        "monitoring",
        "",
        "least severe lines that are written; info has one line a call, debug adds the probes",
        choices=LOG_LEVELS,
    )

    def __post_init__(self) -> None:
        _at_least(self, "workers", 1)
        for name, choices in (("log_format", LOG_FORMATS), ("log_level", LOG_LEVELS)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def split_address(address: str, name: str = "address") -> tuple[str, int]:
    """Host, without brackets, and port of HOST:PORT.

    Raises:
        ValueError: if it does not have that form; the message begins with `name`.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not host
        or (":" in host and not bracketed)
        or not (port.isascii() and port.isdigit())
        or int(port) > 65535
    ):
        raise ValueError(
            f"{name} is {address!r}; it must be HOST:PORT with a port within 0..65535, such as "
            f"{DEFAULT_LISTEN} or [::]:50051"
        )
    return (host[1:-1] if bracketed else host), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if value is not None and value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def _seconds(config: object, name: str) -> None:
    value = getattr(config, name)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}; it must be a number of seconds, 0 or more")
