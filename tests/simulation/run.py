"""Plays schedules of the simulation, or one of them again.

    nice python tests/simulation/run.py --schedules 1000000 --seed 0 --jobs 2
    python tests/simulation/run.py --replay 4711

The first stops at the first broken promise and prints the command that plays it again. The second
prints every event of one schedule. A schedule takes about 6 ms of a CPU, so that a million take
an hour and a half on one. A run that was interrupted goes on with the seed that it printed last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Schedules that a process plays before it reports.
_BATCH = 100
sys.path.insert(0, str(ROOT))

from tests.simulation.schedule import play, prepared  # noqa: E402
from tests.simulation.world import Failure  # noqa: E402


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Plays schedules of the simulation.")
    parser.add_argument("--schedules", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="plays one, and shows its events"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that play at once")
    parser.add_argument("--survey", action="store_true", help="counts failures, never stops")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        with prepared():
            failure = play(arguments.replay, print)
        print(failure or "every promise was kept")
        return 1 if failure else 0
    return _play_all(arguments)


def _play_all(arguments: argparse.Namespace) -> int:
    first, count, jobs = arguments.seed, arguments.schedules, arguments.jobs
    started = shown = time.monotonic()
    found: Counter[str] = Counter()
    batches = [
        range(b, min(b + _BATCH, first + count)) for b in range(first, first + count, _BATCH)
    ]
    done = 0
    # Unlike multiprocessing's own pool, it ends with an error where a process dies.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for batch in pool.map(_broken, batches):
            done += min(_BATCH, count - done)
            for seed, failure in batch:
                found[failure.name] += 1
                if not arguments.survey or found[failure.name] <= 3:
                    print(f"seed {seed}: {failure}\n{replay(seed)}", flush=True)
                if not arguments.survey:
                    return 1
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                rate = done / (shown - started)
                rest = f"the rest: --seed {first + done} --schedules {count - done}"
                print(f"{done} of {count} schedules, {rate:.0f} a second; {rest}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    took = time.monotonic() - started
    print(f"{count} schedules in {took:.0f} s, broken promises: {dict(found) or 'none'}")
    return 1 if found else 0


def _broken(seeds: range) -> list[tuple[int, Failure]]:
    return [(seed, failure) for seed, failure in failures(seeds) if failure]


def failures(seeds: range) -> Iterator[tuple[int, Failure | None]]:
    """Plays the schedules of these seeds; gives each with the promise that it broke, or None."""
    with prepared():
        for seed in seeds:
            yield seed, play(seed)


def replay(seed: int) -> str:
    """The line with the command that plays a schedule again."""
    return f"replay: python tests/simulation/run.py --replay {seed}"


if __name__ == "__main__":
    sys.exit(main())
