"""Plays schedules of the simulation, or one of them again.

    python tests/simulation/run.py --schedules 1000000 --seed 0
    python tests/simulation/run.py --replay 4711

The first stops at the first broken promise and prints the command that plays it again. The second
prints every event of one schedule.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.simulation.schedule import play, small_blocks  # noqa: E402
from tests.simulation.world import Failure  # noqa: E402


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Plays schedules of the simulation.")
    parser.add_argument("--schedules", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument("--replay", type=int, metavar="SEED", help="plays one, and shows its events")
    parser.add_argument("--survey", action="store_true", help="counts failures instead of stopping")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.replay is not None:
        with small_blocks():
            failure = play(arguments.replay, print)
        print(failure or "every promise was kept")
        return 1 if failure else 0
    return _play_all(arguments.seed, arguments.schedules, arguments.survey)


def _play_all(first: int, count: int, survey: bool) -> int:
    started = shown = time.monotonic()
    found: Counter[str] = Counter()
    for done, (seed, failure) in enumerate(failures(range(first, first + count)), 1):
        if failure:
            found[failure.name] += 1
            if not survey or found[failure.name] <= 3:
                print(f"seed {seed}: {failure}\nreplay: {replay(seed)}", flush=True)
            if not survey:
                return 1
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            rate = done / (shown - started)
            print(f"{done} of {count} schedules, {rate:.0f} a second", flush=True)
    print(f"{count} schedules in {time.monotonic() - started:.1f} s; broken: {dict(found) or 0}")
    return 1 if found else 0


def failures(seeds: range) -> Iterator[tuple[int, Failure | None]]:
    with small_blocks():
        for seed in seeds:
            yield seed, play(seed)


def replay(seed: int) -> str:
    return f"python tests/simulation/run.py --replay {seed}"


if __name__ == "__main__":
    sys.exit(main())
