"""What it costs when thousands of workers start at once: simulated, from measured constants.

    python benchmarks/fleet.py                       # the table of docs/operations.md
    python benchmarks/fleet.py --workers 2000 --gigabytes 28 --replicas 4 16
    python benchmarks/fleet.py --help                # the constants, to put your own in

Three ways to the same weights: every worker fetches the whole file, every worker fetches its
shard, every worker computes what it needs in its own process. The service is simulated: workers
come within `--spread` seconds, a replica takes so many streams at a time and tells the others to
come back, its streams share its cores and its network evenly, and a stream that follows another
one closely enough is sent what the cache has; everything else is generated again.

Constants are bytes (10^6, MB) per second of one core; `--gigabytes` and the tables are in GB.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise

# MB of bfloat16 (orthogonal: float32) that one core makes in a second; docs/operations.md.
SCHEMES = {"normal": 430.0, "uniform": 1090.0, "trunc_normal": 680.0, "orthogonal": 7.0}
_ARRIVAL = -1


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Workers, replicas and what they are worth.

    Attributes:
        workers: how many start at once, within `spread` seconds.
        megabytes: of the plan's file.
        shards: parts that the file is in; worker i wants part i modulo this.
        replicas: how many servers.
        cores: of each replica.
        network: MB/s that a replica can send.
        stream: MB/s that one stream brings at most.
        send: MB that a core hands to the transport in a second.
        generate: MB that a core generates in a second.
        streams: downloads that a replica takes at the same time.
        cache: MB of chunks that a replica keeps.
        spread: seconds within which the workers come.
        worker_cores: cores that a worker has for computing in process.
    """

    workers: int = 10_000
    megabytes: float = 16_000
    shards: int = 1
    replicas: int = 8
    cores: float = 4
    network: float = 1_250
    stream: float = 500
    send: float = 540
    generate: float = SCHEMES["normal"]
    streams: int = 64
    cache: float = 256
    spread: float = 10
    worker_cores: float = 4

    @property
    def wanted(self) -> float:
        """MB that one worker wants."""
        return self.megabytes / self.shards


@dataclass(frozen=True)
class Outcome:
    """What the service did.

    Attributes:
        seconds: until the last worker had its bytes.
        sent: MB.
        generated: MB.
        core_seconds: of all replicas.
    """

    seconds: float
    sent: float
    generated: float
    core_seconds: float


def in_process(fleet: Fleet) -> tuple[float, float]:
    """Seconds, and core-seconds of all workers, when each computes what it wants."""
    alone = fleet.wanted / fleet.generate
    return alone / fleet.worker_cores, alone * fleet.workers


def break_even(fleet: Fleet) -> int:
    """Replicas from which the service can be as fast as computing in process.

    The bytes have to be sent whatever is shared, so this is a lower bound.
    """
    capacity = min(fleet.network, fleet.cores * fleet.send)
    return math.ceil(fleet.workers * fleet.worker_cores * fleet.generate / capacity)


def simulate(fleet: Fleet, seed: int = 0) -> Outcome:
    """The service under all workers, from event to event: a worker comes, a stream ends.

    A worker that finds all replicas full has the next stream that ends: among thousands
    that come back within a second there is always one.
    """
    chance = random.Random(seed)
    replicas = [_Replica(fleet) for _ in range(fleet.replicas)]
    # Time, the worker or the state that foretold it, and the replica whose stream ends.
    events = [(chance.uniform(0, fleet.spread), i, _ARRIVAL) for i in range(fleet.workers)]
    heapq.heapify(events)
    waiting: deque[int] = deque()
    now = 0.0
    while events:
        now, number, place = heapq.heappop(events)
        if place == _ARRIVAL:
            room = [i for i, one in enumerate(replicas) if len(one.positions) < fleet.streams]
            if not room:
                waiting.append(number)
                continue
            place = chance.choice(room)
            replicas[place].join(now, number % fleet.shards)
        elif number != replicas[place].version:
            continue  # foretold before another stream came or went
        else:
            replicas[place].end_first(now)
            while waiting and len(replicas[place].positions) < fleet.streams:
                replicas[place].join(now, waiting.popleft() % fleet.shards)
        if replicas[place].positions:
            heapq.heappush(events, (replicas[place].ends, replicas[place].version, place))
    return Outcome(
        now,
        sum(one.sent for one in replicas),
        sum(one.generated for one in replicas),
        sum(one.core_seconds for one in replicas),
    )


class _Replica:
    """One server: its streams, each as its shard and how far it is.

    All move at the same speed, so what one is behind another stays until one comes or ends.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._now = self._rate = 0.0
        self._making = 0
        self.positions: list[tuple[int, float]] = []
        self.version = 0
        self.ends = math.inf
        self.sent = self.generated = self.core_seconds = 0.0

    def join(self, now: float, shard: int) -> None:
        """A stream begins."""
        self._advance(now)
        self.positions.append((shard, 0.0))
        self._foretell()

    def end_first(self, now: float) -> None:
        """Those that are done leave."""
        self._advance(now)
        done = self._fleet.wanted * (1 - 1e-9)
        self.positions = [one for one in self.positions if one[1] < done]
        self._foretell()

    def _advance(self, now: float) -> None:
        fleet, step = self._fleet, (now - self._now) * self._rate
        self._now = now
        self.positions = [(shard, position + step) for shard, position in self.positions]
        sent, made = step * len(self.positions), step * self._making
        self.sent += sent
        self.generated += made
        self.core_seconds += sent / fleet.send + made / fleet.generate

    def _foretell(self) -> None:
        fleet, count = self._fleet, len(self.positions)
        self.version += 1
        if not count:
            self._rate, self._making, self.ends = 0.0, 0, math.inf
            return
        self._making = self._not_shared()
        cost = count / fleet.send + self._making / fleet.generate
        self._rate = min(fleet.stream, fleet.network / count, fleet.cores / cost)
        ahead = max(position for _, position in self.positions)
        self.ends = self._now + (fleet.wanted - ahead) / self._rate

    def _not_shared(self) -> int:
        """Streams that have nobody ahead of them within the cache."""
        ordered = sorted(self.positions, reverse=True)
        making = len({shard for shard, _ in ordered})
        room = self._fleet.cache / making
        for (shard, ahead), (other, behind) in pairwise(ordered):
            making += shard == other and ahead - behind > room
        return making


def table(fleet: Fleet, replicas: list[int], shards: int) -> str:
    """Rows by number of replicas, in Markdown."""
    lines = [
        "| | replicas | until the last worker has it | generated | sent | cores, hours |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, parts in (("whole file", 1), (f"its shard, 1 of {shards}", shards)):
        one = replace(fleet, shards=parts)
        for count in replicas:
            got = simulate(replace(one, replicas=count))
            lines.append(
                f"| service, {name} | {count} | {_time(got.seconds)} | {_size(got.generated)} | "
                f"{_size(got.sent)} | {got.core_seconds / 3600:.1f} |"
            )
        seconds, total = in_process(one)
        lines.append(
            f"| in process, {name} | none | {_time(seconds)} | "
            f"{_size(one.wanted * one.workers)} | 0 | {total / 3600:.1f} |"
        )
        lines.append(f"| as fast as in process, at least | {break_even(one)} | | | | |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _size(megabytes: float) -> str:
    return f"{megabytes / 1e3:.0f} GB" if megabytes < 1e6 else f"{megabytes / 1e6:.1f} TB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Fleet()
    parser.add_argument("--scheme", choices=SCHEMES, default="normal", help="sets --generate")
    parser.add_argument("--gigabytes", type=float, default=default.megabytes / 1e3)
    parser.add_argument("--shards", type=int, default=64, help="workers that share one model")
    parser.add_argument("--replicas", type=int, nargs="+", default=[2, 8, 32, 128])
    parser.add_argument("--generate", type=float, help="default: that of the scheme")
    names = ("workers", "streams")
    for name in names:
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    more = ("cores", "network", "stream", "send", "cache", "spread", "worker_cores")
    for name in more:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=getattr(default, name), help="%(default)g")
    options = parser.parse_args()
    fleet = Fleet(
        megabytes=options.gigabytes * 1e3,
        generate=options.generate or SCHEMES[options.scheme],
        **{name: getattr(options, name) for name in (*names, *more)},
    )
    print(
        f"{fleet.workers} workers within {fleet.spread:g} s, {options.gigabytes:g} GB, "
        f"{options.scheme}; replicas of {fleet.cores:g} cores and {fleet.network:g} MB/s\n"
    )
    print(table(fleet, options.replicas, options.shards))


if __name__ == "__main__":
    main()
