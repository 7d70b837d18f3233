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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import initcore
import numpy as np
from initserver import Limits, Server, ServerConfig
from safetensors.numpy import save_file

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

# By the command: each line is one call; SERVER stands for a server's address.
SCENES = {
    "initclient": ["--help", "--version", "fetsh plan.yaml"],
    "fetch": [
        "fetch --help",
        "fetch plan.yaml --out init.safetensors",
        "fetch plan.yaml",
        "fetch wrong.yaml --out x.safetensors",
        "fetch plan.yaml --out x.safetensors --target 127.0.0.1:1 --attempts 1",
        "fetch plan.yaml --out -",
    ],
    "describe": ["describe --help", "describe llama.yaml", "describe lama.yaml"],
    "verify": [
        "verify --help",
        "verify init.safetensors plan.yaml",
        "verify init.safetensors plan.yaml --seed 8",
    ],
    "models": ["models --help", "models --target SERVER", "models"],
    "recipes": ["recipes --help", "recipes he", "recipes gtp2"],
    "plan": [
        "plan --help",
        "plan trained.safetensors --recipe gpt2 --out gpt2.yaml",
        "plan trained.safetensors",
    ],
    "diff": ["diff --help", "diff plan.yaml plan.yaml", "diff plan.yaml wrong.yaml"],
    "plot": [
        "plot --help",
        "plot plan.yaml -o report.html",
        "plot plan.yaml -o x --model m:f",
    ],
    "mount": ["mount --help", "mount plan.yaml .", "mount plan.yaml none/at"],
    "info": ["info --help", "info SERVER", "info"],
    "completion": ["completion --help", "completion fish"],
    "initserver": ["--help", "--listen 127.0.0.1", "--threads 0"],
}
PROGRAMS = {"initserver": "initserver"}

# Runs the calls one after the other, as the console scripts do.
_DRIVER = """
import json, os, sys
for program, line in json.loads(sys.argv[1]):
    print(f"$ {program} {line.replace(sys.argv[2], 'SERVER')}", flush=True)
    sys.argv[0] = program
    if program == "initserver":
        from initserver.cli import main
    else:
        from initclient.cli import main
    try:
        status = main(line.split())
    except SystemExit as error:
        status = error.code
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
]


def captures(width: int) -> dict[str, str]:
    """What each command shows on a terminal of a width: text by command."""
    with _folder() as folder, _server() as address:
        calls, names = [], []
        for command, lines in SCENES.items():
            program = PROGRAMS.get(command, "initclient")
            calls += [(program, line.replace("SERVER", address)) for line in lines]
            names += [command] * len(lines)
        seen = _run(folder, width, [sys.executable, "-c", _DRIVER, json.dumps(calls), address])
        serve = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0"]
        served = screen(_run(folder, width, serve, b"listening at"))
    shown = screen(seen)
    parts = re.split(r"^(?=\$ init)", shown, flags=re.MULTILINE)[1:]
    assert len(parts) == len(calls), shown
    found = dict.fromkeys(SCENES, "")
    for name, part in zip(names, parts, strict=True):
        found[name] += part
    found["initserver"] += f"$ initserver --listen 127.0.0.1:0\n{served}"
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


def _run(folder: Path, width: int, command: list[str], until: bytes | None = None) -> str:
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
            if until is not None and until in data and data.endswith(b"\n"):
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
    for width in WIDTHS:
        folder = FOLDER / str(width)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for command, text in captures(width).items():
            (folder / f"{command}.txt").write_text(text)


if __name__ == "__main__":
    main()
