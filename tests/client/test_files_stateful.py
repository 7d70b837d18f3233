"""Whatever happens at any step: a path holds the whole file of one plan, or its old file.

First everything that others can do, once, before every single system call of a fetch. Then the
model of a property test: several fetches of two paths, each stopped before every system
call; meanwhile their partial files and journals are removed, replaced, linked, renamed and cut,
fetches are killed, disks are full, and locks do nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import initclient as ic
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from initclient._files.outputs import JOURNAL, PART

from tests.client.stepping import BLOCK, Fetch, Killed, stepping

# Files of equal size, with headers of equal size: only their bytes differ.
TENSORS = {f"w{n}": ic.uniform((4000,)) for n in range(3)}
PLANS = [ic.Plan(TENSORS, seed) for seed in (11, 12)]
NAMES = ("x", "y")
OLD = b"old"

# The calls between the last look at kept files and the end of a fetch.
_LAST_CALLS = 12


def _whole() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [ic.fetch_file(p, Path(folder, "w"), target="local").read_bytes() for p in PLANS]


WHOLE = _whole()


class Fetches(RuleBasedStateMachine):
    """Fetches, the files that they write, and everything that others do to these files."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.fetches: list[Fetch] = []
        self.seen: dict[Fetch, bool] = {}
        self.initial: dict[str, bytes | None] = {}
        self.context, self.locks = contextlib.ExitStack(), contextlib.ExitStack()

    @initialize(locks=st.sampled_from(["idle", "idle", "real", "none"]), old=st.booleans())
    def begin(self, locks: str, old: bool) -> None:
        self.context.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        self.locks.enter_context(stepping(locks))
        for name in NAMES:
            self.initial[name] = OLD if old else None
            if old:
                (self.folder / name).write_bytes(OLD)

    @precondition(lambda self: len(self.fetches) < 3)
    @rule(
        plan=st.sampled_from([0, 0, 1]), name=st.sampled_from([*NAMES, "x"]), resume=st.booleans()
    )
    def start(self, plan: int, name: str, resume: bool) -> None:
        fetch = Fetch(PLANS[plan], self.folder / name, resume=resume or name == "x")
        self.fetches.append(fetch)
        self.seen[fetch] = False

    @precondition(lambda self: self.fetches)
    @rule(which=st.integers(0, 2), calls=st.integers(1, 25))
    def go_on(self, which: int, calls: int) -> None:
        fetch = self.fetches[which % len(self.fetches)]
        for _ in range(calls):
            if self.advance(fetch):
                break

    @precondition(lambda self: self.fetches)
    @rule(which=st.integers(0, 2), call=st.sampled_from(["replace", "replace", "pwrite", "fsync"]))
    def go_on_to(self, which: int, call: str) -> None:
        fetch = self.fetches[which % len(self.fetches)]
        while not self.advance(fetch) and fetch.next != call:
            assert fetch.calls < 5000

    @precondition(lambda self: self.fetches)
    @rule(which=st.integers(0, 2))
    def go_to_the_end(self, which: int) -> None:
        fetch = self.fetches[which % len(self.fetches)]
        while not self.advance(fetch):
            assert fetch.calls < 5000

    @precondition(lambda self: self.fetches)
    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        fetch = self.fetches.pop(which % len(self.fetches))
        fetch.kill()
        fetch.join(60)
        assert isinstance(fetch.error, Killed)

    @precondition(lambda self: self.fetches)
    @rule(which=st.integers(0, 2))
    def fill_the_disk(self, which: int) -> None:
        self.fetches[which % len(self.fetches)].full = True

    @precondition(lambda self: self.fetches)
    @rule(
        which=st.integers(0, 2),
        ending=st.sampled_from([PART, PART, PART, JOURNAL]),
        how=st.sampled_from(
            ["remove", "rubbish", "plan 0", "plan 1", "link", "folder", "name", "move", "cut"]
        ),
        where=st.integers(0, 6),
    )
    def tamper(self, which: int, ending: str, how: str, where: int) -> None:
        name = self.fetches[which % len(self.fetches)].path.name
        path = self.folder / (name + ending)
        other = self.folder / (NAMES[1 - NAMES.index(name)] + ending)
        for fetch in self.fetches:
            fetch.quiet = 0
        with contextlib.suppress(OSError):
            if how == "cut":
                if path.is_file() and not path.is_symlink():
                    os.truncate(path, min(where * BLOCK // 2, path.stat().st_size))
                return
            if how == "name":
                os.link(path, self.folder / "another name")
                return
            if how == "move":
                os.replace(path, other)
                return
            remove(path)
            if how == "rubbish":
                path.write_bytes(os.urandom(len(WHOLE[0])))
            elif how.startswith("plan"):
                path.write_bytes(WHOLE[int(how[-1])][: where * BLOCK])
                os.truncate(path, len(WHOLE[0]))
            elif how == "link":
                path.symlink_to(self.folder / "precious")
            elif how == "folder":
                path.mkdir()

    def advance(self, fetch: Fetch) -> bool:
        """Lets a fetch make one call; whether it has ended."""
        fetch.advance()
        self.look()
        if not fetch.over:
            return False
        self.fetches.remove(fetch)
        if fetch.error is None:
            assert self.seen[fetch], "it returned, and its path never held its plan's file"
        else:
            assert isinstance(fetch.error, OSError), repr(fetch.error)
            for note in getattr(fetch.error, "__notes__", []):
                kept = Path(str(fetch.path) + PART)
                if fetch.quiet > _LAST_CALLS and not self.fetches:
                    # "may be" until what an earlier fetch has left was compared with its checksums.
                    assert re.search(rf"bytes (are|may be) kept in {re.escape(str(kept))}", note)
                    assert kept.stat().st_size == len(WHOLE[0])
        return True

    @invariant()
    def look(self) -> None:
        """Compares each path with the model."""
        for name, initial in self.initial.items():
            path = self.folder / name
            content = path.read_bytes() if path.exists() else None
            assert content in (initial, *WHOLE), f"{name} holds something else"
            for fetch in self.fetches:
                if fetch.path == path and content == WHOLE[PLANS.index(fetch.plan)]:
                    self.seen[fetch] = True

    def teardown(self) -> None:
        try:
            while self.fetches:
                self.advance(self.fetches[0])
            self.look()
            self.locks.close()
            self.leave_nothing()
        finally:
            for fetch in self.fetches:
                fetch.kill()
            self.locks.close()
            self.context.close()
            shutil.rmtree(self.folder)

    def leave_nothing(self) -> None:
        """Afterwards, with locks, a fetch writes its file and leaves nothing else."""
        for name in self.initial:
            path = self.folder / name
            for ending in (PART, JOURNAL):
                if Path(f"{path}{ending}").is_dir() or Path(f"{path}{ending}").is_symlink():
                    remove(Path(f"{path}{ending}"))
            ic.fetch_file(PLANS[0], path, target="local", backend="numpy")
            assert path.read_bytes() == WHOLE[0]
            assert not any(Path(f"{path}{ending}").exists() for ending in (PART, JOURNAL))
        assert not (self.folder / "precious").exists()


def remove(path: Path) -> None:
    """Removes whatever has the name."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


Fetches.TestCase.settings = settings(
    max_examples=int(os.environ.get("INITSERVE_TEST_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
)
TestAPathHoldsAWholeFile = pytest.mark.timeout(600)(Fetches.TestCase)


def other_fetch(path: Path, plan: int, calls: int) -> Fetch:
    """Another fetch of the same path, after some blocks."""
    fetch = Fetch(PLANS[plan], path)
    while not fetch.over and calls:
        fetch.advance()
        calls -= fetch.next == "pwrite"
    return fetch


def replace_by_another(path: Path) -> None:
    part = Path(f"{path}{PART}")
    if part.exists():
        remove(part)
        part.write_bytes(WHOLE[1][: 2 * BLOCK])
        os.truncate(part, len(WHOLE[1]))


def cut(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.truncate(f"{path}{PART}", BLOCK)


def replace_by_a_link(path: Path) -> None:
    remove(Path(f"{path}{PART}"))
    Path(f"{path}{PART}").symlink_to(path)


EVENTS: dict[str, Callable[[Path], Fetch | None]] = {
    "the partial file is removed": lambda path: remove(Path(f"{path}{PART}")),
    "the journal is removed": lambda path: remove(Path(f"{path}{JOURNAL}")),
    "the partial file is replaced": replace_by_another,
    "the partial file is replaced by a link": replace_by_a_link,
    "the partial file is cut": cut,
    "another plan is fetched": lambda path: other_fetch(path, 1, 1000),
    "another plan begins": lambda path: other_fetch(path, 1, 2),
    "the same plan begins": lambda path: other_fetch(path, 0, 2),
}


@pytest.mark.filterwarnings("ignore::initclient.PartialFileWarning")
@pytest.mark.parametrize("begun", [False, True], ids=["from the start", "resumed"])
@pytest.mark.parametrize("event", EVENTS)
def test_at_every_step(event: str, begun: bool, tmp_path: Path) -> None:
    """An event before each system call of a fetch, on a file system whose locks do nothing."""
    path, before = tmp_path / "x", 0
    with stepping("idle"):
        while True:
            path.write_bytes(OLD)
            if begun:
                other_fetch(path, 0, 4).kill()
            fetch = Fetch(PLANS[0], path)
            held = set()
            for _ in range(before):
                if not fetch.over:
                    fetch.advance()
                    held.add(path.read_bytes())
            ended = fetch.over
            others = [] if ended else [EVENTS[event](path)]
            for one in [fetch, *others]:
                while one is not None and not one.over:
                    one.advance()
                    held.add(path.read_bytes())
            assert held <= {OLD, *WHOLE}, f"after {before} calls"
            assert fetch.error is None or isinstance(fetch.error, OSError), repr(fetch.error)
            assert fetch.error is not None or WHOLE[0] in held
            for name in os.listdir(tmp_path):
                remove(tmp_path / name)
            if ended:
                break
            before += 1
    assert before > 40
