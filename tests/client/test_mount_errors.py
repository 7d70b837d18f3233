"""initclient mount where it cannot mount: one message that says what is missing and what helps."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import initclient as ic
import pytest
from initclient._commands._mount import mounting
from initclient.cli import main

from tests.client.test_mount import mounted, mounts
from tests.mounts import EMPTY
from tests.server.processes import wait_for

PLAN = ic.Plan({"w": ic.normal((30, 20))}, seed=7)

# A file that only root may write to, on every system; and one that everybody may.
_FOR_ROOT, _FOR_ALL = "/etc/passwd", "/dev/null"

# Runs Python with these arguments and without CAP_SYS_ADMIN (21): drops it from the bounding set
# (prctl 24), and allows no new privileges (38).
_WITHOUT_THE_RIGHT = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl(24, 21, 0, 0, 0)
libc.prctl(38, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def plan(tmp_path: Path) -> str:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    return str(tmp_path / "plan.yaml")


@contextmanager
def another_user() -> Iterator[None]:
    """The body has the rights of a user other than root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_without_the_device_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "_DEVICE", str(tmp_path / "fuse"))
    words = rf"^there is no {tmp_path}/fuse: load .*modprobe fuse.*--device /dev/fuse"
    with pytest.raises(OSError, match=words):
        mounting.check_device()


def test_a_device_that_this_user_may_not_open_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mounting, "_DEVICE", _FOR_ROOT)
    words = rf"^{_FOR_ROOT} cannot be opened \(Permission denied\); give this user, or this"
    with another_user(), pytest.raises(OSError, match=words):
        mounting.check_device()


def test_a_user_other_than_root_needs_the_tool_that_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "_DEVICE", _FOR_ALL)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        another_user(),
        pytest.raises(OSError, match=r"^a user other than root .* fusermount3; .*install fuse3"),
    ):
        mounting.check_device()


def test_without_libfuse_the_message_names_the_package(plan: str, tmp_path: Path) -> None:
    # Not imported here: without libfuse, that fails.
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("no mfusepy, which the extra mount brings")
    run = subprocess.run(
        [sys.executable, "-m", "initclient", "mount", plan, str(tmp_path / "at")],
        env=os.environ | {"FUSE_LIBRARY_PATH": "/nowhere/libfuse3.so"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(
        "initclient: error: libfuse is not on this machine (/nowhere/libfuse3.so: "
    )
    assert line.endswith("such as `apt install fuse3`")


def test_without_mfusepy_the_message_says_how_to_install_it(
    plan: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    assert main(["mount", plan, str(tmp_path / "at")]) == 1
    error = capsys.readouterr().err
    assert "mfusepy" in error
    assert "pip install 'initserve[mount]'" in error


# From here on with the kernel.


@mounts
def test_where_the_system_allows_no_mount_the_message_of_libfuse_comes_first(
    plan: str, tmp_path: Path
) -> None:
    """As in a container that has the device and not the capability."""
    at = tmp_path / "at"
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_RIGHT, "-m", "initclient", "mount", plan, str(at)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (run.returncode, run.stdout) == (1, "")
    *words, line = run.stderr.splitlines()
    assert "Operation not permitted" in "".join(words)
    assert line == f"initclient: error: libfuse cannot mount at {at} (its message is above)"


@mounts
def test_a_folder_that_is_mounted_already_is_refused(
    plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = tmp_path / "at"
    with mounted(at, plan):
        assert main(["mount", plan, str(at)]) == 1
        assert os.listdir(at) == ["model.safetensors"]
    assert f"{at} is mounted already; unmount it first: fusermount3 -u {at}" in (
        capsys.readouterr().err
    )


@mounts
def test_a_dead_mount_of_another_program_is_left_to_its_owner(
    plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = tmp_path / "at"
    at.mkdir()
    with subprocess.Popen([sys.executable, "-c", EMPTY, str(at)]) as other:
        try:
            wait_for(lambda: os.path.ismount(at))
            other.kill()
            other.wait()
            with pytest.raises(OSError, match="not connected"):
                os.listdir(at)
            assert main(["mount", plan, str(at)]) == 1
        finally:
            other.kill()
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(["fusermount3", "-u", "-z", str(at)], check=True, timeout=30)
    assert f"the mount at {at} is dead (its process ended); unmount it first" in (
        capsys.readouterr().err
    )
    assert os.listdir(at) == []
