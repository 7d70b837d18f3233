"""The command `initclient`: output, warnings, errors and exit status."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initclient.cli import main

NOBODY = "127.0.0.1:1"
TEXT = """\
seed: 7
tensors:
  - {name: encoder.layers.0.attention.query_key_value.weight, shape: [3072, 1024],
     dtype: BF16, scheme: KAIMING_NORMAL, mode: FAN_OUT, nonlinearity: RELU}
  - {name: empty, shape: [0], scheme: ZEROS}
"""


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT)
    return str(path)


Capture = pytest.CaptureFixture[str]


def test_fetch_writes_the_file(plan: str, source: str, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "init.safetensors"
    assert main(["fetch", plan, "--out", str(out), "--target", source, "--seed", "0x10"]) == 0
    expected = ic.load_plan(plan).with_seed(16)
    with pytest.warns(ic.PlanWarning):
        assert out.read_bytes() == ic.fetch_file(expected, tmp_path / "same").read_bytes()
    told = capsys.readouterr()
    assert told.out.startswith(f"wrote {out}: 2 tensors, 6.0 MiB in ")
    assert told.err.startswith("warning: tensor 'empty'")
    assert told.err.count("\n") == 1


def test_describe_reads_well_in_a_pipe(plan: str, source: str, capsys: Capture) -> None:
    assert main(["describe", plan, "--target", source]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out
    row = next(line for line in told.out.splitlines() if line.startswith("encoder"))
    assert row.split() == [
        "encoder.layers.0.attention.query_key_value.weight",
        *("3072", "x", "1024", "BF16", "kaiming_normal", "1024", "3072", "std", "0.025516"),
        *("6.0", "MiB"),
    ]
    assert ic.describe(plan).digest in told.out
    assert "warning: tensor 'empty'" in told.out
    assert all(line == line.rstrip() for line in told.out.splitlines())
    assert told.err == ""


def test_describe_gives_json(plan: str, capsys: Capture) -> None:
    assert main(["describe", plan, "--json", "--seed", "9"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps(ic.describe(plan, seed=9).to_dict())
    )


def test_a_plan_may_come_from_standard_input(
    plan: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    assert main(["describe", "-"]) == 0
    assert ic.describe(plan).digest in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tensors: [{name: w, shape: [2], scheme: ZERO}]", ["'w'", "scheme", "ZEROS"]),
        ("tensors: [{name: w, shape: [-2], scheme: ZEROS}]", ["'w'", "shape", "[-2]"]),
        ("[1, 2", ["neither YAML nor JSON"]),
    ],
)
def test_a_wrong_plan_is_status_2(
    text: str, parts: list[str], tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert main(["fetch", str(path), "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("initclient: error: ")
    assert all(part in error for part in parts)
    assert "Traceback" not in error


def test_many_violations_are_counted_and_the_first_shown(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "plan.json"
    path.write_text(
        json.dumps({"tensors": [{"name": f"w{i}", "shape": [2], "std": 1} for i in range(50)]})
    )
    assert main(["describe", str(path)]) == 2
    error = capsys.readouterr().err
    assert "there are 50 errors" in error
    assert error.count("\n") == 22


def test_bad_input_is_status_2(plan: str, tmp_path: Path, capsys: Capture) -> None:
    out = ["--out", str(tmp_path / "x")]
    assert main(["describe", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file" in capsys.readouterr().err
    assert main(["fetch", plan, *out, "--target", "http://a:1"]) == 2
    assert main(["fetch", plan, *out, "--target", NOBODY, "--backend", "numpy"]) == 2
    assert main(["fetch", plan, *out, "--seed", "-1"]) == 2
    for arguments in ([], ["fetch", plan], ["fetch", plan, *out, "--seed", "x"], ["brew"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)


def test_failures_are_status_1(plan: str, tmp_path: Path, capsys: Capture) -> None:
    nobody = ["--target", NOBODY, "--attempts", "1"]
    assert main(["fetch", plan, "--out", str(tmp_path / "x"), *nobody]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last == (
        f"initclient: error: no answer from {NOBODY} (connection refused). "
        f"Is initserver running at {NOBODY}?"
    )
    assert main(["fetch", plan, "--out", str(tmp_path / "no" / "x")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"plan.yaml"}


def test_help_teaches_with_examples(capsys: Capture) -> None:
    for arguments in (["--help"], ["fetch", "--help"], ["describe", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        assert "example" in capsys.readouterr().out


def test_the_command_runs_as_a_process(plan: str, target: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "initclient", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    version = run("--version")
    assert version.stdout == f"initclient {ic.__version__} (stream v1)\n"
    files = []
    for source in ("local", target):
        files.append(tmp_path / f"{len(files)}.safetensors")
        done = run("fetch", plan, "--out", str(files[-1]), "--target", source)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    failed = run("describe", "nothing.yaml")
    assert (failed.returncode, failed.stdout) == (2, "")


def test_a_reader_that_has_seen_enough_is_no_error(plan: str) -> None:
    command = f"{sys.executable} -m initclient describe {plan} --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


def test_a_terminated_fetch_leaves_what_the_next_one_goes_on_from(
    target: str, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"tensors": [{"name": "w", "shape": [100, 1048576], "scheme": "NORMAL"}]}')
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "initclient", "fetch", str(plan), "--target", target]
    command += ["--out", str(folder / "x")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = folder / "x.initserve.journal"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") > 4:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert told.startswith("initclient: ")
    assert "The same fetch resumes there" in told
    assert {path.name for path in folder.iterdir()} == {"x.initserve.part", journal.name}
    process = subprocess.Popen([*command, "--no-resume", "--out", str(folder / "y")])
    while not any(path.name.startswith(".y") for path in folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert {path.name for path in folder.iterdir()} == {"x.initserve.part", journal.name}


def test_a_signal_whose_exception_got_lost_is_raised_again_but_not_in_the_clean_up() -> None:
    script = """
import os, signal, sys, time
from initclient._commands.terminal import exit_on_signals

class Drops:
    def __del__(self):  # Python drops the exceptions of finalizers.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

with exit_on_signals():
    try:
        dropped = Drops()
        del dropped
        time.sleep(60)
    finally:
        time.sleep(1)
        print("cleaned up", flush=True)
"""
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert made.returncode == 128 + signal.SIGTERM
    assert made.stdout == "cleaned up\n"


def test_the_help_lists_every_command_and_each_shows_how(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    overview = capsys.readouterr().out
    for name in ("fetch", "describe", "verify", "recipes", "plan", "diff", "plot", "info"):
        assert f"\n    {name} " in overview
        assert f"\n  initclient {name}" in overview
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"\n  initclient {name} " in capsys.readouterr().out


def test_info_shows_what_servers_say_of_themselves(target: str, capsys: Capture) -> None:
    assert main(["info", target]) == 0
    first, *limits = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{target}  initserve {ic.__version__}, stream v1, backend ")
    assert first.endswith(", serving")
    assert any(line.split() == ["max_streams", "64"] for line in limits)

    with pytest.raises(SystemExit, match="1"):
        main(["info", "--target", target, "--target", "127.0.0.1:1", "--json"])
    here, nowhere = json.loads(capsys.readouterr().out)
    assert (here["address"], here["health"], here["error"]) == (target, "serving", "")
    assert here["limits"]["max_tensors"] == 100_000
    assert nowhere["health"] == "unknown"
    assert "connection refused" in nowhere["error"]

    assert main(["info"]) == 2
    assert "no server is named" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "fetch {} --out {}.out",
        "describe {}",
        "verify {} {plan}",
        "verify {plan} {}",
        "diff {plan} {}",
        "plan {} --recipe gpt2",
        "plot {} -o {}.out",
        "recipes {}.yaml",
    ],
)
def test_a_file_that_cannot_be_read_is_status_2_and_named(
    command: str, plan: str, tmp_path: Path, capsys: Capture
) -> None:
    missing = str(tmp_path / "none")
    assert main([part.format(missing, plan=plan) for part in command.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("initclient: error: cannot read the ")
    assert error.count(missing) == 1
    assert "No such file or directory" in error


def test_diff_says_which_plan_is_wrong(plan: str, tmp_path: Path, capsys: Capture) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tensors: [{name: w, shape: [2], scheme: ZERO}]")
    assert main(["diff", plan, str(wrong)]) == 2
    assert f"initclient: the wrong plan is {wrong}" in capsys.readouterr().err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that `initclient fetch` passes to fetch_file."""
    from initclient._commands import fetch

    found: dict[str, Any] = {}
    real = fetch.fetch_file

    def noted(plan: ic.Plan, path: str, **options: Any) -> Path:
        found.update(options)
        return real(plan, path, target="local")

    monkeypatch.setattr(fetch, "fetch_file", noted)
    return found


def test_every_flag_of_fetch_arrives(asked: dict[str, Any], tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(ic.Plan({"w": ic.ones((3,))}), plan)
    flags = "--target a:1 --target b:2 --timeout 7 --attempts 3 --tls --token-file t "
    flags += "--plaintext-token --backend numpy --streams 5 --shard-size 1GB --no-resume "
    flags += "--checkpoints /models --check 8"
    assert main(["fetch", plan, "--out", str(tmp_path / "out"), *flags.split()]) == 0
    asked.pop("progress")
    assert asked == {
        "target": ["a:1", "b:2"],
        "timeout": 7.0,
        "retry": ic.Retry(attempts=3),
        "credentials": ic.Credentials(tls=True, token_file="t", plaintext_token=True),
        "backend": "numpy",
        "streams": 5,
        "shard_size": "1GB",
        "resume": False,
        "checkpoints": "/models",
        "check": 8,
    }


def test_the_command_plan_takes_arguments_and_an_element_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = ic.fetch_file({"h.0.c_proj.weight": ic.ones((8, 8))}, tmp_path / "x.safetensors")
    out = str(tmp_path / "plan.yaml")
    command = ["plan", str(trained), "--recipe", "gpt2", "--out", out]
    assert main([*command, "--set", "layers=12", "--set", "std=0.01", "--dtype", "bf16"]) == 0
    tensor = ic.load_plan(out).tensors["h.0.c_proj.weight"]
    assert (tensor.std, tensor.dtype) == (0.01 / math.sqrt(24), "BF16")
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--set", "layers"])
