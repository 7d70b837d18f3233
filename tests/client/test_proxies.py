"""Proxies of the environment: never for this machine, and named in errors where one is used."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient._source import proxy_of

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
ONCE = ic.Retry(attempts=1)
NAMES = ("grpc_proxy", "https_proxy", "http_proxy")
OTHERS = ("all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "GRPC_PROXY", "ALL_PROXY")
ELSEWHERE = "init.example:50051"
TOKEN = ic.Credentials(token="a-secret", plaintext_token=True)


class ConnectProxy:
    """An HTTP proxy for CONNECT that leads every connection to one server.

    Attributes:
        address: where it listens.
        asked: the first line of each request.
        bytes: what clients sent through it.
    """

    def __init__(self, upstream: str, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = host, int(port)
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        self.bytes = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(1 << 16)
                if not data:
                    return
                head += data
            self.asked.append(head.partition(b"\r\n")[0].decode())
            client.sendall(self._answer)
            if b" 200 " not in self._answer:
                return
            with socket.create_connection(self._upstream) as server:
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server, self.bytes)
                back.join(10)

    def _copy(
        self, source: socket.socket, sink: socket.socket, kept: bytearray | None = None
    ) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if kept is not None:
                    kept += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(upstream: str, **options: bytes) -> Iterator[ConnectProxy]:
    with closing(ConnectProxy(upstream, **options)) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *OTHERS, "no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "form",
    [
        "127.0.0.1:{}",
        "localhost:{}",
        "dns:///localhost:{}",
        "dns:127.0.0.1:{}",
        "ipv4:127.0.0.1:{}",
        "ipv6:[::ffff:127.0.0.1]:{}",
    ],
)
def test_no_call_to_this_machine_goes_through_a_proxy(
    form: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with a token either, and a proxy that is dead harms nothing."""

    def set_all(proxy: str) -> None:
        for name in (*NAMES, *OTHERS):
            monkeypatch.setenv(name, proxy)

    address = form.format(target.rpartition(":")[2])
    with proxying(target) as proxy:
        set_all(f"http://{proxy.address}")
        there = ic.fetch(PLAN, target=address, credentials=ic.Credentials(token="a-secret"))
        ic.describe(PLAN, target=address, retry=ONCE)
        asyncio.run(aio.fetch(PLAN, target=address, retry=ONCE))
        assert not proxy.asked
    set_all("http://127.0.0.1:1")
    ic.fetch(PLAN, target=address, retry=ONCE)
    np.testing.assert_array_equal(there["w"], ic.fetch(PLAN, target="local")["w"])


def test_proxies_by_address_leave_this_machine_alone(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(target) as proxy:
        monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY", proxy.address)
        monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
        ic.fetch(PLAN, target=target, retry=ONCE)
        assert not proxy.asked


@pytest.mark.parametrize("variable", NAMES)
def test_calls_elsewhere_take_the_proxy(
    variable: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(target) as proxy:
        monkeypatch.setenv(variable, f"http://user:password@{proxy.address}")
        there = ic.fetch(PLAN, target=ELSEWHERE, retry=ONCE)
        assert proxy.asked == [f"CONNECT {ELSEWHERE} HTTP/1.1"]
    np.testing.assert_array_equal(there["w"], ic.fetch(PLAN, target="local")["w"])


def test_a_token_goes_to_a_proxy_in_the_open_only_where_that_is_asked_for(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(target) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        with pytest.raises(ValueError, match="would be sent unencrypted"):
            ic.fetch(PLAN, target=ELSEWHERE, credentials=ic.Credentials(token="a-secret"))
        assert not proxy.asked
        ic.fetch(PLAN, target=ELSEWHERE, credentials=TOKEN, retry=ONCE)
        assert b"a-secret" in proxy.bytes


def test_errors_name_the_proxy_and_not_its_password(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failure(call: Callable[[], Any]) -> str:
        with pytest.raises(ic.UnavailableError) as caught:
            call()
        assert "password" not in str(caught.value)
        return str(caught.value)

    def blocking() -> None:
        ic.fetch(PLAN, target=ELSEWHERE, retry=ONCE, timeout=30)

    def with_asyncio() -> None:
        asyncio.run(aio.fetch(PLAN, target=ELSEWHERE, retry=ONCE, timeout=30))

    monkeypatch.setenv("https_proxy", "http://user:password@127.0.0.1:1")
    for call in (blocking, with_asyncio):
        assert failure(call).startswith(
            f"no answer from {ELSEWHERE} through the proxy 127.0.0.1:1 (https_proxy) (connection "
            "refused). Does the proxy let this client through? https_proxy names it"
        )
    with proxying(target, answer=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:password@{proxy.address}")
        text = failure(blocking)
    assert f"through the proxy {proxy.address} (https_proxy)" in text
    assert "response code 403" in text


@pytest.mark.parametrize(
    ("environment", "address", "expected"),
    [
        ({"http_proxy": "http://p:1"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "https_proxy": "http://q:1"}, "a:1", "q:1"),
        ({"https_proxy": "http://q:1", "grpc_proxy": "http://r:1"}, "dns:///a:1", "r:1"),
        ({"http_proxy": "http://p:1", "grpc_proxy": ""}, "a:1", None),
        ({"http_proxy": "socks5://p:1"}, "a:1", None),
        ({"http_proxy": "p:1"}, "a:1", None),
        ({"http_proxy": "http://[::1"}, "a:1", None),
        ({"http_proxy": "\x1b http://"}, "a:1", None),
        ({"http_proxy": "http://p:1", "no_proxy": "b,.svc"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "b, .SVC"}, "init.svc:1", None),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:1", None),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/99,x/y"}, "10.1.2.3:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "ipv4:11.1.2.3:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "a", "no_grpc_proxy": "b"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1"}, "unix:/run/socket", None),
        ({"http_proxy": "http://p:1"}, "[::1]:1", None),
        ({"http_proxy": "http://p:1"}, "[fe80::1]:1", "p:1"),
        ({"http_proxy": "http://p:1"}, "LOCALHOST:1", None),
        ({"http_proxy": "http://p:1"}, "localhost", None),
        ({"http_proxy": "http://p:1"}, "localhost.example:1", "p:1"),
    ],
)
def test_the_rules_are_those_of_grpc(
    environment: dict[str, str],
    address: str,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_of(address)
    assert (found and found.address) == expected
