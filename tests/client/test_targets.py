"""The servers that a target names: one, several, or all addresses of a name."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import initclient as ic
import numpy as np
import pytest
from initclient._source import InProcess, Service, source_of
from initclient.cli import main

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
NOBODY = "127.0.0.1:1"
SOON = ic.Retry(base_delay=0.01)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a:1", ("a:1",)),
        ("a:1, b:2,c:3", ("a:1", "b:2", "c:3")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (("a:1,b:2", "c:3"), ("a:1", "b:2", "c:3")),
        (["a:1", "a:1"], ("a:1",)),
        ("dns:///name:1", ("dns:///name:1",)),
        ("dns:///name", ("dns:///name",)),
        ("unix:/run/initserve.sock", ("unix:/run/initserve.sock",)),
        ("a, 127.0.0.1, localhost", ("a:50051", "127.0.0.1:50051", "localhost:50051")),
        (["::1", "[::1]", "[::1]:1"], ("[::1]:50051", "[::1]:1")),
        ("local", None),
        ("", None),
        (["local"], None),
        (None, None),
    ],
)
def test_forms(
    target: Any, expected: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert addresses(target) == expected
    if isinstance(target, str):
        monkeypatch.setenv("INITSERVE_TARGET", target)
        assert addresses(None) == expected


def addresses(target: Any) -> tuple[str, ...] | None:
    source = source_of(target)
    assert isinstance(source, Service | InProcess)
    return source.addresses if isinstance(source, Service) else None


@pytest.mark.parametrize("target", ["a:port", "a:", "a:0", "a:65536", "[::1]:x", "dns:///a:port"])
def test_a_port_that_is_none_is_refused_before_a_call(target: str) -> None:
    with pytest.raises(ValueError, match=r"the port must be a number within 1\.\.65535"):
        ic.fetch(PLAN, target=target)


def test_names_of_grpc_with_a_colon_have_no_port() -> None:
    assert addresses("unix:initserve.sock") == ("unix:initserve.sock",)
    assert addresses("dns:name") == ("dns:name",)


def test_a_name_without_an_address_and_a_port_of_another_program_are_said(tmp_path: Path) -> None:
    once = ic.Retry(attempts=1)
    with pytest.raises(ic.UnavailableError, match=r"no address is known.*Is the name right\?"):
        ic.fetch(PLAN, target="nobody.invalid:50051", retry=once)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(ic.UnavailableError, match=r"does not speak gRPC.*Is the port right\?"):
            ic.fetch(PLAN, target=f"127.0.0.1:{web.server_port}", retry=once)
        web.shutdown()


@pytest.mark.parametrize("target", ["a:1,", "a:1,local", ["a:1", ""], [], "http://a:1,b:1"])
def test_forms_that_mean_nothing(target: Any) -> None:
    with pytest.raises(ValueError, match=r"^target is"):
        ic.fetch(PLAN, target=target)


@pytest.mark.parametrize("target", [[50051], 50051, b"a:1", {"a:1"}])
def test_anything_but_text_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match="give a string, or a list of strings"):
        ic.fetch(PLAN, target=target)


@pytest.mark.parametrize("as_text", [True, False])
def test_servers_that_are_down_are_passed_over(
    as_text: bool, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ic.fetch(PLAN)["w"]
    addresses = [NOBODY, "127.0.0.1:2", target]
    several = ",".join(addresses) if as_text else addresses
    for _ in range(4):
        np.testing.assert_array_equal(ic.fetch(PLAN, target=several)["w"], expected)
        assert ic.describe(PLAN, target=several) == ic.describe(PLAN)
    plan = tmp_path / "plan.yaml"
    ic.dump_plan(PLAN, plan)
    flags = ["--target", ",".join(addresses)] if as_text else []
    for address in () if as_text else addresses:
        flags += ["--target", address]
    assert main(["fetch", str(plan), "--out", str(tmp_path / "out"), *flags]) == 0


def test_a_name(target: str) -> None:
    port = target.rpartition(":")[2]
    weights = ic.fetch(PLAN, target=f"dns:///localhost:{port}", retry=SOON)
    np.testing.assert_array_equal(weights["w"], ic.fetch(PLAN)["w"])


def wrong_digest(messages: list[Response], context: grpc.ServicerContext) -> None:
    messages[0].info.plan_digest = "0" * 64


def test_a_server_of_another_version_is_left_for_the_others() -> None:
    wrong, right = Changed(wrong_digest), Changed(lambda messages, context: None)
    with serving(wrong) as one, serving(right) as other:
        for _ in range(6):
            weights = ic.fetch(PLAN, target=[one, other], retry=SOON)
            np.testing.assert_array_equal(weights["w"], ic.fetch(PLAN)["w"])
    assert len(right.requests) == 6
    assert len(wrong.requests) <= 6


def test_if_all_are_of_another_version_the_error_names_them() -> None:
    wrong = Changed(wrong_digest)
    with (
        serving(wrong) as one,
        serving(wrong) as other,
        pytest.raises(ic.IntegrityError, match="none of 2 servers can be used") as caught,
    ):
        ic.fetch(PLAN, target=[one, other], retry=SOON)
    assert one in str(caught.value)
    assert other in str(caught.value)
    assert len(wrong.requests) == 4


def test_clients_of_several_servers_spread() -> None:
    servers = [Changed(lambda messages, context: None) for _ in range(3)]
    with serving(servers[0]) as a, serving(servers[1]) as b, serving(servers[2]) as c:
        for _ in range(40):
            ic.fetch(PLAN, target=[a, b, c])
    assert all(server.requests for server in servers)
