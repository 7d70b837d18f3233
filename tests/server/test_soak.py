"""The soak, for seconds: calls and faults of every kind, and every promise holds.

`python tests/exhaustive/soak.py --minutes 10` is the soak itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import initclient as ic
import pytest

from tests.exhaustive.soaking.calls import Outcome, Subject
from tests.exhaustive.soaking.ledger import Ledger
from tests.exhaustive.soaking.resources import Look, Resources, compare
from tests.exhaustive.soaking.sampler import Gap, Sample, longest_gap

SCRIPT = Path(__file__).parents[1] / "exhaustive" / "soak.py"
CALLS = {
    "fetch",
    "fetch, check=3",
    "fetch of shards",
    "fetch through a faulty proxy",
    "fetch_file",
    "fetch_file, resumed",
    "describe with fingerprints",
    "verify",
    "aio.fetch",
    "aio.fetch_file, cancelled, resumed",
    "aio.describe",
}
EVENTS = {
    "a worker killed",
    "a worker stopped",
    "a replica killed",
    "a supervisor killed",
    "a replica stopped",
    "a full disk",
    "readers that never read",
    "rude callers",
    "rude callers of the metrics port",
    "a certificate rotated",
    "a token rotated",
    "a partial file that was kept",
}


@pytest.mark.timeout(600)
def test_for_seconds_every_fault_happens_and_every_promise_holds(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--minutes", "0.3", "--seed", "1"]
    # On a machine with other work every start, stop and answer takes longer.
    command += ["--longest-gap", "15", "--slack", "30", "--json", str(found)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=560)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every promise held" in ended.stdout
    report = json.loads(found.read_text())
    assert not CALLS - set(report["calls"])
    assert not EVENTS - set(report["events"])
    assert any(name.startswith("a connection with the fault") for name in report["events"])
    assert report["good samples"] > 50
    assert len(report["gaps"]) == 6


def test_what_breaks_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger()
    subject = Subject(ic.Plan({"w": ic.normal((3, 4))}), tmp_path, "x.safetensors")
    wrong = subject.arrays["w"].copy()
    wrong[2, 3] += 1e-6
    with Outcome(ledger, "right", tmp_path / "a"):
        subject.check({"w": subject.arrays["w"].copy()})
    with Outcome(ledger, "wrong", tmp_path / "b"):
        subject.check({"w": wrong})
    with Outcome(ledger, "left", tmp_path / "c") as folder:
        (folder / "x.initserve.part").touch()
    assert ledger.calls == {"right": 1}
    assert len(ledger.broken) == 2
    assert "w has other bits" in ledger.broken[0]
    assert "the call left ['x.initserve.part']" in ledger.broken[1]

    before = Look({"client": Resources(100 << 20, 10, 20)}, {"client": 0})
    compare(before, before, ledger)
    assert len(ledger.broken) == 2
    compare(before, Look({"client": Resources(300 << 20, 40, 40)}, {"client": 1}), ledger)
    told = capsys.readouterr().out
    assert len(ledger.broken) == 6
    assert "client has 200 MiB more" in told
    assert "client: 1 files, 0 are allowed" in told


def test_a_gap_is_the_time_between_two_answers_less_what_was_meant() -> None:
    def sample(end: float, good: bool = True, late: float = 0.0) -> Sample:
        return Sample("a", "health", end, late, good)

    samples = [sample(1), sample(2), sample(4, good=False), sample(5), sample(5.5)]
    assert longest_gap(samples, 10) == Gap(3, 2, 5)
    assert longest_gap(samples, 10, [(2.5, 4.5)]) == Gap(1, 2, 5)
    assert longest_gap(samples, 4.5) == Gap(1, 1, 2)
    assert longest_gap([sample(1), sample(5, late=2.5), sample(6)], 10).seconds == 1.5
    assert longest_gap([sample(1, good=False)], 10).seconds == float("inf")


def test_the_ledger_says_what_began_before_a_gap() -> None:
    ledger = Ledger()
    ledger.begins("a worker killed (open)")
    (moment, _) = ledger.begun[0]
    assert "a worker killed (open) at 0.0 s" in ledger.around(moment + 1, moment + 3)
    assert "from 20.0 s to 22.0 s, after no event" in ledger.around(moment + 20, moment + 22)
