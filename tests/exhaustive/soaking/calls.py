"""Calls of a soak: each result is compared with what this process computes by itself."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
from initclient import aio

from tests.client.proxies import Kind, Mischief, proxied
from tests.exhaustive.soaking.ledger import Ledger
from tests.exhaustive.soaking.replicas import Replica
from tests.exhaustive.soaking.tunnel import Tunnel

RETRY = ic.Retry(attempts=200, base_delay=0.05, max_delay=1.0, idle_timeout=5.0, patience=300)
TIMEOUT = 300.0
FAULTS: tuple[Kind, ...] = ("cut", "delay", "stall", "duplicate", "flip", "drop")


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ends a fetch in the middle."""


class Subject:
    """A plan, and all that is true of it."""

    def __init__(self, plan: ic.Plan, folder: Path, name: str) -> None:
        self.plan = plan
        self.arrays = ic.fetch(plan, target="local")
        self.description = ic.describe(plan, target="local", fingerprints=True)
        self.path = ic.fetch_file(plan, folder / name, target="local")
        self.digest = digest(self.path)
        self.size = self.path.stat().st_size

    def check(self, found: dict[str, Any]) -> None:
        """Raises AssertionError unless these are the plan's arrays."""
        assert list(found) == list(self.arrays)
        for name, values in self.arrays.items():
            assert values.dtype == found[name].dtype, name
            assert values.shape == found[name].shape, name
            assert values.tobytes() == found[name].tobytes(), f"{name} has other bits"


def subjects(folder: Path) -> list[Subject]:
    """The plans that are fetched: small, with matrices, and a file of several blocks."""
    small = {
        "wte": ic.normal((100, 64), std=0.02, dtype="bfloat16"),
        "fc.weight": ic.kaiming_uniform((64, 100), a=5**0.5),
        "fc.bias": ic.zeros((64,)),
        "ln": ic.ones((64,)),
    }
    matrices = {
        "q": ic.orthogonal((96, 96)),
        "t": ic.trunc_normal((500, 100), std=0.02, dtype="bfloat16"),
        "s": ic.sparse((128, 64), sparsity=0.1),
        "n": ic.normal((700, 1000)),
    }
    large = {f"h.{n}": ic.uniform((1250, 1000), a=-1, b=1) for n in range(5)}
    plans = [ic.Plan(kind, seed=n) for n, kind in enumerate((small, matrices, large))]
    return [Subject(plan, folder, f"{n}.safetensors") for n, plan in enumerate(plans)]


class Calls:
    """Threads that call the replicas again and again.

    Args:
        ledger: where outcomes are noted.
        replicas: one without TLS, and one with TLS and tokens.
        tunnel: ends TLS before the one without it.
        folder: where files are written.
        subjects: what is fetched.
    """

    def __init__(
        self,
        ledger: Ledger,
        replicas: Sequence[Replica],
        tunnel: Tunnel,
        folder: Path,
        subjects: Sequence[Subject],
    ) -> None:
        self._ledger, self._folder, self._subjects = ledger, folder, subjects
        open_one, secure = replicas
        self._targets: list[tuple[list[str], ic.Credentials | None]] = [
            ([open_one.address], None),
            ([secure.address], secure.credentials),
            ([secure.address, tunnel.address], secure.credentials),
        ]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.kinds: dict[str, Callable[[random.Random, Path], None]] = {
            "fetch": self._fetch,
            "fetch, check=3": self._check,
            "fetch of shards": self._shards,
            "fetch through a faulty proxy": self._proxied,
            "fetch_file": self._file,
            "fetch_file, resumed": self._resumed,
            "describe with fingerprints": self._describe,
            "verify": self._verify,
        }
        self.asyncio_kinds: dict[str, Callable[[random.Random, Path], Awaitable[None]]] = {
            "aio.fetch": self._aio_fetch,
            "aio.fetch_file, cancelled, resumed": self._aio_file,
            "aio.describe": self._aio_describe,
        }

    def start(self, seed: str, blocking: int = 3, tasks: int = 2) -> None:
        """Calls in so many threads, and in so many tasks of another one, until `end`."""
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._work, args=(f"{seed}-{n}",)) for n in range(blocking)
        ]
        self._threads.append(threading.Thread(target=self._work_async, args=(seed, tasks)))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Waits until the running calls have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self, seed: str) -> None:
        draw = random.Random(seed)
        while not self._stop.is_set():
            for kind in draw.sample(list(self.kinds), len(self.kinds)):
                if self._stop.is_set():
                    return
                with Outcome(self._ledger, kind, self._folder / seed) as folder:
                    self.kinds[kind](draw, folder)

    def _work_async(self, seed: str, tasks: int) -> None:
        async def work(number: int) -> None:
            name = f"{seed}-task-{number}"
            draw = random.Random(name)
            kinds = self.asyncio_kinds
            while not self._stop.is_set():
                for kind in draw.sample(list(kinds), len(kinds)):
                    if self._stop.is_set():
                        return
                    with Outcome(self._ledger, kind, self._folder / name) as folder:
                        await kinds[kind](draw, folder)

        async def all_tasks() -> None:
            await asyncio.gather(*(work(number) for number in range(tasks)))

        asyncio.run(all_tasks())

    def _drawn(self, draw: random.Random) -> tuple[Subject, dict[str, Any]]:
        target, credentials = draw.choice(self._targets)
        options = {"target": target, "credentials": credentials, "retry": RETRY}
        return draw.choice(self._subjects), options | {"timeout": TIMEOUT}

    def _fetch(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        subject.check(ic.fetch(subject.plan, **options))

    def _check(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        subject.check(ic.fetch(subject.plan, check=3, **options))

    def _shards(self, draw: random.Random, folder: Path) -> None:
        """As processes of a trainer do: each asks for its rows of some tensors."""
        subject, options = self._drawn(draw)
        ranks = draw.randrange(2, 9)
        for rank in range(ranks)[:3]:
            names = draw.sample(list(subject.arrays), 2)
            cuts = {}
            for name in names:
                rows = subject.arrays[name].shape[0]
                cuts[name] = (slice(rows * rank // ranks, rows * (rank + 1) // ranks),)
            found = ic.fetch(subject.plan.select(names).shard(cuts), **options)
            assert set(found) == set(names)
            for name in names:
                wanted = subject.arrays[name][cuts[name]]
                assert wanted.shape == found[name].shape, name
                assert wanted.tobytes() == found[name].tobytes(), f"{name} has other bits"

    def _proxied(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        secure = options["credentials"] is not None
        faults = [
            Mischief(kind, draw.randrange(1, subject.size), draw.randrange(8), 0.2, secure)
            for kind in draw.sample(FAULTS, 3)
        ]
        with proxied(options["target"][0], faults) as proxy:
            options["target"] = [proxy.address, *options["target"][1:]]
            subject.check(ic.fetch(subject.plan, **options))
            for fault in proxy.done:
                self._ledger.happened(f"a connection with the fault {fault.kind!r}")

    def _file(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        path = ic.fetch_file(subject.plan, folder / "x", **options)
        self._check_file(subject, path)

    def _check_file(self, subject: Subject, path: Path) -> None:
        assert digest(path) == subject.digest, f"{path} has other bytes"
        assert [one.name for one in path.parent.iterdir()] == [path.name]
        path.unlink()

    def _resumed(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._subjects[-1], self._drawn(draw)[1]
        ends = draw.random()

        def progress(done: int, total: int) -> None:
            if done > ends * total:
                raise Interrupted

        with suppress(Interrupted):
            ic.fetch_file(subject.plan, folder / "x", progress=progress, **options)
        if (folder / "x.initserve.part").exists():
            self._ledger.happened("a partial file that was kept")
        self._check_file(subject, ic.fetch_file(subject.plan, folder / "x", **options))

    def _describe(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        found = ic.describe(subject.plan, fingerprints=True, **options)
        assert found == subject.description, "another description"

    def _verify(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        assert len(ic.verify(subject.path, subject.plan, **options).agreed) == len(subject.arrays)
        name = draw.choice(list(subject.arrays))
        wrong = np.frombuffer(bytearray(subject.arrays[name].tobytes()), np.uint8)
        wrong[draw.randrange(len(wrong))] ^= 1 << draw.randrange(8)
        damaged = wrong.view(subject.arrays[name].dtype).reshape(subject.arrays[name].shape)
        with suppress(ic.VerificationError):
            ic.verify(subject.arrays | {name: damaged}, subject.plan, **options)
            raise AssertionError(f"verify does not see a flipped bit of {name}")

    async def _aio_fetch(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        subject.check(await aio.fetch(subject.plan, **options))

    async def _aio_file(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._subjects[-1], self._drawn(draw)[1]
        with suppress(TimeoutError):
            async with asyncio.timeout(draw.random()):
                await aio.fetch_file(subject.plan, folder / "x", **options)
        path = await aio.fetch_file(subject.plan, folder / "x", **options)
        self._check_file(subject, path)

    async def _aio_describe(self, draw: random.Random, folder: Path) -> None:
        subject, options = self._drawn(draw)
        found = await aio.describe(subject.plan, fingerprints=True, **options)
        assert found == subject.description, "another description"


class Outcome:
    """Notes how a call ended; gives it a folder that has to be empty when it ends well."""

    def __init__(self, ledger: Ledger, kind: str, folder: Path) -> None:
        self._ledger, self._kind, self._folder = ledger, kind, folder
        self._began = time.monotonic()

    def __enter__(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        left = sorted(path.name for path in self._folder.iterdir())
        if error is None and left:
            error = AssertionError(f"the call left {left}")
        if error is None:
            self._ledger.called(self._kind, time.monotonic() - self._began)
            return True
        self._ledger.broke(f"{self._kind} ({self._folder.name})", error)
        shutil.rmtree(self._folder, ignore_errors=True)
        return isinstance(error, Exception)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
