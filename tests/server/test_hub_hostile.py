"""2,000 hostile requests, floods, readers that stop: nothing wrong is sent, memory stays flat."""

from __future__ import annotations

import http.client
import os
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from initcore import Plan, normal
from initserver import Limits, Server
from initserver.hub import connections

from tests.server.certificates import Authority
from tests.server.http_floods import hostile
from tests.server.hub import ask, llama, put, serving
from tests.server.processes import wait_for

LARGE = Plan({"w": normal((2000, 1024))}, seed=5)
WEIGHTS = "/large/resolve/main/model.safetensors"

COUNT, ATTACKERS = 2000, 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    put(models / "acme" / "small", llama(), "seeds: open\n")
    put(models / "large", LARGE)
    with serving(models, grace=1) as server:
        yield server


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.hub_address.rpartition(":")
    return host, int(port)


def test_two_thousand_hostile_requests(server: Server) -> None:
    """Each is answered with a status of its own fault, or cut off; others are served meanwhile."""
    expected = sha256(ask(server, WEIGHTS).body).digest()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    answers: list[tuple[bytes, bytes]] = []
    lock = threading.Lock()

    def attack(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(COUNT // ATTACKERS):
            sent, answer = hostile(draw), b""
            with socket.create_connection(address(server), timeout=30) as client, suppress(OSError):
                client.sendall(sent)
                # Half of a request is never answered.
                client.settimeout(0.15)
                while len(answer) < 100_000 and (data := client.recv(1 << 14)):
                    answer += data
            with lock:
                answers.append((sent, answer[:12]))

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert ask(server, "/large/resolve/main/config.json").status == 200
        waits.append(time.monotonic() - began)
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    grown = (process.memory_info().rss - before) >> 20
    wrong = [(sent[:80], got) for sent, got in answers if got and not got.startswith(b"HTTP/")]
    assert not wrong, wrong[:3]
    statuses = Counter(got[9:12].decode() for _, got in answers)
    print(f"{dict(statuses)}; longest wait {max(waits):.2f} s; {grown} MiB more")
    assert len(answers) == COUNT
    assert not [status for status in statuses if status.startswith("5")]
    assert statuses["400"] > 100
    assert statuses["404"] > 50
    assert sha256(ask(server, WEIGHTS).body).digest() == expected
    assert grown < 64


def test_a_flood_of_heads_and_of_unknown_revisions(server: Server) -> None:
    """Over one connection, each is answered. test_http_floods.py holds what they cost."""
    began = time.monotonic()
    with socket.create_connection(address(server), timeout=60) as client:
        lines = [
            f"HEAD {WEIGHTS} HTTP/1.1\r\nHost: x\r\n\r\n"
            f"HEAD /acme/small/resolve/{number:040x}/config.json HTTP/1.1\r\nHost: x\r\n\r\n"
            for number in range(200)
        ]
        sender = threading.Thread(target=client.sendall, args=("".join(lines).encode(),))
        sender.start()
        answer = b""
        while answer.count(b"HTTP/1.1 ") < 400 or not answer.endswith(b"\r\n\r\n"):
            data = client.recv(1 << 16)
            assert data
            answer += data
        sender.join()
    assert answer.count(b"HTTP/1.1 200 OK") == 200
    assert answer.count(b"RevisionNotFound") == 200
    print(f"400 requests over one connection in {time.monotonic() - began:.2f} s")


def test_connections_that_shake_no_hands_make_room(tmp_path: Path) -> None:
    """They have places of the port before TLS has begun, and never more than it has."""
    put(tmp_path / "models" / "small", llama())
    authority = Authority("authority")
    cert, key = authority.sign("localhost").write(tmp_path, "server")
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    with serving(tmp_path / "models", grace=0, tls_cert=cert, tls_key=key) as server:
        hub = server._hub
        assert hub is not None
        hub._connections._most = 20
        silent = [socket.create_connection(address(server), timeout=30) for _ in range(60)]
        assert ask(server, "/api/models", tls=trusting).status == 200
        # The oldest have been closed, long before the patience for a handshake ends.
        for client in silent[:40]:
            client.settimeout(5)
            with suppress(ConnectionError):
                assert client.recv(1) == b""
        for client in silent:
            client.close()


def test_connections_that_say_nothing_make_room_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "small", llama())
    with serving(tmp_path, grace=0) as server:
        hub = server._hub
        assert hub is not None
        hub._connections._most = 20
        silent = [socket.create_connection(address(server), timeout=30) for _ in range(60)]
        # Half a request, which drips on.
        for client in silent[-20:]:
            client.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert ask(server, "/api/models").status == 200
        # For these alone: who asks may stand still for a second, too.
        with monkeypatch.context() as patch:
            patch.setattr(connections, "IDLE_SECONDS", 0.0)
            for client in silent:
                client.settimeout(10)
                with suppress(ConnectionError):
                    assert client.recv(1) == b""
                client.close()
        assert ask(server, "/api/models").status == 200


def test_readers_that_stop_make_room_for_connections(tmp_path: Path) -> None:
    """Also those of files that are not computed, which need no place among the downloads."""
    put(tmp_path / "small", llama(), tokenizer_json="x" * (16 << 20))
    with serving(tmp_path, grace=0, limits=Limits(max_stall_seconds=1)) as server:
        hub = server._hub
        assert hub is not None
        hub._connections._most = 8
        slow = []
        for _ in range(8):
            client = socket.create_connection(address(server), timeout=30)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /small/resolve/main/tokenizer.json HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.append(client)
        assert all(client.recv(16) for client in slow)

        def is_let_in() -> bool:
            try:
                return ask(server, "/api/models").status == 200
            except (ConnectionError, http.client.HTTPException):
                return False

        wait_for(is_let_in)
        for client in slow:
            client.close()


def test_readers_that_stop_take_no_memory(server: Server) -> None:
    process = psutil.Process(os.getpid())
    ask(server, WEIGHTS)
    before = process.memory_info().rss
    slow = []
    for _ in range(40):
        client = socket.create_connection(address(server), timeout=30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {WEIGHTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.append(client)
    assert all(client.recv(16) for client in slow)
    grown = (process.memory_info().rss - before) >> 20
    print(f"40 readers that stop: {grown} MiB")
    assert grown < 40 * 6
    assert ask(server, WEIGHTS, "HEAD").status == 200
    for client in slow:
        client.close()
