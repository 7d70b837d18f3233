"""Minutes of mixed traffic and faults: every result is right, and nothing grows.

    python tests/exhaustive/soak.py --minutes 10 --seed 1

starts two replicas with two workers each, one of them with TLS and tokens, calls them with
blocking and asyncio clients, and meanwhile kills and stops workers and replicas, cuts
connections, fills disks, holds readers and rude callers, and rotates certificates and tokens. A
seed draws the same calls and events again, though not at the same moments. The exit status is 1 if
a promise broke:

- every result has the bits that this process computes by itself, and every call succeeds in the
  end;
- while a replica is not down on purpose, a worker of it answers within `--longest-gap` seconds;
  one of the two replicas always does;
- a replica that is stopped ends with status 0 within its grace;
- memory, threads, file descriptors and temporary files after the faults are those after the
  warm-up, within the bounds of `soaking/resources.py`.

It says when the longest gaps were, and which events began shortly before. Gaps are measured by
the clock: with other work on the machine, give it `--longest-gap 4`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
# gRPC's own lines about connections that a proxy has damaged.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import initclient as ic

from tests.exhaustive.soaking import resources
from tests.exhaustive.soaking.calls import Calls, subjects
from tests.exhaustive.soaking.events import Events
from tests.exhaustive.soaking.ledger import Ledger
from tests.exhaustive.soaking.replicas import Replica
from tests.exhaustive.soaking.sampler import Gap, Sample, Sampler, longest_gap
from tests.exhaustive.soaking.tunnel import Tunnel
from tests.server.certificates import Authority

QUIET_SECONDS = 6.0
PROGRESS_SECONDS = 20.0
YOUNG_SECONDS = 20.0


class Soak:
    """One soak.

    Args:
        minutes: how long faults come, after the warm-up.
        seed: draws calls and events.
        gap: the longest allowed time without a worker, in seconds.
        slack: seconds of a busy machine on top of the bounds of a stop.
    """

    def __init__(self, minutes: float, seed: int, gap: float, slack: float) -> None:
        self.minutes, self.seed, self.gap, self.slack = minutes, seed, gap, slack
        self.ledger = Ledger()
        self.gaps: dict[str, Gap] = {}
        self.samples: list[Sample] = []
        self.looks: list[resources.Look] = []
        self.outages: dict[str, list[tuple[float, float]]] = {}
        self.growth: list[str] = []
        self.seconds = 0.0
        self._progress_at = 0.0

    def run(self, folder: Path) -> None:
        """Everything: start, warm-up, faults, and the comparison of before and after."""
        made, out, disks = (folder / name for name in ("made", "out", "disks"))
        for path in (made, out, disks):
            path.mkdir()
        temporary = folder / "client-tmp"
        temporary.mkdir()
        tempfile.tempdir = str(temporary)
        folders = {"the client's files": out, "the client's temporary files": temporary}
        with ExitStack() as stack:
            authority = Authority()
            replicas = [Replica("open", folder), Replica("secure", folder, authority)]
            for replica in replicas:
                stack.callback(replica.close)
                replica.start()
            tunnel = Tunnel(replicas[0].address, authority, folder / "tunnel")
            stack.callback(tunnel.close)
            plans = subjects(made)
            calls = Calls(self.ledger, replicas, tunnel, out, plans)
            events = Events(self.ledger, replicas, disks, plans[-1], self.slack)
            growth = resources.Growth(replicas, YOUNG_SECONDS)
            sampler = Sampler(replicas)
            stack.callback(sampler.kill)

            def phase(name: str, seconds: float) -> None:
                began = time.monotonic()
                calls.start(f"{self.seed}-{name}")
                try:
                    events.run(
                        f"{self.seed}-{name}",
                        seconds,
                        lambda: self._tick(name, growth),
                        each=not self.looks,
                    )
                finally:
                    calls.end()
                self.seconds = time.monotonic() - began
                self._say(f"{name}: {self.seconds:.0f} s")
                self.looks.append(resources.quiet_look(replicas, folders, QUIET_SECONDS))

            phase("warm-up", min(60.0, self.minutes * 20))
            phase("first half", self.minutes * 30)
            # Processes that nobody kills live long enough to show what grows.
            events.spare(replicas[1])
            phase("second half", self.minutes * 30)
            ended = time.monotonic()
            self.samples = sampler.end()
            self.outages = {one.name: one.outages for one in replicas}
            self.growth = growth.lines()
            self._judge(ended)

    def _judge(self, ended: float) -> None:
        """Compares what was measured with what is promised."""
        for name, outages in self.outages.items():
            for kind in ("health", "http"):
                own = [one for one in self.samples if (one.replica, one.kind) == (name, kind)]
                self.gaps[f"{name}, {kind}"] = longest_gap(own, ended, outages)
        for kind in ("health", "http"):
            own = [one for one in self.samples if one.kind == kind]
            self.gaps[f"both replicas, {kind}"] = longest_gap(own, ended)
        for name, gap in self.gaps.items():
            if gap.seconds > self.gap:
                around = self.ledger.around(gap.begin, gap.end)
                self.ledger.broke(f"{name}: {gap.seconds:.1f} s without a worker, {around}")
        resources.compare(self.looks[0], self.looks[-1], self.ledger)

    def _tick(self, phase: str, growth: resources.Growth) -> None:
        if time.monotonic() < self._progress_at:
            return
        self._progress_at = time.monotonic() + PROGRESS_SECONDS
        growth.look()
        calls, events = self.ledger.calls.total(), self.ledger.events.total()
        self._say(f"{phase}: {calls} calls, {events} events, {len(self.ledger.broken)} broken")

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def report(self) -> dict[str, Any]:
        """All figures."""
        return {
            "seed": self.seed,
            "calls": dict(self.ledger.calls),
            "events": dict(self.ledger.events),
            "samples": len(self.samples),
            "good samples": sum(one.good for one in self.samples),
            "gaps": {name: gap.seconds for name, gap in self.gaps.items()},
            "broken": self.ledger.broken,
        }

    def table(self) -> str:
        """All figures, for people."""
        lines = ["", f"{'compared calls':48} {'count':>7} {'slowest':>9}"]
        for name, count in sorted(self.ledger.calls.items()):
            lines.append(f"  {name:46} {count:7} {self.ledger.slowest[name]:7.1f} s")
        lines.append(f"{'events':48} {'count':>7}")
        lines += [f"  {name:46} {count:7}" for name, count in sorted(self.ledger.events.items())]
        down = sum(end - begin for one in self.outages.values() for begin, end in one)
        count = sum(len(one) for one in self.outages.values())
        good, late = sum(one.good for one in self.samples), max(one.late for one in self.samples)
        lines.append(f"{'samples':48} {len(self.samples):7}")
        lines.append(f"  {'of them without an answer':46} {len(self.samples) - good:7}")
        lines.append(f"  {f'{count} outages on purpose, together':46} {down:7.1f} s")
        lines.append(f"  {'the sampler itself was late by at most':46} {late:7.1f} s")
        lines.append(f"{'longest time without a worker, less outages':48}")
        for name, gap in self.gaps.items():
            lines.append(f"  {name:46} {gap.seconds:7.2f} s")
            lines.append(f"    {self.ledger.around(gap.begin, gap.end)}")
        lines.append("resources when it is quiet: after the warm-up, the first half, the end")
        for name in self.looks[0].processes:
            lines.append(f"  {name}")
            lines += [f"    {look.processes[name]}" for look in self.looks]
        for name in self.looks[0].files:
            counts = ", ".join(str(look.files[name]) for look in self.looks)
            lines.append(f"  {name}: {counts}")
        lines.append("server processes that were watched longest")
        lines += [f"  {line}" for line in self.growth]
        return "\n".join(lines)


def main() -> int:
    """Runs a soak; 0 if every promise held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-gap", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--slack", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ic.PlanWarning)
    resources.return_freed_memory_at_once()
    soak = Soak(options.minutes, options.seed, options.longest_gap, options.slack)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak.run(Path(folder))
    print(soak.table())
    if options.json:
        options.json.write_text(json.dumps(soak.report()))
    broken = soak.ledger.broken
    verdict = f"{len(broken)} promises broke:" if broken else "every promise held"
    print("\n".join([f"seed {options.seed}, {options.minutes} minutes: {verdict}", *broken]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
