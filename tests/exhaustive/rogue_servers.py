"""Thousands of calls to a rogue server, blocking and with asyncio.

    python tests/exhaustive/rogue_servers.py            5,000 rogue streams for each client
    python tests/exhaustive/rogue_servers.py 42         replays the calls of seed 42

What holds for each: it ends in time, with the right values or with an error of the package; and if
a healthy server is there too, with the right values. `tests/client/test_rogue_servers.py` makes
some hundred.
"""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import initclient as ic
import numpy as np
from initclient import aio
from safetensors.numpy import load_file

from tests.client.http2 import Http2Server
from tests.client.lies import PLAN, Rogue, described

STREAMS = 5000
AT_ONCE = 16
SLACK = 15.0
"""Seconds of a busy machine on top of every bound."""

RETRY = ic.Retry(
    attempts=3, base_delay=0.001, max_delay=0.01, idle_timeout=1.0, patience=0.5, stall_timeout=4.0
)
TIMEOUT = 3.0
# What the kinds of calls are, by the seed: the method, whether it has a timeout, and a healthy
# server beside the rogue one.
METHODS = ("fetch", "fetch_file", "describe", "fetch")


@dataclass
class Case:
    """One call.

    Attributes:
        seed: chooses the rogue server's lies.
        method: the method of the client.
        timeout: the timeout of the call.
        saved: whether there is a healthy server too.
    """

    seed: int

    def __post_init__(self) -> None:
        self.method = METHODS[self.seed % len(METHODS)]
        self.timeout = TIMEOUT if self.seed // 4 % 2 else None
        self.saved = self.seed // 8 % 2 == 1

    @property
    def answered(self) -> str:
        """The method of the server."""
        return "describe" if self.method == "describe" else "fetch"

    def call(self, module: Any, rogue: str, healthy: str, folder: str) -> Any:
        """The call, of the package or of its asyncio half."""
        arguments = self.arguments(rogue, healthy)
        if self.method == "fetch_file":
            return module.fetch_file(PLAN, self.path(folder), **arguments)
        return getattr(module, self.method)(PLAN, **arguments)

    def path(self, folder: str) -> Path:
        """Where the file goes."""
        return Path(folder, "out.safetensors")

    def arguments(self, rogue: str, healthy: str) -> dict[str, Any]:
        """The arguments of the call."""
        target = [rogue, healthy] if self.saved else rogue
        found: dict[str, Any] = {"target": target, "timeout": self.timeout, "retry": RETRY}
        if self.method == "describe":
            found["fingerprints"] = self.seed % 3 == 0
        return found

    def check(self, result: Any, seconds: float, folder: str) -> str:
        """The name of the outcome; raises AssertionError for one that must not be."""
        bound = RETRY.longest_stall if self.timeout is None else self.timeout
        assert seconds < bound + SLACK, f"took {seconds:.1f} s, {bound} s were allowed"
        if isinstance(result, BaseException):
            known = ic.InitserveError | ic.PlanError
            assert isinstance(result, known), f"not an error of the package: {result!r}"
            text = str(result)
            assert text.replace("\n", "").isprintable(), repr(text)
            assert len(text) < 20_000, len(text)
            late = isinstance(result, ic.DeadlineError) and self.timeout is not None
            assert not self.saved or late, f"the healthy server did not save it: {result!r}"
            assert not self.path(folder).exists(), "a file was published"
        elif self.method == "fetch_file":
            found = load_file(self.path(folder))
            assert found.keys() == EXPECTED.keys()
            for name, values in EXPECTED.items():
                np.testing.assert_array_equal(found[name], values)
        elif self.method == "fetch":
            for name, values in EXPECTED.items():
                np.testing.assert_array_equal(result[name], values)
        else:
            assert result.tensors[0].name == "w"
            assert result.size == DESCRIBED.size
        return type(result).__name__


EXPECTED = ic.fetch(PLAN, target="local")
DESCRIBED = ic.describe(PLAN, target="local")


class Run:
    """Cases, their outcomes, and the rogue streams that they met."""

    def __init__(self, healthy: str) -> None:
        self.healthy = healthy
        self.outcomes: Counter[str] = Counter()
        self.lies: Counter[str] = Counter()
        self.streams = 0
        self.longest = 0.0

    def note(self, case: Case, rogue: Rogue, result: Any, seconds: float, folder: str) -> None:
        """Checks and counts an outcome."""
        try:
            self.outcomes[case.check(result, seconds, folder)] += 1
        except AssertionError as error:
            if isinstance(result, BaseException):
                error.__cause__ = result
            error.add_note(f"seed {case.seed}: {case}, {rogue.told}")
            raise
        self.lies.update(rogue.told)
        self.streams += len(rogue.told)
        self.longest = max(self.longest, seconds)

    def blocking(self, case: Case) -> None:
        """A blocking call."""
        rogue = Rogue(case.seed, case.answered)
        with TemporaryDirectory() as folder:
            with Http2Server(rogue) as server:
                start = time.monotonic()
                try:
                    result = case.call(ic, server.address, self.healthy, folder)
                except Exception as error:
                    result = error
                seconds = time.monotonic() - start
            self.note(case, rogue, result, seconds, folder)

    async def with_asyncio(self, case: Case) -> None:
        """A call of asyncio."""
        rogue = Rogue(case.seed, case.answered)
        server = Http2Server(rogue)
        with TemporaryDirectory() as folder:
            start = time.monotonic()
            try:
                result = await case.call(aio, server.address, self.healthy, folder)
            except Exception as error:
                result = error
            seconds = time.monotonic() - start
            await asyncio.to_thread(server.close)
            self.note(case, rogue, result, seconds, folder)

    def all_blocking(self, seeds: Iterable[int], streams: float) -> None:
        """Cases until there were as many rogue streams."""
        waiting = iter(seeds)

        def work() -> None:
            while self.streams < streams and (seed := next(waiting, None)) is not None:
                self.blocking(Case(seed))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for future in [pool.submit(work) for _ in range(AT_ONCE)]:
                future.result()

    async def all_with_asyncio(self, seeds: Iterable[int], streams: float) -> None:
        """The same with asyncio."""
        waiting = iter(seeds)

        async def work() -> None:
            while self.streams < streams and (seed := next(waiting, None)) is not None:
                await self.with_asyncio(Case(seed))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())


def honest_server() -> Http2Server:
    """A healthy server of plans and descriptions."""
    fetch, describe = Rogue(0, "fetch", 0), Rogue(0, "describe", 0)

    def answer(connection: Any, request: bytes) -> None:
        # Of the two requests, only Fetch has the digest.
        (fetch if b'"\x40' in request else describe)(connection, request)

    return Http2Server(answer)


def main() -> None:
    """Runs one seed, or as many as give all streams."""
    replayed = [int(text) for text in sys.argv[1:]]
    warnings.simplefilter("ignore", ic.PlanWarning)
    described(False)
    described(True)
    for kind in ("blocking", "asyncio"):
        with honest_server() as server:
            run, start = Run(server.address), time.monotonic()
            seeds = range(replayed[0], replayed[0] + 1) if replayed else range(10**6)
            if kind == "blocking":
                run.all_blocking(seeds, STREAMS)
            else:
                asyncio.run(run.all_with_asyncio(seeds, STREAMS))
        seconds = time.monotonic() - start
        calls = sum(run.outcomes.values())
        print(
            f"{kind}: {run.streams} rogue streams in {calls} calls, {seconds:.0f} s; the longest "
            f"call took {run.longest:.1f} s"
        )
        print(f"  outcomes: {dict(run.outcomes.most_common())}")
        print(f"  lies: {dict(run.lies.most_common())}")


if __name__ == "__main__":
    main()
