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

from initcore.backends import OFFERED_BACKENDS

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
        hub_listen: HOST:PORT where clients of the Hugging Face Hub read the models; None means no
            such port.
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
        "the address to listen at; port 0 picks a free port. An address that other machines can "
        "reach needs TLS or --insecure",
    )
    backend: str | None = _option(
        None,
        "serving",
        "",
        "how the server computes values. All backends give the same bits, at different speeds. "
        "auto uses a GPU if one works, else compiled code if it is installed, else NumPy",
        choices=OFFERED_BACKENDS,
        shown="auto",
    )
    threads: int | None = _option(
        None,
        "serving",
        "N",
        "how many chunks are computed at the same time. The CPUs are those of the process's "
        "affinity, or its container's quota if that is less, rounded up",
        shown="one for each CPU",
    )
    checkpoints: str | None = _option(
        None,
        "serving",
        "FOLDER",
        "plans may take values from the safetensors files below this folder (scheme PRETRAINED); "
        "without it, such plans are refused",
    )
    models: str | None = _option(
        None,
        "serving",
        "FOLDER",
        "clients may name the plans below this folder, NAME/plan.yaml or ORG/NAME/plan.yaml; the "
        "server reads a plan again when it changes",
    )
    hub_listen: str | None = _option(
        None,
        "serving",
        "HOST:PORT",
        "the address at which clients of the Hugging Face Hub (HF_ENDPOINT) read the models, with "
        "the TLS and the tokens of --listen. Needs --models and initserve[hub]",
        shown="off",
    )
    tls_cert: str | None = _option(
        None,
        "security",
        "FILE",
        "the server's certificate chain (PEM); this turns TLS on. The server reads this file, and "
        "the other files here, again when they change, so rotation needs no restart",
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
        "accept only calls with a bearer token from this file. A line is TOKEN or NAME:TOKEN (logs "
        "show the name), or a comment that begins with #. Health checks need no token",
    )
    insecure: bool = _option(
        False,
        "security",
        "",
        "let other machines connect without TLS, for example where a service mesh encrypts",
    )
    grace: float = _option(
        30.0,
        "stopping and connections",
        "SECONDS",
        "how long running downloads may go on after the first signal",
    )
    max_connection_age: float = _option(
        600.0,
        "stopping and connections",
        "SECONDS",
        "a client has to connect again after about this time, and so finds new servers. Running "
        "downloads finish first, however long they take. 0 means never",
    )
    metrics_listen: str | None = _option(
        None,
        "monitoring",
        "HOST:PORT",
        "the address of /metrics (Prometheus), /livez and /readyz, over plain HTTP. They show no "
        "secrets, but keep the port inside the cluster",
        shown="off",
    )
    trace: bool = _option(
        False,
        "monitoring",
        "",
        "trace calls with OpenTelemetry; its settings are the variables OTEL_*. It is on by "
        "default if OTEL_EXPORTER_OTLP_ENDPOINT is set. Needs initserve[otel]",
    )
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        split_address(self.listen, "listen")
        if self.metrics_listen is not None:
            split_address(self.metrics_listen, "metrics_listen")
        if self.hub_listen is not None:
            split_address(self.hub_listen, "hub_listen")
            if self.models is None:
                raise ValueError(
                    f"hub_listen is {self.hub_listen!r}, and there are no models to serve there: "
                    "give --models too"
                )
        self._check_apart("hub_listen", "listen")
        self._check_apart("metrics_listen", "listen")
        self._check_apart("metrics_listen", "hub_listen")
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
        for name in ("listen", "hub_listen"):
            self._check_protected(name)

    def _check_apart(self, name: str, other: str) -> None:
        """Refuses one address for two ports: the second would find it in use, by this program."""
        address, taken = getattr(self, name), getattr(self, other)
        if address is None or taken is None:
            return
        place = split_address(address, name)
        # Port 0 is another free port each time.
        if place[1] != 0 and place == split_address(taken, other):
            raise ValueError(
                f"{name} is {address!r}, the same address as --{other.replace('_', '-')}: give "
                "it another port"
            )

    def _check_protected(self, name: str) -> None:
        address = getattr(self, name)
        if address is None or self.insecure or self.tls_cert:
            return
        if not is_loopback(split_address(address, name)[0]):
            raise ValueError(
                f"{name} is {address!r}, so other machines could read and change what is "
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
        1,
        "serving",
        "N",
        "how many processes share the port; a process that crashes is started again",
    )
    log_format: str = _option(
        "text",
        "monitoring",
        "",
        "the form of the log: text for people, json for machines",
        choices=LOG_FORMATS,
    )
    log_level: str = _option(
        "info",
        "monitoring",
        "",
        "write log lines of this level and above: info has a line for each call, debug also for "
        "the probes",
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
