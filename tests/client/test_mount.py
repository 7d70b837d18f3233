"""initclient mount: a folder whose weights are computed, or fetched, when they are read."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initclient._commands._mount import Tree, files_beside, mounting, tree_of
from initclient._commands._mount.operations import Operations
from initclient._source import make_request, source_of
from initclient.cli import main
from safetensors.numpy import load_file

from tests.client.processes import running
from tests.mounts import missing

MIB = 1 << 20
PLAN = ic.Plan(
    {
        "embedding": ic.normal((3000, 1024), std=0.02),
        "norm": ic.ones((1024,)),
        "head": ic.xavier_uniform((1024, 1500), dtype="BF16"),
        "square": ic.orthogonal((64, 64)),
    },
    seed=7,
)


def a_tree(folder: Path, target: str = "local", shard_size: int = sys.maxsize) -> Tree:
    request = make_request(PLAN, None, source_of(target))
    return tree_of(request, folder, shard_size=shard_size, cache=32 * MIB, beside={})


class Breaking:
    """A file that cannot be read at some offsets."""

    size = 100

    def read(self, offset: int, length: int) -> bytes:
        if offset >= 50:
            raise OSError(f"no server for {offset}")
        return bytes(length)


@pytest.mark.parametrize("shard_size", [sys.maxsize, 8_000_000])
def test_the_files_are_those_of_fetch_file(tmp_path: Path, source: str, shard_size: int) -> None:
    tree = a_tree(tmp_path, source, shard_size)
    path = ic.fetch_file(PLAN, tmp_path / "model", shard_size=shard_size, target="local")
    expected = {file.name: file.read_bytes() for file in path.iterdir()}
    assert {name: file.read(0, file.size) for name, file in tree.files.items()} == expected
    assert {name: file.size for name, file in tree.files.items()} == {
        name: len(content) for name, content in expected.items()
    }


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, bytes]:
    folder = tmp_path_factory.mktemp("one")
    tree = a_tree(folder)
    path = ic.fetch_file(PLAN, folder / "model", shard_size="1TB", target="local")
    return tree, (path / "model.safetensors").read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_range_is_that_of_the_file(one_file: tuple[Tree, bytes], data: st.DataObject) -> None:
    tree, expected = one_file
    file = tree.files["model.safetensors"]
    offset = data.draw(st.integers(0, len(expected) + 10))
    length = data.draw(st.sampled_from([0, 1, 7, 4096, MIB, 9 * MIB]))
    assert file.read(offset, length) == expected[offset : offset + length]


def test_a_file_that_grows_keeps_its_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with files_beside(tmp_path) as beside:
        (tmp_path / "config.json").write_text("{} and more")
        config = beside["config.json"]
        assert (config.size, config.read(0, 99), config.read(1, 99)) == (2, b"{}", b"}")


def test_a_folder_of_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ValueError, match="has more than 1000 files"), files_beside(tmp_path):
        pass


def test_no_file_beside_hides_a_file_of_weights(tmp_path: Path) -> None:
    request = make_request(PLAN, None, source_of("local"))
    beside = {"model.safetensors": Breaking()}
    with pytest.raises(ValueError, match=r"holds model\.safetensors, and so does the mounted one"):
        tree_of(request, tmp_path, cache=32 * MIB, beside=beside)


def test_the_files_beside_the_plan_are_shown_and_others_refused(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    (folder / "onnx").mkdir(parents=True)
    (folder / "..data").mkdir()
    (folder / "..data" / "config.json").write_text("{}")
    (folder / "config.json").symlink_to("..data/config.json")
    (folder / "onnx" / "notes.txt").write_text("notes")
    (folder / ".hidden").write_text("")
    ic.dump_plan(PLAN, folder / "plan.yaml")
    with files_beside(folder) as beside:
        request = make_request(PLAN, None, source_of("local"))
        tree = tree_of(request, tmp_path, cache=32 * MIB, beside=beside)
        assert sorted(tree.files) == ["config.json", "model.safetensors", "onnx/notes.txt"]
        assert tree.names("") == ["config.json", "model.safetensors", "onnx"]
        assert tree.names("onnx") == ["notes.txt"]
        assert tree.files["config.json"].read(0, 99) == b"{}"
        assert tree.files["onnx/notes.txt"].read(2, 2) == b"te"
        assert tree.files["onnx/notes.txt"].read(9, 2) == b""
    (folder / "model.safetensors").write_bytes(b"")
    with (
        pytest.raises(ValueError, match=r"holds the weights model\.safetensors"),
        files_beside(folder),
    ):
        pass
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match="not a regular file"), files_beside(folder):
        pass


def test_a_call_that_would_write_and_a_path_that_is_not_there_fail(tmp_path: Path) -> None:
    calls = Operations(a_tree(tmp_path), lambda: None, pytest.fail)
    for call, code in [
        (lambda: calls.open("/model.safetensors", os.O_RDWR), errno.EROFS),
        (lambda: calls.open("/", os.O_RDONLY), errno.EISDIR),
        (lambda: calls.getattr("/none"), errno.ENOENT),
        (lambda: calls.readdir("/none", 0), errno.ENOENT),
        (lambda: calls.read("/none", 1, 0, 0), errno.ENOENT),
    ]:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is compared
            call()
        assert caught.value.errno == code


def test_the_kernel_gets_the_size_of_all_files(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    found = Operations(tree, lambda: None, pytest.fail).statfs("/")
    assert 0 <= found["f_blocks"] * found["f_frsize"] - tree.size < found["f_frsize"]


def test_a_lost_server_is_an_input_error_said_once(tmp_path: Path) -> None:
    reports: list[str] = []
    retry = ic.Retry(attempts=1, patience=0)
    request = make_request(PLAN, None, source_of("127.0.0.1:1", retry=retry))
    tree = tree_of(request, tmp_path, cache=32 * MIB, beside={})
    calls = Operations(tree, lambda: None, reports.append)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            calls.read("/model.safetensors", 4096, MIB, 0)
    assert len(reports) == 1
    assert reports[0].startswith("cannot read model.safetensors: ")
    assert "127.0.0.1:1" in reports[0]


def test_a_failure_is_said_again_after_a_read_that_succeeded_and_another_at_once() -> None:
    reports: list[str] = []
    calls = Operations(Tree({"model.safetensors": Breaking()}), lambda: None, reports.append)
    for offset in (60, 60, 70, 0, 70):
        with suppress(OSError):
            calls.read("/model.safetensors", 4, offset, 0)
    assert reports == [f"cannot read model.safetensors: no server for {n}" for n in (60, 70, 70)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text(""), "is not a folder"),
        (lambda path: (path.mkdir(), (path / "a").write_text("")), "is not empty"),
    ],
)
def test_only_an_empty_folder_is_a_mount_point(
    make: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "at")  # type: ignore[operator]
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    assert main(["mount", str(tmp_path / "plan.yaml"), str(tmp_path / "at")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model", "model 7", "mod\u00e8le", "\u6a21\u578b", "a\\040b"])
def test_a_mount_is_found_at_any_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tmp_path / name
    at.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    written = os.fsencode(at).replace(b"\\", rb"\134").replace(b" ", rb"\040")
    lines = [
        b"36 35 98:0 / /\xff\xe6\xa8 rw - ext4 /dev/sda rw",
        b"37 35 98:0 / %s rw,noatime shared:1 - tmpfs tmpfs rw" % written,
        b"38 35 0:52 / %s rw,nosuid master:1 shared:2 - fuse.initserve initserve rw" % written,
    ]
    (tmp_path / "mountinfo").write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setattr(mounting, "_MOUNTS", tmp_path / "mountinfo")
    assert mounting._kind_at(at) == "fuse.initserve"
    assert mounting._kind_at(tmp_path / "link" / name) == "fuse.initserve"
    assert mounting._kind_at(tmp_path / "link") == ""


def test_a_mount_point_without_a_parent_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    assert main(["mount", str(tmp_path / "plan.yaml"), str(tmp_path / "no" / "at")]) == 1
    assert f"make it: mkdir -p {tmp_path / 'no'}" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="no /sys, where no folder can be made")
def test_a_mount_point_that_cannot_be_made_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    assert main(["mount", str(tmp_path / "plan.yaml"), "/sys/kernel/initserve"]) == 1
    error = capsys.readouterr().err
    assert "/sys/kernel/initserve: " in error
    assert "No such file" not in error


def test_a_folder_without_a_plan_and_a_wrong_size_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mount", str(tmp_path), str(tmp_path / "at")]) == 2
    assert "has no plan.yaml" in capsys.readouterr().err
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    plan = str(tmp_path / "plan.yaml")
    assert main(["mount", plan, str(tmp_path / "at"), "--cache", "much"]) == 2
    assert "cache is 'much'" in capsys.readouterr().err


# From here on with the kernel.

mounts = pytest.mark.skipif(bool(missing()), reason=f"cannot mount here: no {missing()}")


@contextmanager
def mounted(at: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "initclient", "mount", *arguments[:1], str(at), *arguments[1:]]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout
        assert process.stdout.readline().startswith(f"mounted {at}: "), process.stderr.read()  # type: ignore[union-attr]
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def plan(tmp_path: Path) -> str:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    return str(tmp_path / "plan.yaml")


@pytest.fixture
def target_elsewhere() -> Iterator[str]:
    """A server in a process of its own: a page fault holds this one's interpreter meanwhile."""
    with running(1) as (server,):
        yield server.address


@mounts
@pytest.mark.parametrize("place", ["local", "server"])
def test_a_mounted_file_reads_and_maps_as_the_file(
    place: str, plan: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    at = tmp_path / "at"
    target = "local" if place == "local" else request.getfixturevalue("target_elsewhere")
    with mounted(at, plan, "--target", target) as process:
        expected = ic.fetch(PLAN, target="local")
        found = load_file(at / "model.safetensors")
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: np.asarray(array).tobytes() for name, array in expected.items()
        }
        mapped = np.memmap(at / "model.safetensors", dtype=np.uint8, mode="r")
        assert mapped.tobytes() == (at / "model.safetensors").read_bytes()
        with pytest.raises(OSError, match="Read-only"):
            (at / "new").write_text("")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr
        assert process.stderr.read() == ""
    assert os.listdir(at) == []


@mounts
def test_shards_and_an_index_are_mounted(plan: str, tmp_path: Path) -> None:
    at = tmp_path / "at"
    with mounted(at, plan, "--shard-size", "8MB"):
        index = json.loads((at / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"].values()) == {
            name for name in os.listdir(at) if name.endswith(".safetensors")
        }
        assert os.statvfs(at).f_blocks * 4096 >= sum(file.stat().st_size for file in at.iterdir())


@mounts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_unmount(number: signal.Signals, plan: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "at", plan) as process:
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not os.path.ismount(tmp_path / "at")


@mounts
def test_a_mount_whose_process_was_killed_is_replaced(plan: str, tmp_path: Path) -> None:
    at = tmp_path / "at"
    with mounted(at, plan) as process:
        process.kill()
        process.wait(60)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(at)
    with mounted(at, plan):
        assert os.listdir(at) == ["model.safetensors"]


@mounts
def test_reading_goes_on_when_a_killed_server_is_back(plan: str, tmp_path: Path) -> None:
    with (
        running(1) as (server,),
        mounted(tmp_path / "at", plan, "--target", server.address, "--attempts", "1") as process,
    ):
        path = tmp_path / "at" / "model.safetensors"
        server.kill()
        with pytest.raises(OSError, match="Input/output error"):
            path.read_bytes()
        server.start()
        server.wait()
        path_here = ic.fetch_file(PLAN, tmp_path / "here", shard_size="1TB", target="local")
        assert path.read_bytes() == (path_here / "model.safetensors").read_bytes()
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert "cannot read model.safetensors" in errors
