"""Asks replicas every 100 ms whether a worker answers, in a process of its own.

    python tests/exhaustive/soaking/sampler.py NAME,ADDRESS,METRICS,CA ...

asks until its standard input closes, and then prints all samples. Each replica gets two samples
at a time: a health check over a new connection, and /metrics and /readyz of its HTTP port.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from tests.exhaustive.soaking.replicas import Replica

PERIOD = 0.1
TIMEOUT = 5.0


@dataclass(frozen=True)
class Sample:
    """One question of the sampler.

    Attributes:
        replica: whose.
        kind: "health" or "http".
        end: the monotonic time of the answer.
        late: seconds by which the sampler itself began too late, since the machine was busy.
        good: whether a worker answered, or was said to.
    """

    replica: str
    kind: str
    end: float
    late: float
    good: bool


@dataclass(frozen=True, order=True)
class Gap:
    """Time without a good sample.

    Attributes:
        seconds: how long, less outages and what the sampler was late.
        begin: the monotonic time of the good sample before it.
        end: that of the good sample after it.
    """

    seconds: float
    begin: float = 0.0
    end: float = 0.0


def longest_gap(
    samples: Sequence[Sample], until: float, outages: Sequence[tuple[float, float]] = ()
) -> Gap:
    """The longest time between two good samples, less outages and what the sampler was late."""
    longest = Gap(0.0)
    late = 0.0
    last: float | None = None
    for sample in sorted(samples, key=lambda one: one.end):
        late += sample.late
        if not sample.good or sample.end > until:
            continue
        if last is not None:
            down = sum(max(0.0, min(end, sample.end) - max(begin, last)) for begin, end in outages)
            longest = max(longest, Gap(sample.end - last - down - late, last, sample.end))
        last, late = sample.end, 0.0
    return longest if last is not None else Gap(float("inf"))


class Sampler:
    """The process that samples replicas."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        asked = [
            ",".join([one.name, one.address, one.metrics, str(one.folder / "ca")])
            for one in replicas
        ]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[Sample]:
        """Ends it; all samples."""
        out, _ = self._process.communicate("", timeout=60)
        return [Sample(*one) for one in json.loads(out)]

    def kill(self) -> None:
        """Ends it without an answer."""
        self._process.kill()
        self._process.communicate()


def health(address: str, ca: Path) -> bool:
    """Whether a worker answers over a new connection that it serves."""
    local = [("grpc.use_local_subchannel_pool", 1)]
    if ca.exists():
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        channel = grpc.secure_channel(address, credentials, local)
    else:
        channel = grpc.insecure_channel(address, local)
    with channel, suppress(grpc.RpcError):
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=TIMEOUT
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def scrape(metrics: str) -> bool:
    """Whether the HTTP port has metrics, and says that a worker is ready."""
    try:
        for path in ("metrics", "readyz"):
            with urllib.request.urlopen(f"http://{metrics}/{path}", timeout=TIMEOUT) as answer:
                answer.read()
    except (OSError, http.client.HTTPException):
        return False
    return True


def main() -> None:
    """Samples until standard input closes."""
    found: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def ask(replica: str, kind: str, question: Callable[[], bool]) -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            late = time.monotonic() - due
            good = question()
            end = time.monotonic()
            found.append((replica, kind, end, late, good))
            due = max(due + PERIOD, end)

    threads = []
    for argument in sys.argv[1:]:
        name, address, metrics, ca = argument.split(",")
        asked: dict[str, Callable[[], bool]] = {
            "health": partial(health, address, Path(ca)),
            "http": partial(scrape, metrics),
        }
        threads += [threading.Thread(target=ask, args=(name, *item)) for item in asked.items()]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
