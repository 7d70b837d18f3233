"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initclient._files.atomic import replacing
from initcore import VirtualFile

PLAN = ic.Plan({"w": ic.normal((3000, 1000))}, seed=1)


def test_nothing_is_at_the_path_until_everything_is(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with replacing(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing_behind(error: type[BaseException], tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "out") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_of_computing_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = VirtualFile.read

    def broken(file: VirtualFile, offset: int, length: int) -> memoryview:
        if offset:
            raise MemoryError
        return read(file, offset, length)

    monkeypatch.setattr(VirtualFile, "read", broken)
    with pytest.raises(MemoryError):
        ic.fetch_file(PLAN, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(MemoryError):
        ic.fetch_file(PLAN, tmp_path / "another", resume=False)
    assert not any("another" in path.name for path in tmp_path.iterdir())


def test_links_are_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_the_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with replacing(tmp_path / "out"):
        pass
    assert os.stat(tmp_path / "out").st_mode == os.stat(tmp_path / "plain").st_mode


def test_folders_and_devices_are_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a directory"):
        ic.fetch_file(PLAN, tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        ic.fetch_file(PLAN, os.devnull)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ic.fetch_file(PLAN, tmp_path / "nowhere" / "out")


def test_every_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is synced to disk before the rename, so that a power cut leaves no torn file."""
    dirty: dict[int, bool] = {}
    fsync, pwrite, replace = os.fsync, os.pwrite, os.replace

    def written(descriptor: int, *rest: Any) -> int:
        dirty[os.fstat(descriptor).st_ino] = True
        return pwrite(descriptor, *rest)

    def synced(descriptor: int) -> None:
        dirty[os.fstat(descriptor).st_ino] = False
        fsync(descriptor)

    def named(source: Any, final: Any, **rest: Any) -> None:
        found = os.stat(source, dir_fd=rest.get("src_dir_fd"))
        assert not dirty.get(found.st_ino), f"{source} is not on the disk"
        replace(source, final, **rest)

    monkeypatch.setattr(os, "pwrite", written)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    plan = ic.Plan({f"w{n}": ic.uniform((1_200_000,), dtype="float64") for n in range(3)})
    ic.fetch_file(plan, tmp_path / "one", target="local")
    ic.fetch_file(plan, tmp_path / "several", target="local", shard_size="10MB")
    assert len(dirty) >= 4


# Files of this process may have 64 KiB: the write ends as on a full disk.
FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
from initclient.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["plot {plan} -o {out}", "plan {file} --recipe gpt2 -o {out}"])
def test_a_page_and_a_plan_that_do_not_fit_leave_the_old_file_and_name_it(
    tmp_path: Path, command: str
) -> None:
    names = {f"h.{i}.attn.with.a.long.name.c_proj.weight": ic.zeros((2, 2)) for i in range(1000)}
    plan, folder = tmp_path / "plan.yaml", tmp_path / "out"
    ic.dump_plan(names, plan)
    file = ic.fetch_file(names, tmp_path / "x.safetensors", target="local")
    folder.mkdir()
    out = folder / "out"
    out.write_text("old")
    arguments = command.format(plan=plan, file=file, out=out).split()
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"initclient: error: {out}: File too large" in done.stderr
    assert out.read_text() == "old"
    assert list(folder.iterdir()) == [out]
