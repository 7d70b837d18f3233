"""progress=True: a bar on a terminal, an element in a notebook, lines in a log."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient._machine import progress as _progress

PLAN = ic.Plan({"w": ic.normal((512, 1024)), "b": ic.zeros((512,))}, 7)

Capture = pytest.CaptureFixture[str]


def calls(folder: Path) -> dict[str, Callable[[Any, Any], Any]]:
    """Every call that takes progress, by its title: with a source and a progress."""
    held = ic.fetch(PLAN, target="local")
    return {
        "weights": lambda source, progress: ic.fetch(PLAN, target=source, progress=progress),
        "x.safetensors": lambda source, progress: ic.fetch_file(
            PLAN, folder / "x.safetensors", target=source, progress=progress
        ),
        "verify": lambda source, progress: ic.verify(held, PLAN, target=source, progress=progress),
        "fingerprints": lambda source, progress: ic.describe(
            PLAN, target=source, fingerprints=True, progress=progress
        ),
        "report.html": lambda _, progress: ic.plot(PLAN, folder / "report.html", progress=progress),
    }


def test_a_log_has_lines_with_bytes_share_and_speed(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_progress, "_LINES", 0.0)
    for title, call in calls(tmp_path).items():
        capsys.readouterr()
        call(source, True)
        told = capsys.readouterr()
        assert told.out == "", title
        last = told.err.splitlines()[-1]
        assert last.startswith(f"{title}: "), title
        assert " (100 %), " in last, title
        assert last.endswith("B/s"), title


def test_a_call_that_is_soon_done_writes_nothing_to_a_log(
    source: str, tmp_path: Path, capsys: Capture
) -> None:
    for call in calls(tmp_path).values():
        call(source, True)
        call(source, False)
    assert capsys.readouterr().err == ""


def test_another_value_is_refused_before_anything_is_done(source: str, tmp_path: Path) -> None:
    for call in calls(tmp_path).values():
        with pytest.raises(TypeError, match="progress is 'yes'; give True for a bar, or a func"):
            call(source, "yes")
    assert not [*tmp_path.iterdir()]


def test_asyncio_has_it_too(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_progress, "_LINES", 0.0)

    async def fetch() -> None:
        await aio.fetch(PLAN, target=source, progress=True)
        await aio.fetch_file(PLAN, tmp_path / "y.safetensors", target=source, progress=True)
        await aio.describe(PLAN, target=source, fingerprints=True, progress=True)

    asyncio.run(fetch())
    told = capsys.readouterr().err
    for title in ("weights", "y.safetensors", "fingerprints"):
        assert f"{title}: " in told


def test_clients_hand_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_progress, "_LINES", 0.0)
    local = ic.Local(backend="numpy")
    local.verify(local.fetch(PLAN, progress=True), PLAN, progress=True)
    told = capsys.readouterr().err
    assert "weights: " in told
    assert "verify: " in told


ON_TERMINAL = """
import sys
import initclient as ic
plan = {"w": ic.normal((512, 1024))}
ic.fetch(plan, target="local", progress=True)
print("fetched", file=sys.stderr)
"""


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "\u2501"), ("ascii", "-")])
def test_a_terminal_has_a_bar_that_is_gone_at_the_end(encoding: str, mark: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen([sys.executable, "-c", ON_TERMINAL], stderr=theirs, env=environment)
    os.close(theirs)
    data = b""
    while True:
        try:
            read = os.read(ours, 1 << 16)
        except OSError:
            break
        data += read
        if not read:
            break
    assert process.wait(60) == 0
    os.close(ours)
    text = data.decode(encoding)
    bar = next(line for line in text.splitlines() if "weights" in line)
    assert mark in bar
    # It fits: a longer line would leave its end behind.
    plain = "".join(part.partition("m")[2] for part in f"\x1b[m{bar}".split("\x1b["))
    assert len(plain.rstrip()) <= 60
    assert text.rstrip().endswith("fetched")
    # Erased before what follows.
    assert "\x1b[2K" in text[text.rindex("weights") :]


NOTEBOOK = """
import initclient as ic
ic.fetch({"w<b>": ic.normal((512, 1024))}, target="local", progress=True)["w<b>"].shape
"""


def test_a_notebook_has_an_element_that_says_what_was_done() -> None:
    pytest.importorskip("ipykernel", reason="no ipykernel, which the extra test brings")
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    displayed: list[dict[str, Any]] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("display_data", "update_display_data", "error"):
            displayed.append(message)

    try:
        client.execute_interactive(NOTEBOOK, timeout=60, output_hook=take)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in displayed]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    texts = [message["content"]["data"]["text/html"] for message in displayed]
    assert "<progress " in texts[0]
    assert texts[-1].startswith("<span>weights: 2.0 MiB of 2.0 MiB (100 %), ")


def test_what_was_there_before_counts_for_no_speed() -> None:
    pace = _progress._Pace(0.0)
    pace.is_due(1 << 30)
    assert pace.text(1 << 30, 1 << 31).endswith(" (50 %), 0 B/s")


def test_the_first_line_of_a_log_counts_all_that_was_done_before_it() -> None:
    pace = _progress._Pace(1e9)
    for done in range(0, 1 << 30, 1 << 28):
        assert not pace.is_due(done)
    assert not pace.text(1 << 30, 1 << 31).endswith(", 0 B/s")


def test_a_function_is_called_as_before(source: str) -> None:
    seen: list[tuple[int, int]] = []
    weights = ic.fetch(PLAN, target=source, progress=lambda *now: seen.append(now))
    assert seen[-1][0] == seen[-1][1]
    assert np.all(weights["b"] == 0)
