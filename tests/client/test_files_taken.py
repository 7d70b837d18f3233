"""A fetch publishes the file that it wrote, and no other that lies at its partial file's name."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import initclient as ic
import pytest
from initclient._files import hugging_face, journal, partial
from initclient._files.outputs import JOURNAL, PART, SHARD_PART, sibling_name

from tests.client.test_files_resume import (
    OTHER,
    PLAN,
    Cut,
    begin,
    beside,
    cut_after,
    digest,
    resumed,
)

pytestmark = pytest.mark.filterwarnings("ignore::initclient.PartialFileWarning")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(ic.fetch_file(PLAN, tmp_path_factory.mktemp("whole") / "x", target="local"))


@pytest.fixture(scope="module")
def expected_other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(ic.fetch_file(OTHER, tmp_path_factory.mktemp("whole") / "x", target="local"))


def meanwhile(path: Path, change: Callable[[], object], source: str = "local") -> OSError:
    """The error of a fetch during which something happens, once."""
    todo = [change]

    def progress(done: int, total: int) -> None:
        if todo:
            todo.pop()()

    with pytest.raises(OSError, match="fetch again") as caught:
        ic.fetch_file(PLAN, path, target=source, progress=progress)
    assert caught.value.errno == errno.ESTALE
    assert not hasattr(caught.value, "__notes__"), "nothing is kept"
    return caught.value


def test_a_partial_file_that_is_removed_is_an_error_and_leaves_nothing(
    source: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    error = meanwhile(path, beside(path)[0].unlink, source)
    assert error.filename == str(beside(path)[0])
    assert path.read_text() == "old"
    assert {*tmp_path.iterdir()} == {path}
    ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_partial_file_that_is_replaced_is_not_published(kind: str, tmp_path: Path) -> None:
    path, precious = tmp_path / "x", tmp_path / "precious"
    part, _ = beside(path)
    precious.write_text("precious")

    def replace() -> None:
        size = part.stat().st_size
        part.unlink()
        if kind == "file":
            part.touch()
            os.truncate(part, size)
        elif kind == "link":
            part.symlink_to(precious)
        else:
            part.mkdir()

    meanwhile(path, replace)
    assert not path.exists()
    assert precious.read_text() == "precious"
    assert {*tmp_path.iterdir()} == {part, precious}, "the other one stays, and the journal goes"


@pytest.mark.parametrize("size", [0, 12_345])
def test_a_partial_file_that_is_cut_is_not_published_with_a_hole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    meanwhile(path, lambda: os.truncate(beside(path)[0], size))
    assert {*tmp_path.iterdir()} == set()


def test_two_at_once_without_locks_never_mix(
    expected_other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system whose flock does nothing: the one that comes later wins."""
    monkeypatch.setattr(journal.fcntl, "flock", lambda descriptor, operation: None)
    path = tmp_path / "x"
    meanwhile(path, lambda: ic.fetch_file(OTHER, path, target="local"))
    assert digest(path) == expected_other
    assert {*tmp_path.iterdir()} == {path}


def test_a_line_of_an_earlier_fetch_without_locks_does_not_come_first(
    expected_other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of the fetch before records a block just when the journal is begun anew."""
    monkeypatch.setattr(journal.fcntl, "flock", lambda descriptor, operation: None)
    path = tmp_path / "x"
    truncate = os.ftruncate
    recorded: list[int] = []

    def and_record(descriptor: int, size: int) -> None:
        truncate(descriptor, size)
        if not recorded:
            recorded.append(os.write(descriptor, b"\n0 1 01234567\n"))

    def fetch_other() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "ftruncate", and_record)
            ic.fetch_file(OTHER, path, target="local")

    meanwhile(path, fetch_other)
    assert recorded
    assert digest(path) == expected_other
    assert {*tmp_path.iterdir()} == {path}


def test_a_journal_that_is_removed_is_an_error(tmp_path: Path) -> None:
    """Whoever comes next gets its lock, and writes the same files."""
    path = tmp_path / "x"
    error = meanwhile(path, beside(path)[1].unlink)
    assert error.filename == str(beside(path)[1])
    assert {*tmp_path.iterdir()} == set()


def test_a_folder_that_is_moved_is_an_error_and_another_in_its_place_stays_empty(
    tmp_path: Path,
) -> None:
    path, moved = tmp_path / "folder" / "x", tmp_path / "moved"
    path.parent.mkdir()

    def move() -> None:
        path.parent.rename(moved)
        path.parent.mkdir()

    calls = iter([move])

    def progress(done: int, total: int) -> None:
        next(calls, lambda: None)()

    with pytest.raises(OSError, match="the folder was moved or replaced") as caught:
        ic.fetch_file(PLAN, path, target="local", progress=progress)
    assert caught.value.errno == errno.ESTALE
    assert not any(path.parent.iterdir())
    assert {one.name for one in moved.iterdir()} == {one.name for one in beside(path)}
    shutil.rmtree(path.parent)
    moved.rename(path.parent)
    assert resumed(path) == 0, "all blocks were there"


KILLED = """
import itertools, os, signal, sys, initclient as ic
replace, count = os.replace, itertools.count(1)
def killing(*arguments, **options):
    if next(count) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments, **options)
os.replace = killing
ic.fetch_file(sys.argv[1], sys.argv[2], target="local", shard_size=sys.argv[4] or None)
"""


@pytest.mark.parametrize("shard_size", ["", "20MB"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_kill_9_while_files_get_their_names(step: int, shard_size: str, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "plan.yaml"), str(out), str(step)]
    code = subprocess.run([*command, shard_size], capture_output=True).returncode
    assert code == (0 if step == 3 and not shard_size else -signal.SIGKILL)
    told: list[int] = []
    ic.fetch_file(
        PLAN,
        out,
        target="local",
        shard_size=shard_size or None,
        progress=lambda done, total: told.append(done),
    )
    ic.fetch_file(PLAN, whole, target="local", shard_size=shard_size or None)
    if shard_size:
        names = sorted(path.name for path in whole.iterdir())
        assert sorted(path.name for path in out.iterdir()) == names, "nothing stays behind"
        assert all((out / n).read_bytes() == (whole / n).read_bytes() for n in names)
    else:
        assert out.read_bytes() == whole.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == {"out", "whole", "plan.yaml"}


@pytest.mark.parametrize("ending", [PART, SHARD_PART, JOURNAL, PART.upper()])
def test_the_name_of_a_partial_file_is_no_target(ending: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the file another name"):
        ic.fetch_file(PLAN, tmp_path / f"x{ending}", target="local")
    assert {*tmp_path.iterdir()} == set()


def test_names_of_different_files_have_different_partial_files() -> None:
    long = "é" * 120
    names = ["x", "X", long, long + "x", "x" * 200, "x" * 201, "x" * 255]
    # A name that looks like the short form of a long one.
    names += [sibling_name(long, ""), sibling_name(long, "")[:64]]
    siblings = [sibling_name(name, end) for name in names for end in (PART, SHARD_PART, JOURNAL)]
    assert len({*siblings}) == len(siblings)
    assert max(len(name.encode()) for name in siblings[: 3 * 7]) <= 255


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["é" * 127, "\u6a21" * 85, "two\nlines", " ", "\udcff", "x" * 255])
def test_odd_names(name: str, resume: bool, tmp_path: Path) -> None:
    plan = {"w": ic.ones((3,))}
    path = ic.fetch_file(plan, tmp_path / name, target="local", resume=resume)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == ic.fetch_file(plan, tmp_path / "x").read_bytes()


def test_one_file_of_a_folder_does_not_meet_the_folder_s_fetch(
    expected: str, tmp_path: Path
) -> None:
    """Both have locks of their own, and write at the same time."""
    name = "model-00001-of-00002.safetensors"
    calls = iter([lambda: ic.fetch_file(PLAN, tmp_path / "m" / name, target="local")])

    def progress(done: int, total: int) -> None:
        if next(calls, None):
            ic.fetch_file(OTHER, tmp_path / "m" / name, target="local")

    ic.fetch_file(PLAN, tmp_path / "m", target="local", shard_size="20MB", progress=progress)
    ic.fetch_file(PLAN, tmp_path / "n", target="local", shard_size="20MB")
    found = {path.name: digest(path) for path in (tmp_path / "m").iterdir()}
    assert found == {path.name: digest(path) for path in (tmp_path / "n").iterdir()}


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "_MOST_OPEN", 2)
    whole = ic.fetch_file(PLAN, tmp_path / "whole", target="local", shard_size="6MB")
    out = tmp_path / "out"
    with pytest.raises(Cut):
        ic.fetch_file(PLAN, out, target="local", shard_size="6MB", progress=cut_after(4))
    ic.fetch_file(PLAN, out, target="local", shard_size="6MB")
    names = sorted(path.name for path in whole.iterdir())
    assert len(names) > 4
    assert sorted(path.name for path in out.iterdir()) == names
    assert all((out / n).read_bytes() == (whole / n).read_bytes() for n in names)

    parts: list[Path] = []

    def replace(done: int, total: int) -> None:
        if not parts and done > total / 2:
            parts.extend(sorted(other.glob(f"*-00003-*{SHARD_PART}")))
            content = parts[0].read_bytes()
            parts[0].unlink()
            parts[0].write_bytes(content)

    other = tmp_path / "other"
    with pytest.raises(OSError, match="fetch again"):
        ic.fetch_file(PLAN, other, target="local", shard_size="6MB", progress=replace)
    assert parts
    assert not [*other.glob("*.safetensors")]


def test_what_is_kept_is_told_only_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def remove_and_fail(done: int, total: int) -> None:
        beside(path)[0].unlink(missing_ok=True)  # another thread's block may end before the stop
        raise Cut

    with pytest.raises(Cut) as caught:
        ic.fetch_file(PLAN, path, target="local", progress=remove_and_fail)
    assert not hasattr(caught.value, "__notes__")
    assert {*tmp_path.iterdir()} == set()
    assert "bytes are kept" in begin(path).__notes__[0]


def test_partial_shards_of_release_0_2_0_are_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had the ending of single files, and are as large as the files."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(hugging_face, "SHARD_PART", PART)
        with pytest.raises(Cut):
            ic.fetch_file(PLAN, out, target="local", shard_size="20MB", progress=cut_after(3))
    assert [*out.glob(f"*{PART}")]
    with pytest.warns(ic.PartialFileWarning, match="it is discarded"):
        ic.fetch_file(PLAN, out, target="local", shard_size="20MB")
    assert not [path for path in out.iterdir() if path.name.endswith((PART, JOURNAL))]
