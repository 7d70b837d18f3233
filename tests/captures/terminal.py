"""What a person sees of the commands, on terminals of three widths.

`python -m tests.captures.terminal` writes it into the folders 60, 80 and 120 here, a file for each
command: its help, a success and a typical mistake. tests/client/test_captures.py compares them.
Every command runs in a process on a real pseudo-terminal; what depends on the machine (ports,
seconds) is replaced.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import initcore
import numpy as np
from initserver import Limits, Server, ServerConfig
from safetensors.numpy import save_file

from tests.mounts import missing

FOLDER = Path(__file__).parent
WIDTHS = (60, 80, 120)

LLAMA = """\
seed: 7
tensors:
  - {name: model.embed_tokens.weight, shape: [32000, 512], dtype: BF16, scheme: NORMAL, std: 0.02}
"""
LAYER = """\
  - {{name: model.layers.{0}.self_attn.q_proj.weight, shape: [512, 512], dtype: BF16,
     scheme: TRUNC_NORMAL, std: 0.02, a: -0.04, b: 0.04}}
  - {{name: model.layers.{0}.mlp.down_proj.weight, shape: [512, 1408], dtype: BF16,
     scheme: KAIMING_UNIFORM}}
  - {{name: model.layers.{0}.input_layernorm.weight, shape: [512], dtype: BF16, scheme: ONES}}
"""
SMALL = """\
seed: 7
tensors:
  - {name: fc.weight, shape: [64, 32], dtype: BF16, scheme: KAIMING_NORMAL, nonlinearity: RELU}
  - {name: fc.bias, shape: [64], dtype: BF16, scheme: ZEROS}
"""
WRONG = """\
tensors:
  - {name: fc.weight, shape: [64, 32], dtype: BF17, scheme: KAIMING_NORML}
  - {name: fc.weight, shape: [64], scheme: ZEROS}
  - {name: fc.bias, shape: [-64], scheme: ZEROS}
"""


@dataclass(frozen=True)
class Scenes:
    """The calls of one command that are shown; SERVER stands for a server's address.

    Attributes:
        help: prints its help.
        successes: calls that end well. `| head -n N` shows the first N lines.
        mistakes: typical mistakes, which end with another exit status.
        runs: a call that goes on until a signal ends it.
        needs: whether this machine has what the successes, and `runs`, need.
    """

    help: str
    successes: Sequence[str] = ()
    mistakes: Sequence[str] = ()
    runs: str | None = None
    needs: Callable[[], bool] = lambda: True

    def all(self) -> list[str]:
        """The calls in the order in which they are shown."""
        return [self.help, *self.successes, *self.mistakes, *([self.runs] if self.runs else ())]

    def here(self) -> list[bool]:
        """For each call, whether this machine has what it needs."""
        works = {*self.successes, self.runs} if not self.needs() else {None}
        return [call not in works for call in self.all()]


def can_mount() -> bool:
    """Whether `initclient mount` works here."""
    return not missing()


SCENES = {
    "initclient": Scenes("--help", ["--version"], ["fetsh plan.yaml"]),
    "fetch": Scenes(
        "fetch --help",
        ["fetch plan.yaml --out init.safetensors"],
        [
            "fetch plan.yaml",
            "fetch wrong.yaml --out x.safetensors",
            "fetch plan.yaml --out x.safetensors --target 127.0.0.1:1 --attempts 1",
            "fetch plan.yaml --out -",
        ],
    ),
    "describe": Scenes("describe --help", ["describe llama.yaml"], ["describe lama.yaml"]),
    "verify": Scenes(
        "verify --help",
        ["verify init.safetensors plan.yaml"],
        ["verify init.safetensors plan.yaml --seed 8"],
    ),
    "models": Scenes("models --help", ["models --target SERVER"], ["models"]),
    "recipes": Scenes("recipes --help", ["recipes he"], ["recipes gtp2"]),
    "plan": Scenes(
        "plan --help",
        ["plan trained.safetensors --recipe gpt2 --out gpt2.yaml"],
        ["plan trained.safetensors"],
    ),
    "diff": Scenes("diff --help", ["diff plan.yaml plan.yaml"], ["diff plan.yaml wrong.yaml"]),
    "plot": Scenes(
        "plot --help", ["plot plan.yaml -o report.html"], ["plot plan.yaml -o x --model m:f"]
    ),
    "mount": Scenes(
        "mount --help",
        mistakes=["mount plan.yaml .", "mount plan.yaml none/at"],
        runs="mount plan.yaml weights",
        needs=can_mount,
    ),
    "info": Scenes("info --help", ["info SERVER"], ["info"]),
    "completion": Scenes(
        "completion --help",
        ["completion bash | head -n 1"],
        ["completion fish"],
        needs=lambda: find_spec("shtab") is not None,
    ),
    "initserver": Scenes(
        "--help",
        mistakes=["--listen 127.0.0.1", "--threads 0"],
        runs="--listen 127.0.0.1:0",
    ),
}
PROGRAMS = {"initserver": "initserver"}
# What the calls that go on write when they are ready for the signal.
READY = re.compile(rb"(listening at|; Ctrl-C unmounts).*\n$", re.DOTALL)

# Runs the calls one after the other, as the console scripts do.
_DRIVER = """
import contextlib, io, json, os, sys
for program, line in json.loads(sys.argv[1]):
    print(f"$ {program} {line.replace(sys.argv[2], 'SERVER')}", flush=True)
    sys.argv[0] = program
    if program == "initserver":
        from initserver.cli import main
    else:
        from initclient.cli import main
    line, _, head = line.partition(" | head -n ")
    with contextlib.redirect_stdout(io.StringIO()) if head else contextlib.nullcontext() as text:
        try:
            status = main(line.split())
        except SystemExit as error:
            status = error.code
    if head:
        print(*text.getvalue().splitlines()[: int(head)], sep="\\n")
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        print(f"[exit status {status}]", flush=True)
    print(flush=True)
"""

_REPLACED = [
    (r"(?m)^\d\d:\d\d:\d\d ", "12:00:00 "),
    (r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:50051"),
    (r"\d+\.\d\d s \([^)]*/s\)", "0.01 s (1.0 MiB/s)"),
    (re.escape(initcore.__version__), "VERSION"),
    (r"GENERATED by .*shtab\S*", "GENERATED by shtab"),
    # What some releases of libfuse say of a default of their own.
    (r"Ignoring invalid max threads value .*\n", ""),
]


def captures(width: int) -> dict[str, str]:
    """What each command shows on a terminal of a width: text by command."""
    with _folder() as folder, _server() as address:
        calls, names = [], []
        found = dict.fromkeys(SCENES, "")
        running = {}
        for command, scenes in SCENES.items():
            program = PROGRAMS.get(command, "initclient")
            for line, is_here in zip(scenes.all(), scenes.here(), strict=True):
                if is_here and line == scenes.runs:
                    running[command] = f"{program} {line}"
                elif is_here:
                    calls.append((program, line.replace("SERVER", address)))
                    names.append(command)
        seen = _run(folder, width, [sys.executable, "-c", _DRIVER, json.dumps(calls), address])
        ran = {
            command: screen(_run(folder, width, [sys.executable, "-m", *line.split()], READY))
            for command, line in running.items()
        }
    shown = screen(seen)
    parts = re.split(r"^(?=\$ init)", shown, flags=re.MULTILINE)[1:]
    assert len(parts) == len(calls), shown
    for name, part in zip(names, parts, strict=True):
        found[name] += part
    for command, line in running.items():
        found[command] += f"$ {line}\n{ran[command]}"
    return {name: wrapped(text, width) for name, text in found.items()}


def screen(written: str) -> str:
    """What is left on a terminal without an edge: carriage returns, erased lines, cursor up."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\s\S]", written):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b"):
            number = int(token[2:-1]) if token[2:-1].isdecimal() else 1
            if token.endswith("A"):
                row = max(row - number, 0)
            elif token.endswith("K"):
                lines[row] = "" if token == "\x1b[2K" else lines[row][:column]
        else:
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + token + line[column + 1 :], column + 1
    return "\n".join(line.rstrip() for line in lines)


def wrapped(text: str, width: int) -> str:
    """The text as a terminal of this width shows it, with what depends on the machine replaced."""
    for pattern, instead in _REPLACED:
        text = re.sub(pattern, instead, text)
    lines = []
    for line in text.rstrip("\n").split("\n"):
        lines += [line[at : at + width] for at in range(0, len(line), width)] or [""]
    return "\n".join(lines) + "\n"


def _run(
    folder: Path, width: int, command: list[str], until: re.Pattern[bytes] | None = None
) -> str:
    """What a command writes to a terminal of this width; SIGTERM ends it once it wrote `until`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=_environment()
    )
    os.close(theirs)
    data = b""
    try:
        while True:
            try:
                read = os.read(ours, 1 << 16)
            except OSError:  # the other side is closed
                break
            if not read:
                break
            data += read
            if until is not None and until.search(data):
                process.terminate()
                until = None
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return data.decode()


def _environment() -> Mapping[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INITSERVE_", "COLUMNS"))}
    return {
        **kept,
        "INITSERVE_BACKEND": "numpy",
        "TERM": "xterm-256color",
        "NO_COLOR": "1",
        "PYTHON_COLORS": "0",
        "PYTHONUTF8": "1",
    }


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = "".join(LAYER.format(number) for number in range(16))
        (folder / "llama.yaml").write_text(LLAMA + layers)
        (folder / "plan.yaml").write_text(SMALL)
        (folder / "wrong.yaml").write_text(WRONG)
        weights = {"h.0.attn.c_proj.weight": np.ones((8, 8), np.float32)}
        save_file(weights, folder / "trained.safetensors")
        yield folder


@contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        model = Path(name, "acme", "small")
        model.mkdir(parents=True)
        model.joinpath("plan.yaml").write_text(SMALL)
        config = ServerConfig(
            listen="127.0.0.1:0",
            backend="numpy",
            models=name,
            threads=2,
            grace=5,
            limits=Limits(),
        )
        with Server(config) as server:
            yield server.address


def main() -> None:
    """Writes all captures."""
    if missing := [command for command, scenes in SCENES.items() if not scenes.needs()]:
        sys.exit(f"no captures were written: this machine lacks what {missing} need")
    for width in WIDTHS:
        folder = FOLDER / str(width)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for command, text in captures(width).items():
            (folder / f"{command}.txt").write_text(text)


if __name__ == "__main__":
    main()
