"""Client and Local: a source of weights that every verb accepts."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import numpy as np
import pytest
import torch
from initclient import aio
from initclient._transport import blocking
from initserver import Server, ServerConfig

from tests.server.certificates import Authority

PLAN = ic.Plan({"w": ic.normal((60, 40)), "q": ic.orthogonal((8, 8)), "b": ic.zeros((5,))}, seed=7)
WANT = ic.fetch(PLAN, target="local", backend="numpy")


@pytest.fixture(params=["client", "local"])
def value(request: pytest.FixtureRequest) -> ic.Client | ic.Local:
    if request.param == "local":
        return ic.Local(backend="numpy")
    return ic.Client(request.getfixturevalue("target"), timeout=60)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of opened connections."""
    addresses: list[str] = []
    open_channel = blocking.open_channel

    def noted(address: str, tls: Any) -> grpc.Channel:
        addresses.append(address)
        return open_channel(address, tls)

    monkeypatch.setattr(blocking, "open_channel", noted)
    return addresses


def same(weights: dict[str, Any]) -> bool:
    return all(np.asarray(weights[n]).tobytes() == WANT[n].tobytes() for n in PLAN.tensors)


def test_the_verbs_are_methods(value: ic.Client | ic.Local, tmp_path: Path) -> None:
    assert same(value.fetch(PLAN))
    assert isinstance(value.fetch(PLAN, framework="torch")["w"], torch.Tensor)
    path = value.fetch_file(PLAN, tmp_path / "init.safetensors")
    assert value.verify(path, PLAN).agreed == ("w", "q", "b")
    assert value.describe(PLAN, fingerprints=True) == ic.describe(
        PLAN, target="local", fingerprints=True
    )


def test_every_function_with_a_target_takes_it(value: ic.Client | ic.Local, tmp_path: Path) -> None:
    assert same(ic.fetch(PLAN, target=value))
    path = ic.fetch_file(PLAN, tmp_path / "a.safetensors", target=value)
    assert ic.verify(path, PLAN, target=value).ok
    assert ic.describe(PLAN, target=value) == ic.describe(PLAN, target="local")
    assert same(asyncio.run(aio.fetch(PLAN, target=value)))
    asyncio.run(aio.fetch_file(PLAN, tmp_path / "b.safetensors", target=value))
    assert asyncio.run(aio.describe(PLAN, target=value)) == ic.describe(PLAN, target="local")
    model = torch.nn.Linear(6, 4)
    plan = ict.plan(model, seed=3)
    assert ict.init_(model, plan, value).filled == ("weight", "bias")
    assert ict.verify(model, plan, value).agreed == ("weight", "bias")
    tree = {"w": jax.ShapeDtypeStruct((60, 40), "float32")}
    assert icj.init(tree, PLAN, value, partial=True)["w"].tobytes() == WANT["w"].tobytes()


def test_the_environment_names_no_other_target(
    value: ic.Client | ic.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_TARGET", "127.0.0.1:1")
    assert same(value.fetch(PLAN))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"retry": ic.Retry()}, "give retry to ic.Client"),
    ({"timeout": 5}, "timeout is 5, and the target is Client"),
    ({"credentials": ic.Credentials()}, "give credentials to ic.Client"),
    ({"streams": 2}, "give streams to ic.Client"),
    ({"backend": "numpy"}, "where the server has its own; leave backend out"),
    ({"checkpoints": "/models"}, "leave checkpoints out"),
]


@pytest.mark.parametrize(("more", "text"), REFUSED)
def test_nothing_stands_beside_a_client(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ic.fetch(PLAN, target=ic.Client("127.0.0.1:1"), **more)


@pytest.mark.parametrize("more", [{"backend": "numpy"}, {"checkpoints": "/models"}])
def test_nothing_stands_beside_a_local(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"which has its own; give \w+ to ic.Local"):
        ic.fetch(PLAN, target=ic.Local(backend="numpy", checkpoints="/models"), **more)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ic.Client("local"), ValueError, "names this process"),
        (lambda: ic.Client(""), ValueError, "names nothing"),
        (lambda: ic.Client([]), ValueError, "empty list"),
        (lambda: ic.Client("http://a:1"), ValueError, "give the address alone"),
        (lambda: ic.Client([1]), TypeError, "give a string"),  # type: ignore[list-item]
        (lambda: ic.Client("a:1", timeout=0), ValueError, "timeout is 0"),
        (lambda: ic.Client("a:1", streams=0), ValueError, "streams is 0"),
        (
            lambda: ic.Client("a:1", credentials=ic.Credentials(token="secret")),
            ValueError,
            "would be sent unencrypted",
        ),
        (lambda: ic.Local(backend="nump"), ic.PlanError, "'nump' is not known"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(
    make: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make()


def test_clients_are_values() -> None:
    client = ic.Client("a:1,b:2", retry=ic.Retry(attempts=3), streams=2, timeout=9)
    assert client.addresses == ("a:1", "b:2")
    for twin in (
        ic.Client(["a:1", "b:2"], retry=ic.Retry(attempts=3), streams=2, timeout=9.0),
        pickle.loads(pickle.dumps(client)),
        copy.deepcopy(client),
    ):
        assert twin == client
        assert hash(twin) == hash(client)
        assert twin.connections is not client.connections
    assert client != ic.Client("a:1,b:2")
    assert ic.Local(backend="numpy") == ic.Local(backend="numpy") != ic.Local()
    assert repr(ic.Local(backend="numpy")) == "Local(backend='numpy')"
    secret = ic.Credentials(token="hush", plaintext_token=True)
    assert "hush" not in repr(ic.Client("a:1", credentials=secret))


def test_connections_are_reused_between_calls(target: str, opened: list[str]) -> None:
    with ic.Client(target) as client:
        for _ in range(5):
            assert same(client.fetch(PLAN))
            client.describe(PLAN)
        assert opened == [target]
    assert same(client.fetch(PLAN))
    assert opened == [target] * 2, "close ends connections, and the client opens new ones"
    for _ in range(2):
        ic.fetch(PLAN, target=target)
    assert opened == [target] * 4, "the short form opens one a call"


def test_calls_at_the_same_time_have_connections_of_their_own(
    target: str, opened: list[str]
) -> None:
    client = ic.Client(target)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: same(client.fetch(PLAN)), range(24)))
    assert 1 <= len(opened) <= 4


def test_a_connection_that_failed_is_not_used_again(opened: list[str]) -> None:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0)) as server:
        client = ic.Client(server.address, retry=ic.Retry(attempts=2, base_delay=0.01))
        assert same(client.fetch(PLAN))
        address = server.address
    with pytest.raises(ic.UnavailableError):
        client.fetch(PLAN)
    opened.clear()
    with Server(ServerConfig(listen=address, backend="numpy", grace=0)):
        assert same(client.fetch(PLAN))
        assert opened == [address]


@pytest.fixture
def restarted() -> Iterator[tuple[str, Callable[[], Server]]]:
    servers: list[Server] = []

    def start(address: str = "127.0.0.1:0") -> Server:
        server = Server(ServerConfig(listen=address, backend="numpy", grace=0))
        server.start()
        servers.append(server)
        return server

    first = start()

    def again() -> Server:
        first.stop()
        return start(first.address)

    yield first.address, again
    servers[-1].stop()


def test_a_restart_between_two_calls_is_not_noticed(
    restarted: tuple[str, Callable[[], Server]],
) -> None:
    address, restart = restarted
    client = ic.Client(address, retry=ic.Retry(attempts=1))
    assert same(client.fetch(PLAN))
    restart()
    # One attempt: a connection that the old server closed must not cost it.
    assert same(client.fetch(PLAN))


def test_warnings_are_issued_at_the_callers_line(value: ic.Client | ic.Local) -> None:
    empty = ic.Plan({"none": ic.normal((0, 4))})
    for call in (lambda: value.fetch(empty), lambda: ic.fetch(empty, target=value)):
        with pytest.warns(ic.PlanWarning, match="zero-element") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


def test_rotated_certificates_leave_no_connections_behind(tmp_path: Path) -> None:
    authority = Authority("root")
    pair = authority.sign("server")
    for name, text in (("ca", authority.pem), ("crt", pair.cert), ("key", pair.key)):
        (tmp_path / name).write_bytes(text)
    config = ServerConfig(
        listen="127.0.0.1:0",
        backend="numpy",
        grace=0,
        tls_cert=str(tmp_path / "crt"),
        tls_key=str(tmp_path / "key"),
    )
    with Server(config) as server:
        client = ic.Client(server.address, credentials=ic.Credentials(ca=tmp_path / "ca"))
        for turn in range(6):
            (tmp_path / "ca").write_bytes(b"# %d\n" % turn + authority.pem)
            assert same(client.fetch(PLAN))
        assert client.connections is not None
        assert [len(idle) for idle in client.connections._idle.values()] == [1]


def test_other_users_of_grpc_delay_one_fork_and_no_more(target: str) -> None:
    script = (
        "import os, sys, time, grpc, initclient as ic\n"
        "from initserve.v1 import service_pb2, service_pb2_grpc\n"
        "channel = grpc.insecure_channel(sys.argv[1])\n"
        "grpc.channel_ready_future(channel).result(20)\n"
        "ic.Client(sys.argv[1]).fetch({'b': ic.zeros((3,))})\n"
        "for _ in range(6):\n"
        "    began = time.monotonic()\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0)\n"
        "    print(time.monotonic() - began)\n"
        "    os.waitpid(child, 0)\n"
        "os._exit(0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, target], capture_output=True, text=True, timeout=100
    )
    first, *later = map(float, run.stdout.split())
    assert first > 0.4, run.stderr
    # Most of them, since a machine may stand still in one.
    assert sorted(later)[len(later) // 2] < 0.2
