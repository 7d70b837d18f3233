"""Arguments of another type, names of files that are none: errors that say what to give."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
import pytest
from initclient.cli import main

PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
NOBODY = "127.0.0.1:1"
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"retry": 5}, r"retry is 5; give an ic\.Retry, such as ic\.Retry\(attempts=5\)"),
        ({"timeout": "5"}, "timeout is '5'; give a number of seconds above 0, or None"),
        ({"streams": 1.5}, r"streams is 1\.5; give a whole number, at least 1, or None"),
        ({"credentials": "secret"}, r"credentials is a str; give an ic\.Credentials, such as"),
    ],
)
def test_an_argument_of_another_type_is_named_with_what_to_give(
    argument: dict[str, Any], message: str, tmp_path: Path
) -> None:
    for target in (NOBODY, "local"):
        with pytest.raises(TypeError, match=message):
            ic.fetch(PLAN, target=target, **argument)
        with pytest.raises(TypeError, match=message):
            ic.fetch_file(PLAN, tmp_path / "x", target=target, **argument)
    with pytest.raises(TypeError, match=message):
        ic.Client(NOBODY, **argument)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"attempts": 1.5}, r"attempts is 1\.5; give a whole number, at least 1"),
        ({"attempts": "3"}, "attempts is '3'; give a whole number, at least 1"),
        ({"attempts": None}, "attempts is None; give a whole number, at least 1"),
        ({"base_delay": "1"}, "base_delay is '1'; give a number of seconds$"),
        ({"patience": None}, "patience is None; give a number of seconds$"),
        ({"idle_timeout": "1"}, "idle_timeout is '1'; give a number of seconds, or None"),
    ],
)
def test_a_retry_takes_numbers(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ic.Retry(**argument)


def test_numbers_of_other_libraries_are_numbers() -> None:
    retry = ic.Retry(attempts=np.int64(2), base_delay=np.float32(0.5), idle_timeout=None)  # type: ignore[arg-type]
    assert (retry.attempts, retry.longest_pause(1)) == (2, 0.5)
    timeout, streams = np.float64(5), np.int32(2)
    assert ic.fetch(PLAN, target="local", timeout=timeout, streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "target", ["127.0.0.1:50051/", "localhost/", "[::1]:50051/", "a:1/path", "dns:///a:50051/"]
)
def test_an_address_with_a_path_is_refused_at_once(target: str, capsys: Capture) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"give the address alone, as HOST:PORT, such as 127\."):
        ic.fetch(PLAN, target=target)
    assert main(["info", "--target", target]) == 2
    assert "give the address alone" in capsys.readouterr().err
    assert time.monotonic() - began < 4


def test_a_name_that_is_a_folders_names_the_shard_size(tmp_path: Path, capsys: Capture) -> None:
    plan = tmp_path / "plan.yaml"
    ic.dump_plan(PLAN, plan)
    for out in (f"{tmp_path}/new/", str(tmp_path)):
        assert main(["fetch", str(plan), "-o", out]) == 1
        assert "or a shard size (shard_size='5GB', --shard-size 5GB)" in capsys.readouterr().err
    assert main(["plot", str(plan), "-o", f"{tmp_path}/new/"]) == 1
    assert "new/ ends in /, as the name of a folder does" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [plan]
    with pytest.raises(IsADirectoryError, match="ends in /"):
        ic.fetch_file(PLAN, f"{tmp_path}/new/", target="local")
    assert main(["fetch", str(plan), "-o", f"{tmp_path}/new/", "--shard-size", "5GB", "-q"]) == 0


def test_an_empty_name_is_called_empty(tmp_path: Path, capsys: Capture) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    for command in ("fetch", "plot"):
        assert main([command, plan, "-o", ""]) == 1
        assert "the name of the file is empty; give the name" in capsys.readouterr().err
