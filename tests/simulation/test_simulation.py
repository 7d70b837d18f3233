"""The client keeps its promises in every schedule of the simulation, which finds what is put in.

Each seed is a schedule: model servers that cut, lie, pause, fall silent, refuse, name absurd
pauses and restart; disks that fill up; files that vanish; processes that are killed. The code of
the client runs in it as it is, on a virtual clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from initclient._checking import spot_checks
from initclient._files import PartialFiles, folder, journal, partial_file
from initclient._transport import failover, receiver, watchdog
from initcore import PlanError

from tests.simulation import disk, invariants
from tests.simulation.run import failures, replay
from tests.simulation.world import BUSY, CALLS, DEADLOCK, WAITS, Failure

SCHEDULES = 10_000
BATCH = 500

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_every_promise_is_kept(first: int) -> None:
    for seed, failure in failures(range(first, first + BATCH)):
        if failure:
            pytest.fail(f"{failure}\n{replay(seed)}")


@pytest.mark.parametrize(
    "seed",
    [
        # A fetch wrote the header once more into a file that another one had synced and published,
        # on a file system whose locks do nothing, and the power was cut: the disk has the same
        # bytes still.
        1247188,
    ],
)
def test_schedules_that_once_failed_keep_every_promise(seed: int) -> None:
    failure = play_one(seed)
    assert failure is None, f"{failure}\n{replay(seed)}"


class Equal(int):
    """A number that equals every other one."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def without_checksums(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiver, "crc32c", lambda data: Equal())


def without_a_look_at_partial_files(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartialFiles, "check", lambda self, progress=None: None)


def without_syncs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk, "SYNCS", frozenset())


def without_a_watchdog(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watchdog.Watched, "end_if_silent", lambda self, timeout: None)


def without_a_timeout(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failover.Call, "remaining", lambda self, now: None)


def without_resuming(patch: pytest.MonkeyPatch) -> None:
    request = receiver.Receiver.request

    def from_the_start(self: receiver.Receiver, source: str) -> Any:
        self.position = self.begin
        return request(self, source)

    patch.setattr(receiver.Receiver, "request", from_the_start)


def without_another_replica(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failover.Attempts, "_choose", lambda self, now: self.call.replicas[0])


def without_pauses(patch: pytest.MonkeyPatch) -> None:
    failed = failover.Attempts.failed

    def count_nothing(self: failover.Attempts, fault: Any, now: float) -> None:
        failed(self, fault, now)
        self._failures.clear()
        self._tries.clear()

    patch.setattr(failover.Attempts, "failed", count_nothing)


def without_a_look_at_what_is_published(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(partial_file.PartialFile, "verify", lambda self, done: None)
    patch.setattr(partial_file.PartialFile, "move", lambda self, name: None)
    patch.setattr(journal.Journal, "check", lambda self: None)
    patch.setattr(folder.Folder, "check", lambda self: None)
    patch.setattr(folder.Folder, "publish", lambda self, _, name, final: self.rename(name, final))


def without_a_second_opinion(patch: pytest.MonkeyPatch) -> None:
    failed = failover.Attempts.failed

    def give_up(self: failover.Attempts, fault: Any, now: float) -> None:
        if isinstance(fault.error, PlanError):
            raise fault.error
        failed(self, fault, now)

    patch.setattr(failover.Attempts, "failed", give_up)


def without_a_bound_of_pauses(patch: pytest.MonkeyPatch) -> None:
    to = failover.Call.to

    def patient(addresses: Any, retry: Any, timeout: Any, now: float) -> Any:
        return to(addresses, replace(retry, patience=1e12, stall_timeout=None), timeout, now)

    patch.setattr(failover.Call, "to", patient)


def without_spot_checks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(spot_checks, "is_elementwise", lambda tensor: False)


def without_discarding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartialFiles, "discard", lambda self: None)


@pytest.mark.parametrize(
    ("take_out", "broken"),
    [
        (without_spot_checks, {invariants.RIGHT, invariants.WHOLE}),
        (without_discarding, {invariants.LIES}),
        (without_a_look_at_what_is_published, {invariants.WHOLE}),
        (without_a_second_opinion, {invariants.HEALTHY}),
        (without_a_bound_of_pauses, {WAITS}),
        (without_checksums, {invariants.RIGHT, invariants.WHOLE}),
        (without_a_look_at_partial_files, {invariants.WHOLE}),
        (without_syncs, {invariants.WHOLE}),
        (without_a_watchdog, {WAITS, DEADLOCK}),
        (without_a_timeout, {invariants.TIMEOUT}),
        (without_resuming, {invariants.ONCE, invariants.RIGHT}),
        (without_another_replica, {invariants.HEALTHY}),
        (without_pauses, {CALLS, BUSY, WAITS}),
    ],
)
def test_it_finds_what_is_taken_out(
    take_out: Callable[[pytest.MonkeyPatch], None],
    broken: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(2000):
        with monkeypatch.context() as patch:
            take_out(patch)
            failure = play_one(seed)
        if failure and failure.name in broken and not play_one(seed):
            return
    pytest.fail("no schedule finds it")


def play_one(seed: int) -> Failure | None:
    return next(failures(range(seed, seed + 1)))[1]


TRACES = """
import hashlib
from tests.simulation.schedule import play, prepared

digest = hashlib.sha256()
with prepared():
    for seed in range(100):
        play(seed, lambda line: digest.update(line.encode()))
print(digest.hexdigest())
"""


def test_a_seed_plays_alike_in_every_process() -> None:
    digests = set()
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        command = [sys.executable, "-c", TRACES]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_replay_prints_every_event() -> None:
    command = [sys.executable, "tests/simulation/run.py", "--replay", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert any("Fetch" in line or "Describe" in line for line in lines), done.stderr
    assert done.returncode == (lines[-1] != "every promise was kept")
