"""Texts of servers and files, wherever people read them: escaped and bounded."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initclient.cli import main
from initcore.show import printable, printable_lines
from initserve.v1 import service_pb2

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((40, 30)), "b": ic.zeros((10,))}, seed=1)
ONCE = ic.Retry(attempts=1)
EVIL = "\x1b]0;owned\x07\x1b[2J\r\u202eerror\u2066 \x9b31m\x00 all right"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\r\u202eerror\u2066 \x9b31m\x00 all right"
MANY = 1_000_000


@given(st.text(st.characters()), st.integers(1, 50))
def test_what_is_printable_shows_and_nothing_else(text: str, limit: int) -> None:
    found = printable(text, limit)
    assert found.isprintable()
    assert len(found) <= 10 * limit + 40
    if text.isprintable() and len(text) <= limit:
        assert found == text
    lines = printable_lines(text).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert all(line.isprintable() for line in lines)


def check(text: str, most: int = 4000) -> None:
    """Checks a text of several lines that a person sees."""
    assert all(line.isprintable() for line in text.split("\n")), repr(text[:500])
    assert len(text) <= most


def status(code: str) -> Any:
    def refuse(messages: list[Response], context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode[code], EVIL.replace("\x00", ""))

    return refuse


def digest(text: str) -> Any:
    def change(messages: list[Response], context: grpc.ServicerContext) -> None:
        messages[0].info.plan_digest = text

    return change


def warned(count: int, text: str) -> Any:
    def change(messages: list[Response], context: grpc.ServicerContext) -> None:
        messages[0].info.warnings.extend([text] * count)

    return change


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    ic.dump_plan(PLAN, path)
    return str(path)


CODES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", CODES)
def test_a_server_s_sentence(
    code: str, plan_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Changed(status(code))) as target:
        with pytest.raises(ic.InitserveError) as caught:
            ic.fetch(PLAN, target=target, retry=ONCE)
        assert SHOWN.replace(r"\x00", "") in str(caught.value)
        check(str(caught.value))
        out = str(tmp_path / "out")
        assert main(["fetch", plan_file, "--out", out, "--target", target, "--attempts", "1"]) == 1
    check(capsys.readouterr().err)


@pytest.mark.parametrize("text", [EVIL, "7" * (10 << 20), "\x1b" * (10 << 20)])
def test_a_server_s_digest(text: str) -> None:
    with serving(Changed(digest(text))) as target, pytest.raises(ic.IntegrityError) as caught:
        ic.fetch(PLAN, target=target, retry=ONCE)
    check(str(caught.value), 1200)
    assert "has plan digest" in str(caught.value)
    if len(text) > 1000:
        assert "10,485,760 characters" in str(caught.value)


def test_a_server_s_warnings(
    plan_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Changed(warned(3, EVIL))) as target:
        with pytest.warns(ic.PlanWarning) as caught:
            ic.fetch(PLAN, target=target)
        assert str(caught[0].message) == SHOWN
        out = str(tmp_path / "out")
        assert main(["fetch", plan_file, "--out", out, "--target", target]) == 0
    shown = capsys.readouterr()
    check(shown.err)
    check(shown.out)
    assert f"warning: {SHOWN}\n" in shown.err


def test_a_million_warnings_of_a_server() -> None:
    start = time.monotonic()
    with (
        serving(Changed(warned(MANY, "\x1b"))) as target,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        ic.fetch(PLAN, target=target)
    texts = [str(one.message) for one in caught]
    assert texts == [r"\x1b", "999,900 more warnings are not shown"]
    assert time.monotonic() - start < 60


class Describing(Changed):
    """Describes as a real server does, with warnings of its own."""

    def __init__(self, count: int) -> None:
        super().__init__(lambda messages, context: None)
        self._count = count

    def Describe(  # noqa: N802
        self, request: service_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> service_pb2.DescribeResponse:
        from tests.client.lies import described

        answer = service_pb2.DescribeResponse.FromString(described(False))
        answer.info.warnings.extend([EVIL] * self._count)
        return answer


@pytest.mark.parametrize("count", [1, MANY])
def test_a_description(count: int, plan_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Describing(count)) as target:
        found = ic.describe(PLAN, target=target)
        assert main(["describe", plan_file, "--target", target]) == 0
    assert found.warnings[0] == SHOWN
    assert len(found.warnings) == min(count, 101)
    for text in (str(found), found._repr_html_(), capsys.readouterr().out):
        check(text, 20_000)


def test_names_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of tensors, in a file that differs from the plan, and in plans that differ."""
    evil = ic.Plan({f"w{EVIL[:-10]}".replace("\x00", ""): ic.zeros((3,))})
    path = ic.fetch_file(evil, tmp_path / "evil.safetensors", target="local")
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(path, PLAN, target="local")
    check(str(caught.value))
    check(str(ic.diff(evil, PLAN)))
    check(str(ic.describe(evil, target="local")))
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    ic.dump_plan(evil, one)
    ic.dump_plan(PLAN, two)
    with pytest.raises(SystemExit):
        main(["diff", str(one), str(two)])
    assert main(["verify", str(path), str(two)]) == 1
    assert main(["describe", str(one)]) == 0
    shown = capsys.readouterr()
    check(shown.out, 20_000)
    check(shown.err, 20_000)


class Listing(Changed):
    """Lists as many models as it is made for, and says evil things of itself."""

    def __init__(self, count: int) -> None:
        super().__init__(lambda messages, context: None)
        self._count = count

    def ListModels(  # noqa: N802
        self, request: service_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> service_pb2.ListModelsResponse:
        one = service_pb2.ModelInfo(name=EVIL, plan_digest=EVIL)
        return service_pb2.ListModelsResponse(models=[one] * self._count)

    def GetServerInfo(  # noqa: N802
        self, request: service_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> service_pb2.GetServerInfoResponse:
        return service_pb2.GetServerInfoResponse(version=EVIL, backend=EVIL, stream_version=1)


def test_a_list_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Listing(2)) as target:
        first, _ = ic.list_models(target=target)
        assert (first.name, first.digest) == (SHOWN, SHOWN)
        assert main(["models", "--target", target]) == 0
    check(capsys.readouterr().out)


def test_more_models_than_a_server_has(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Listing(MANY // 4)) as target:
        with pytest.raises(ic.IntegrityError, match="lists 250,000 models; this client takes"):
            ic.list_models(target=target, retry=ONCE)
        assert main(["models", "--target", target, "--attempts", "1"]) == 1
    shown = capsys.readouterr()
    check(shown.out)
    check(shown.err)


def test_what_a_server_says_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Listing(0)) as target, pytest.raises(SystemExit, match="1"):
        main(["info", target])  # it has no health service
    shown = capsys.readouterr().out
    check(shown)
    assert shown.count(SHOWN) == 2
