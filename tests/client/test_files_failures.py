"""No space, no permission, no server: a clear error, and no file under the final name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initclient._files import partial_file
from initclient._files.atomic import create
from initclient._files.outputs import PART

from tests.client.processes import running
from tests.client.proxies import Mischief, proxied

PLAN = ic.Plan({f"w{n}": ic.constant((700_001,), n, dtype="float64") for n in range(5)})
HUGE = ic.Plan({"w": ic.normal((1 << 24, 1 << 24))})
ONCE = ic.Retry(attempts=1)


def run(script: str, *arguments: object) -> str:
    """The error output of a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.parametrize("shard_size", [None, "100TB"])
def test_a_full_disk_is_found_before_the_work(
    shard_size: str | None, source: str, tmp_path: Path
) -> None:
    def progress(done: int, total: int) -> None:
        raise AssertionError("work was done")

    path = tmp_path / "x"
    with pytest.raises(OSError, match=r"no space for .*x: it needs \d+ bytes more") as caught:
        ic.fetch_file(HUGE, path, target=source, progress=progress, shard_size=shard_size)
    assert caught.value.errno == errno.ENOSPC
    assert [*tmp_path.iterdir()] == []


def test_shards_together_must_fit(tmp_path: Path) -> None:
    """Each file fits on the disk, but not all of them."""
    free = shutil.disk_usage(tmp_path).free
    plan = ic.Plan({f"w{n}": ic.zeros((free // 30, 2), dtype="U8") for n in range(20)})
    with pytest.raises(OSError, match="no space"):
        ic.fetch_file(plan, tmp_path / "x", target="local", shard_size=free // 10)
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk_that_is_full(small_disk: Path) -> None:
    with pytest.raises(OSError, match="no space"):
        ic.fetch_file(PLAN, small_disk / "x", target="local")
    assert [*small_disk.iterdir()] == []
    (small_disk / "ballast").write_bytes(bytes(12 << 20))
    fits = ic.Plan({"w": ic.ones((1 << 20,))})
    with pytest.raises(OSError, match="no space"):
        ic.fetch_file(fits, small_disk / "x", target="local")
    (small_disk / "ballast").unlink()
    ic.fetch_file(fits, small_disk / "x", target="local")
    assert [path.name for path in small_disk.iterdir()] == ["x"]


LIMITED = """
import resource, sys, initclient as ic
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
ic.fetch_file(sys.argv[1], sys.argv[2], target="local")
"""

LIMITED_LATER = """
import resource, sys, initclient as ic
def progress(done, total):
    resource.setrlimit(resource.RLIMIT_FSIZE, (17 << 20, 17 << 20))
ic.fetch_file(sys.argv[1], sys.argv[2], target="local", progress=progress)
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    path = tmp_path / "out" / "x"
    path.parent.mkdir()
    told = run(LIMITED, tmp_path / "plan.yaml", path)
    assert "cannot allocate 28000" in told
    assert "File too large" in told
    assert [*path.parent.iterdir()] == []
    told = run(LIMITED_LATER, tmp_path / "plan.yaml", path)
    assert "File too large" in told
    assert "The same fetch resumes there" in told
    assert not path.exists()
    here = ic.fetch_file(PLAN, tmp_path / "here", target="local", resume=False)
    assert ic.fetch_file(PLAN, path, target="local").read_bytes() == here.read_bytes()


READ_ONLY = """
import os, sys, initclient as ic
from initcore.backends import load
load("numpy")
if os.geteuid() == 0:
    os.seteuid(65534)
ic.fetch_file({"w": ic.ones((3,))}, sys.argv[1], target="local")
"""


def test_a_read_only_folder() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o555)
        told = run(READ_ONLY, folder / "x")
        assert "PermissionError" in told
        assert f"x cannot be written in this folder: Permission denied: '{folder}'" in told
        assert [*folder.iterdir()] == []
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_server_that_vanishes_and_another_that_ends_the_work(target: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    with running(1, backend="numpy") as (server,):

        def progress(done: int, total: int) -> None:
            if done > total // 2 and not server.kills:
                server.kill()

        with pytest.raises(ic.TransportError) as caught:
            ic.fetch_file(PLAN, path, target=server.address, retry=ONCE, progress=progress)
    assert "The same fetch resumes there" in caught.value.__notes__[0]
    assert not path.exists()
    there = ic.fetch_file(PLAN, path, target=target)
    assert there.read_bytes() == ic.fetch_file(PLAN, tmp_path / "y", target="local").read_bytes()
    assert {*tmp_path.iterdir()} == {path, tmp_path / "y"}


def test_the_command_says_what_is_kept(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from initclient.cli import main

    # Far more than a connection can hold that breaks before the client has read it.
    plan = {f"w{n}": ic.constant((700_001,), n, dtype="float64") for n in range(11)}
    ic.dump_plan(ic.Plan(plan), tmp_path / "plan.yaml")
    out = tmp_path / "x"
    arguments = ["fetch", str(tmp_path / "plan.yaml"), "--out", str(out), "--attempts", "1"]
    with proxied(target, [Mischief("cut", 52 << 20)] * 9) as proxy:
        assert main([*arguments, "--target", proxy.address]) == 1
    error, note = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("initclient: error: ")
    assert f"{out}{PART}" in note
    assert main([*arguments, "--target", target]) == 0
    assert not out.with_name(f"x{PART}").exists()


@pytest.mark.parametrize("resume", [True, False])
def test_a_signal_right_after_a_file_was_created_leaves_nothing(
    resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler's exception comes before the file's descriptor is noted."""

    def interrupted(*arguments: Any) -> int:
        os.close(create(*arguments))
        raise SystemExit(143)

    monkeypatch.setattr(partial_file, "create", interrupted)
    with pytest.raises(SystemExit):
        ic.fetch_file(PLAN, tmp_path / "x", target="local", resume=resume)
    assert [*tmp_path.iterdir()] == []
