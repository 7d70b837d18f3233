"""What commands print, where: --out -, -q, -v, --json, names that are nearly right, completion."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import initclient as ic
import pytest
from initclient import recipes
from initclient.cli import main

Capture = pytest.CaptureFixture[str]

PLAN = ic.Plan(
    {
        "w": ic.normal((3000, 1000), dtype="BF16"),
        "q": ic.orthogonal((300, 200)),
        "b": ic.zeros((1000,)),
        "empty": ic.normal((0, 4)),
    },
    7,
)
NO_SERVER = "127.0.0.1:1"


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    ic.dump_plan(PLAN, path)
    return str(path)


def command(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "initclient", *arguments],
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_standard_output_takes_the_file(plan: str, source: str, tmp_path: Path) -> None:
    with pytest.warns(ic.PlanWarning):
        expected = ic.fetch_file(PLAN, tmp_path / "x", target="local").read_bytes()
    done = command("fetch", plan, "--out", "-", "--target", source)
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected
    warned, summary = done.stderr.decode().splitlines()
    assert warned.startswith("warning: tensor 'empty'")
    assert summary.startswith("wrote to standard output: 4 tensors, 6.0 MiB in ")


def test_a_large_file_comes_in_order(tmp_path: Path) -> None:
    """Of many blocks, some of which take much longer than their neighbours."""
    large = {"a": ic.normal((9 << 20,), dtype="F16"), "q": ic.orthogonal((900, 900))}
    large |= {"z": ic.uniform((5 << 20,)), "o": ic.ones((3 << 20,))}
    path = tmp_path / "large.yaml"
    ic.dump_plan(ic.Plan(large, 7), path)
    expected = ic.fetch_file(str(path), tmp_path / "x", target="local").read_bytes()
    assert command("fetch", str(path), "--out", "-", "-q").stdout == expected


def test_an_error_in_the_middle_ends_the_stream(plan: str) -> None:
    done = command("fetch", plan, "--out", "-", "--target", NO_SERVER, "--attempts", "1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no answer from" in done.stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--shard-size", "1GB"], "--shard-size writes several files"),
        (["--check", "3"], "--check reads the file again"),
        (["--streams", "2"], "--streams writes in several places"),
    ],
)
def test_what_a_pipe_cannot_do_is_refused(
    plan: str, flags: list[str], reason: str, capsys: Capture
) -> None:
    assert main(["fetch", plan, "--out", "-", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"initclient: error: {reason}")


def test_a_terminal_takes_no_bytes(plan: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "initclient", "fetch", plan, "--out", "-"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    _, error = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 2
    assert "standard output is a terminal; give a file" in error
    assert "--out - > FILE" in error


def test_a_page_and_a_plan_go_to_standard_output_too(plan: str, tmp_path: Path) -> None:
    page = command("plot", plan, "-o", "-", "--title", "one")
    assert page.stdout == ic.plot(plan, tmp_path / "r.html", title="one").read_bytes()
    names = {"h.0.c_proj.weight": ic.ones((8, 8))}
    trained = str(ic.fetch_file(names, tmp_path / "t.safetensors", target="local"))
    made = command("plan", trained, "--recipe", "gpt2", "-o", "-")
    assert made.stdout == command("plan", trained, "--recipe", "gpt2").stdout
    assert made.stdout.startswith(b"seed: 0\n")


def test_quiet_prints_results_and_errors_alone(plan: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "x.safetensors")
    assert main(["fetch", plan, "--out", out, "--quiet"]) == 0
    assert main(["plot", plan, "--out", str(tmp_path / "r.html"), "-q"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
    assert main(["verify", out, plan, "-q"]) == 0
    assert "4 tensors agree with plan" in capsys.readouterr().out
    assert main(["verify", out, plan, "-q", "--seed", "8"]) == 1
    assert "the file says seed 7, the plan 8" in capsys.readouterr().err


def test_verbose_says_where_values_come_from(plan: str, target: str, capsys: Capture) -> None:
    assert main(["describe", plan, "-v", "--target", target]) == 0
    told = capsys.readouterr().err
    digest = ic.describe(PLAN).digest
    assert f"initclient: plan {digest}: 4 tensors, 6.0 MiB, from {target}\n" in told
    assert f"initclient: call 1 goes to {target} in 0.0 s\n" in told
    assert main(["describe", plan, "-v", "--fingerprints"]) == 0
    assert "initclient: the backend " in capsys.readouterr().err
    assert main(["describe", plan]) == 0
    assert capsys.readouterr().err == ""
    log = logging.getLogger("initclient")
    assert (log.propagate, log.level, log.handlers) == (True, logging.NOTSET, [])


def test_verbose_names_each_call_that_failed_and_the_place_of_the_error(
    plan: str, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["fetch", plan, "--out", str(tmp_path / "x"), "--target", NO_SERVER]
    assert main([*arguments, "--attempts", "2", "-v"]) == 1
    told = capsys.readouterr().err
    assert told.count(f"initclient: a call to {NO_SERVER} failed: no answer from") == 2
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("initclient: error: no answer from")
    assert main([*arguments, "--attempts", "1"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_quiet_and_verbose_exclude_each_other(plan: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["describe", plan, "-q", "-v"])
    assert "not allowed with" in capsys.readouterr().err


def test_recipes_are_json(capsys: Capture) -> None:
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(one["name"] for one in listed) == recipes.names()
    assert all(one["source"] and one["summary"] for one in listed)
    assert main(["recipes", "gpt2", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    loaded = recipes.load("gpt2")
    assert one["arguments"] == loaded.options()
    assert one["models"] == {"PreTrainedModel": ["GPT2PreTrainedModel"]}
    assert [(r["where"], r["what"]) for r in one["rules"]] == [
        (rule.where(), rule.what()) for rule in loaded.rules
    ]


def test_a_name_that_is_nearly_right_is_suggested(capsys: Capture) -> None:
    for arguments, hint in (
        (["fetsh"], "did you mean 'fetch'?"),
        (["fetch", "p", "--out", "x", "--backend", "nativ"], "did you mean 'native'?"),
        (
            ["fetch", "p", "--out", "x", "--bakend=numpy"],
            "no flag --bakend: did you mean --backend?",
        ),
        (["describe", "p", "q"], "initclient describe: error: 'q' is one argument too many"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert hint in capsys.readouterr().err


def test_every_command_takes_quiet_and_verbose_and_a_short_out(capsys: Capture) -> None:
    from initclient._commands import COMMANDS

    for one in COMMANDS:
        name = one.__name__.rpartition(".")[2]
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert "-q, --quiet" in text, name
        assert "-v, --verbose" in text, name
        assert text.startswith(f"usage: initclient {name} [flags]"), name
        long, short = (re.search(p, text, re.M) for p in (r"^  (-., )?--out ", r"^  -o, --out "))
        assert bool(long) == bool(short), name


def test_completion_without_its_package_has_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install 'initserve[completion]'" in capsys.readouterr().err


def test_bash_completes_commands_flags_and_backends(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("shtab", reason="no shtab, which the extra completion brings")
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion.sh"
    path.write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        code = f"source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        code += f"_shtab_initclient initclient '{words[-1]}'; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return {word.strip() for word in done.stdout.split()}

    assert completed("initclient", "des") == {"describe"}
    assert "--checkpoints" in completed("initclient", "fetch", "--ch")
    assert completed("initclient", "fetch", "--backend", "na") == {"native"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_scripts_too(shell: str, capsys: Capture) -> None:
    pytest.importorskip("shtab", reason="no shtab, which the extra completion brings")
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("describe", "shard-size", "backend"))


def test_a_plan_too_large_for_the_slow_backend_says_once_what_makes_it_fast(
    tmp_path: Path,
) -> None:
    """Two fetches without the compiled library. Each tensor by itself would be small."""
    path = tmp_path / "large.yaml"
    ic.dump_plan(ic.Plan({name: ic.uniform((3000, 3000)) for name in "ab"}), path)
    program = f"""
from pathlib import Path
from initcore.backends.native import _library
from initclient.cli import main
_library.LIBRARY = Path({str(tmp_path / "none.so")!r})
for _ in range(2):
    main(["fetch", {str(path)!r}, "--out", {str(tmp_path / "large.safetensors")!r}])
"""
    environment = {k: v for k, v in os.environ.items() if k != "INITSERVE_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1, done.stderr
    assert "no compiled library, so NumPy draws large tensors" in warned[0]
    assert "pip install --force-reinstall --only-binary :all: initserve" in warned[0]
    assert done.stdout.count("wrote ") == 2
