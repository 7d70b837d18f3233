"""Replicas of two versions: a plan that one of them cannot make comes from the other."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient.cli import main
from initcore import __version__
from initserver import Limits, Server, ServerConfig

PLAN = ic.Plan({"a": ic.zeros((3,)), "w": ic.dirac((4, 4, 3)), "v": ic.normal((5,))}, seed=2)
SOON = ic.Retry(base_delay=0.01)
FETCHES = 24


@pytest.fixture(scope="module")
def older() -> Iterator[str]:
    """The address of a server process of an older version, which does not know `dirac`."""
    script = str(Path(__file__).with_name("older_server.py"))
    flags = ["dirac", "0.1.9", "--listen", "127.0.0.1:0", "--backend", "numpy"]
    process = subprocess.Popen(
        [sys.executable, script, *flags], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stderr is not None
        deadline = time.monotonic() + 60
        for line in process.stderr:
            if found := re.search(r"listening at ([^\s,]+),", line):
                yield found[1]
                break
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def expected() -> dict[str, np.ndarray]:
    return ic.fetch(PLAN, target="local")


def test_every_fetch_comes_from_the_replica_that_knows_the_scheme(
    older: str, target: str, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for _ in range(FETCHES):
        there = ic.fetch(PLAN, target=[older, target], retry=SOON)
        assert all(np.array_equal(there[name], expected[name]) for name in expected)
        ic.describe(PLAN, target=[older, target], retry=SOON)
    path = ic.fetch_file(PLAN, tmp_path / "there", target=[older, target], retry=SOON)
    assert path.read_bytes() == ic.fetch_file(PLAN, tmp_path / "here", target="local").read_bytes()


def test_with_asyncio_too(older: str, target: str, expected: dict[str, np.ndarray]) -> None:
    async def fetch_all() -> list[dict[str, np.ndarray]]:
        calls = (aio.fetch(PLAN, target=[older, target], retry=SOON) for _ in range(FETCHES))
        return await asyncio.gather(*calls)

    for there in asyncio.run(fetch_all()):
        assert all(np.array_equal(there[name], expected[name]) for name in expected)


def test_the_last_refusal_says_which_version_lacks_what(
    older: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ic.PlanError) as caught:
        ic.fetch(PLAN, target=older)
    assert str(caught.value).splitlines()[0] == (
        f"{older} (initserve 0.1.9) cannot make this plan, which is right for this client "
        f"(initserve {__version__}):"
    )
    (violation,) = caught.value.violations
    assert (violation.tensor, violation.field) == ("w", "scheme")
    assert violation.message.startswith("is DIRAC, which initserve 0.1.9 does not know; use one of")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.violations) == (str(caught.value), caught.value.violations)
    plan = tmp_path / "plan.yaml"
    ic.dump_plan(PLAN, plan)
    assert main(["describe", str(plan), "--target", older]) == 2
    shown = capsys.readouterr().err
    assert "(initserve 0.1.9) cannot make this plan" in shown
    assert "DIRAC, which initserve 0.1.9 does not know" in shown


def test_if_the_other_replica_is_down_both_reasons_are_told(older: str) -> None:
    retry = ic.Retry(attempts=3, base_delay=0.01)
    with pytest.raises(ic.PlanError, match="none of 2 servers can be used") as caught:
        ic.fetch(PLAN, target=[older, "127.0.0.1:1"], retry=retry)
    assert "(initserve 0.1.9) cannot make this plan" in str(caught.value)
    assert "no answer from 127.0.0.1:1 (connection refused)" in str(caught.value)


def test_a_limit_of_one_replica_is_not_that_of_the_other(
    target: str, expected: dict[str, np.ndarray]
) -> None:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", limits=Limits(max_tensors=1))
    with Server(config) as small:
        for _ in range(8):
            there = ic.fetch(PLAN, target=[small.address, target], retry=SOON)
            assert np.array_equal(there["v"], expected["v"])


def test_a_name_of_two_replicas(expected: dict[str, np.ndarray]) -> None:
    """localhost stands for ::1 and 127.0.0.1, and each has a server."""
    small = Limits(max_tensors=1)
    with ExitStack() as stack:
        server = stack.enter_context(Server(ServerConfig(listen="127.0.0.1:0", backend="numpy")))
        port = server.address.rpartition(":")[2]
        try:
            config = ServerConfig(listen=f"[::1]:{port}", backend="numpy", limits=small)
            stack.enter_context(Server(config))
        except (OSError, ValueError) as error:
            pytest.skip(f"this machine has no server at ::1: {error}")
        # Each attempt asks one of the two by chance.
        patient = ic.Retry(base_delay=0.01, attempts=40)
        for _ in range(FETCHES):
            there = ic.fetch(PLAN, target=f"dns:///localhost:{port}", retry=patient)
            assert np.array_equal(there["v"], expected["v"])


def test_a_token_that_one_replica_knows_is_enough(
    target: str, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("another\n")
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", token_file=str(tokens))
    with Server(config) as strict:
        for _ in range(8):
            there = ic.fetch(PLAN, target=[strict.address, target], retry=SOON)
            assert np.array_equal(there["v"], expected["v"])
