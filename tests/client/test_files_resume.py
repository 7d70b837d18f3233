"""An interrupted fetch resumes at its last good block, and the file is the same."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from initclient import aio
from initclient._files.outputs import JOURNAL, PART
from initclient._files.partial import PartialFiles
from initclient._transport.download import shares, stream_count
from initcore.file import BLOCK

# Four blocks and a bit. Constants are made fastest, and no two blocks are equal.
PLAN = ic.Plan(
    {
        **{f"w{n}": ic.constant((700_001,), n, dtype="float64") for n in range(5)},
        "half": ic.uniform((5, 100_003), dtype="bfloat16"),
        "rest": ic.uniform((600_000,), dtype="float64"),
    },
    seed=11,
)
OTHER = ic.Plan(PLAN.tensors, seed=12)


class Cut(Exception):  # noqa: N818
    """Interrupts a fetch."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(ic.fetch_file(PLAN, tmp_path_factory.mktemp("whole") / "x", target="local"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cut_after(count: int) -> Callable[[int, int], None]:
    """A progress callback that interrupts the fetch at its call of this number."""
    calls = iter(range(count))

    def progress(done: int, total: int) -> None:
        if next(calls, None) is None:
            raise Cut

    return progress


def begin(path: Path, source: str = "local", count: int = 3, **options: Any) -> Cut:
    """Leaves a partial file."""
    with pytest.raises(Cut) as caught:
        ic.fetch_file(PLAN, path, target=source, progress=cut_after(count), **options)
    return caught.value


def beside(path: Path) -> tuple[Path, Path]:
    """The partial file and its journal."""
    return path.with_name(path.name + PART), path.with_name(path.name + JOURNAL)


def resumed(path: Path, source: str = "local") -> int:
    """Resumes the fetch; returns the number of blocks that were made or transferred."""
    told: list[int] = []
    noted: list[int] = []
    journal = beside(path)[1]

    def progress(done: int, total: int) -> None:
        told.append(done)
        noted.append(lines(journal))

    before = lines(journal)
    ic.fetch_file(PLAN, path, target=source, progress=progress)
    assert told == sorted(told)
    assert told[-1] == ic.describe(PLAN).size
    return noted[-1] - before


def lines(journal: Path) -> int:
    """The lines that are not empty."""
    return sum(map(bool, journal.read_bytes().splitlines())) if journal.exists() else 0


@given(
    missing=st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted),
    size=st.integers(61 * BLOCK - 5, 61 * BLOCK),
    wanted=st.none() | st.integers(1, 9),
)
def test_streams_share_what_is_missing_and_nothing_else(
    missing: list[int], size: int, wanted: int | None
) -> None:
    ranges = [(index * BLOCK, min((index + 1) * BLOCK, size)) for index in missing]
    total = sum(end - begin for begin, end in ranges)
    found = shares(ranges, stream_count(total, wanted))
    assert all(found)
    assert all(begin % BLOCK == 0 for share in found for begin, _ in share)
    blocks = [at for share in found for begin, end in share for at in range(begin, end, BLOCK)]
    assert blocks == [begin for begin, _ in ranges]
    assert sum(end - begin for share in found for begin, end in share) == total


def test_a_fetch_that_was_cut_says_what_it_keeps_and_goes_on_there(
    source: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    # Messages of a server are a megabyte or two, and blocks eight.
    error = begin(path, source, count=3 if source == "local" else 20)
    part, journal = beside(path)
    assert not path.exists()
    assert {*tmp_path.iterdir()} == {part, journal}
    (note,) = error.__notes__
    assert str(part) in note
    assert "The same fetch resumes there" in note
    there = lines(journal) - 1
    assert there >= 1
    assert resumed(path, source) == -(-ic.describe(PLAN).size // BLOCK) - there
    assert digest(path) == expected
    assert {*tmp_path.iterdir()} == {path}


def test_what_a_server_began_this_process_ends_and_the_other_way_round(
    target: str, expected: str, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    begin(one, target, count=20)
    begin(other, "local")
    resumed(one, "local")
    resumed(other, target)
    assert digest(one) == digest(other) == expected


def test_what_asyncio_began_goes_on_without_it_and_the_other_way_round(
    source: str, expected: str, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"

    async def cut() -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            if done > 2 * BLOCK:
                loop.call_soon_threadsafe(started.set)

        call = aio.fetch_file(PLAN, one, target=source, progress=progress)
        task = asyncio.create_task(call)
        await asyncio.wait_for(started.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    begin(other, source, count=25 if source != "local" else 3)
    if not one.exists():
        resumed(one, source)
    asyncio.run(aio.fetch_file(PLAN, other, target=source))
    assert digest(one) == digest(other) == expected
    assert {*tmp_path.iterdir()} == {one, other}


Damage = Callable[[Path, Path, float], None]


def flip_a_byte(part: Path, journal: Path, where: float) -> None:
    with open(part, "r+b") as file:
        at = int(where * (part.stat().st_size - 1))
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 8]), at)


def lose_the_end_of_the_data(part: Path, journal: Path, where: float) -> None:
    os.truncate(part, int(where * part.stat().st_size))


def lose_writes(part: Path, journal: Path, where: float) -> None:
    """After a power cut the journal may list blocks that never reached the disk."""
    with open(part, "r+b") as file:
        os.pwrite(file.fileno(), bytes(3 << 20), int(where * part.stat().st_size))
    os.truncate(part, ic.describe(PLAN).size)


def tear_the_journal(part: Path, journal: Path, where: float) -> None:
    lines = journal.read_bytes()
    first = lines.index(b"\n") + 1
    os.truncate(journal, first + int(where * (len(lines) - first)))


def scribble_in_the_journal(part: Path, journal: Path, where: float) -> None:
    with open(journal, "ab") as file:
        file.write(b"0 1 00000000\n7 7 01234567\n0 99999 01234567\n\0\0\0\n\xff 5\n0 2")


def nothing(part: Path, journal: Path, where: float) -> None:
    pass


DAMAGE: tuple[Damage, ...] = (
    nothing,
    flip_a_byte,
    lose_the_end_of_the_data,
    lose_writes,
    tear_the_journal,
    scribble_in_the_journal,
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(DAMAGE), st.floats(0, 1)),
        min_size=1,
        max_size=2,
    )
)
@pytest.mark.filterwarnings("ignore::initclient.PartialFileWarning")
def test_wherever_it_is_cut_and_whatever_is_damaged_the_file_is_the_same(
    cuts: list[tuple[int, Damage, float]], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    part, journal = beside(path)
    for count, damage, where in cuts:
        try:
            ic.fetch_file(PLAN, path, target="local", progress=cut_after(count))
        except Cut:
            assert not path.exists() or digest(path) == expected
        if part.exists():
            damage(part, journal, where)
    ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected
    assert {*tmp_path.iterdir()} == {path}
    path.unlink()


def test_damage_is_told(expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    begin(path, count=3)
    part, _ = beside(path)
    with open(part, "r+b") as file:
        file.write(b"\0" * part.stat().st_size)
    with pytest.warns(ic.PartialFileWarning, match="do not match their checksums") as seen:
        ic.fetch_file(PLAN, path, target="local")
    assert seen[0].filename == __file__
    assert digest(path) == expected


def test_a_header_that_was_overwritten_is_written_again(expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    begin(path)
    with open(beside(path)[0], "r+b") as file:
        file.write(b"rubbish!")
    resumed(path)
    assert digest(path) == expected


def test_a_partial_file_of_another_plan_is_thrown_away(expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(Cut):
        ic.fetch_file(OTHER, path, target="local", progress=cut_after(3))
    mine, theirs = ic.describe(PLAN).digest[:12], ic.describe(OTHER).digest[:12]
    with pytest.warns(ic.PartialFileWarning, match=f"{theirs}.*{mine}.*it is discarded"):
        ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected


@pytest.mark.parametrize("text", [b"", b"{", b"[]\n", b'{"format": "x"}\n', b"\xff\n0 1 0000ffff"])
def test_a_journal_that_cannot_be_read_is_thrown_away(
    text: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    begin(path)
    beside(path)[1].write_bytes(text)
    with pytest.warns(ic.PartialFileWarning, match="whose journal cannot be read"):
        ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected


def test_a_hostile_journal_removes_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    outside = tmp_path / f"precious{PART}"
    outside.write_text("precious")
    path = folder / "x"
    part, journal = beside(path)
    part.write_text("something")
    journal.write_text(
        '{"format": "initserve.journal.v1", "files": ["../precious", 7, "", ".", '
        '"\\ud800", "a\\u0000"], "digest": []}\n'
    )
    with pytest.warns(ic.PartialFileWarning):
        ic.fetch_file({"w": ic.ones((3,))}, path, target="local")
    assert outside.read_text() == "precious"


def test_a_partial_file_that_was_removed_costs_no_more_than_that(
    expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    begin(path)
    beside(path)[0].unlink()
    ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected


def test_links_in_the_place_of_partial_files_are_not_written_through(tmp_path: Path) -> None:
    path = tmp_path / "x"
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for link in beside(path):
        link.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        ic.fetch_file(PLAN, path, target="local")
    beside(path)[1].unlink()
    with pytest.warns(ic.PartialFileWarning):
        ic.fetch_file(PLAN, path, target="local")
    assert precious.read_text() == "precious"


def test_without_resume_nothing_is_taken_up_and_nothing_left(
    source: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    error = begin(path, source, resume=False)
    assert not hasattr(error, "__notes__")
    assert [*tmp_path.iterdir()] == []
    begin(path)
    there = {file: file.read_bytes() for file in beside(path)}
    ic.fetch_file(PLAN, path, target=source, resume=False)
    assert digest(path) == expected
    assert {file: file.read_bytes() for file in beside(path)} == there


def test_two_do_not_write_one_file_at_once(expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    refused: list[str] = []

    def other(done: int, total: int) -> None:
        if not refused:
            script = (
                "import sys, initclient as ic; ic.fetch_file({'w': ic.ones((3,))}, sys.argv[1])"
            )
            command = [sys.executable, "-c", script, str(path)]
            refused.append(subprocess.run(command, capture_output=True, text=True).stderr)

    ic.fetch_file(PLAN, path, target="local", progress=other)
    assert "BlockingIOError" in refused[0]
    assert "another process is writing it" in refused[0]
    assert digest(path) == expected
    assert {*tmp_path.iterdir()} == {path}


def test_a_file_system_without_locks_is_told_and_used_without_resume(
    expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    path = tmp_path / "x"
    with pytest.warns(ic.PartialFileWarning, match="has no locks"):
        ic.fetch_file(PLAN, path, target="local")
    assert digest(path) == expected
    assert {*tmp_path.iterdir()} == {path}


KILLED = """
import sys, initclient as ic
ic.fetch_file(sys.argv[1], sys.argv[2], target=sys.argv[3], backend=sys.argv[4] or None,
              shard_size=sys.argv[5] or None)
"""


@pytest.mark.parametrize(
    ("shard_size", "source"), [("", "server"), ("20MB", "process")], indirect=["source"]
)
def test_kill_9_at_any_moment_and_again(source: str, shard_size: str, tmp_path: Path) -> None:
    plan = ic.Plan({f"w{n}": ic.normal((3000, 1009)) for n in range(6)}, seed=3)
    ic.dump_plan(plan, tmp_path / "plan.yaml")
    out = tmp_path / "out"
    journal = out / f"model.safetensors{JOURNAL}" if shard_size else beside(out)[1]
    backend = "numpy" if source == "local" else ""
    command = [sys.executable, "-c", KILLED]
    command += [str(tmp_path / "plan.yaml"), str(out), source, backend, shard_size]
    chance = random.Random(5)
    kills, blocks = 0, 0
    while True:
        process = subprocess.Popen(command)
        pause = chance.uniform(0, 0.1)
        # At the start once, then in the middle of the work.
        while process.poll() is None and kills and lines(journal) <= blocks:
            time.sleep(0.002)
        time.sleep(pause)
        if kills == 2 or process.poll() is not None:
            assert process.wait(60) == 0
            break
        process.kill()
        process.wait()
        kills += 1
        assert lines(journal) >= blocks
        blocks = lines(journal)
    assert kills
    final = sorted(out.iterdir()) if shard_size else [out]
    assert all(not path.name.endswith((PART, JOURNAL)) for path in final)
    other = ic.fetch_file(plan, tmp_path / "other", target="local", shard_size=shard_size or None)
    again = sorted(other.iterdir()) if shard_size else [other]
    assert [path.read_bytes() for path in final] == [path.read_bytes() for path in again]
    shutil.rmtree(tmp_path)


def test_what_comes_after_the_last_name_leaves_a_whole_file_and_no_note(
    expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = PartialFiles.publish

    def interrupted(self: PartialFiles) -> None:
        publish(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(PartialFiles, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        ic.fetch_file(PLAN, tmp_path / "x", target="local")
    assert not hasattr(caught.value, "__notes__"), "nothing is kept to go on from"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
    assert digest(tmp_path / "x") == expected
