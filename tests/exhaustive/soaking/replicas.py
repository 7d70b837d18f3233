"""Replicas of a soak: servers with workers that are killed, stopped and started again."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import initclient as ic
import psutil

from tests.server.certificates import Authority
from tests.server.processes import wait_for
from tests.server.test_rotation import rename_over, swap_the_folder, write_in_place

GRACE = 3.0
SETTINGS = (
    *("--backend", "numpy", "--workers", "2", "--threads", "1", "--grace", f"{GRACE:.0f}"),
    *("--max-streams", "8", "--max-stall-seconds", "2", "--max-connection-age", "20"),
    *("--cache-bytes", "64MiB", "--matrix-cache-bytes", "16MiB"),
)
START_SECONDS = 120.0
WAYS: list[Callable[[Path, bytes], None]] = [write_in_place, rename_over, swap_the_folder]


class Replica:
    """A server at ports that stay the same from start to start.

    Args:
        name: its name, also of its folder.
        folder: where its folder is made.
        authority: signs its certificate; None means neither TLS nor tokens.

    Attributes:
        address: HOST:PORT of the service.
        metrics: HOST:PORT of metrics and probes.
        credentials: what clients need.
        temporary: the folder for its temporary files.
        outages: when it was down on purpose: pairs of monotonic times.
        busy: held while somebody kills, stops or starts it.
    """

    def __init__(self, name: str, folder: Path, authority: Authority | None = None) -> None:
        self.name = name
        self.folder = folder / name
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.address, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.outages: list[tuple[float, float]] = []
        self.busy = threading.Lock()
        self.credentials: ic.Credentials | None = None
        self._authority = authority
        self._arguments = ["--listen", self.address, "--metrics-listen", self.metrics, *SETTINGS]
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_workers = 0
        self._last_fault = 0.0
        if authority is not None:
            self._secure(authority)

    def _secure(self, authority: Authority) -> None:
        (self.folder / "ca").write_bytes(authority.pem)
        # Each in a folder of its own, which a rotation may swap.
        self._tls, self._tokens = self.folder / "tls", self.folder / "tokens" / "tokens"
        self._token = self.folder / "token" / "token"
        self._tls.mkdir()
        cert, key = authority.sign("server").write(self._tls, "server")
        for path in (self._tokens, self._token):
            path.parent.mkdir()
            path.write_text("first-token\n")
            path.chmod(0o600)
        self._arguments += ["--tls-cert", cert, "--tls-key", key]
        self._arguments += ["--token-file", str(self._tokens)]
        self.credentials = ic.Credentials(ca=self.folder / "ca", token_file=self._token)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "initserver", *self._arguments],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"TMPDIR": str(self.temporary)},
            )
        self._ended_workers = 0
        wait_for(lambda: self.is_ready() or self._has_ended(), START_SECONDS, self._log)
        if self._has_ended():
            raise AssertionError(f"{self.name} does not start: {self.log()}")

    def is_ready(self) -> bool:
        """Whether it says that it takes calls."""
        with suppress(OSError), urllib.request.urlopen(f"http://{self.metrics}/readyz", timeout=5):
            return True
        return False

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def log(self) -> str:
        """Its log since its start."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The supervisor first, then workers and the process that stands by."""
        found = []
        with suppress(psutil.NoSuchProcess):
            assert self._process is not None
            found = [psutil.Process(self._process.pid)]
            found += [one for one in found[0].children() if is_worker(one)]
        return found

    def stands_by(self) -> bool:
        """Whether a process can take the place of a worker that is killed."""
        return len(re.findall(r" stands by\n", self.log())) > self._ended_workers

    def end_worker(self, draw: random.Random, kill: bool, at_least_after: float) -> bool:
        """Kills or stops one of the workers, unless no other could take its place at once."""
        with self.busy:
            if time.monotonic() < self._last_fault + at_least_after or not self.stands_by():
                return False
            victim = draw.choice(self.processes()[1:])
            self._ended_workers += 1
            self._last_fault = time.monotonic()
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            return True

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Time in which it is down on purpose; it is ready again at the end."""
        with self.busy:
            began = time.monotonic()
            try:
                yield
                self.start()
            finally:
                self.outages.append((began, time.monotonic()))
                self._last_fault = time.monotonic()

    def kill(self) -> None:
        """Kills all of its processes, as a machine that goes down does."""
        everything = self.processes()
        for one in everything:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._wait(everything)

    def kill_supervisor(self) -> None:
        """Kills the process above the workers, which drain then by themselves."""
        everything = self.processes()
        everything[0].kill()
        self._wait(everything)

    def stop(self) -> tuple[int, float]:
        """Stops it with SIGTERM; the exit status, and how many seconds it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        status = self._process.wait(60)
        return status, time.monotonic() - began

    def _wait(self, everything: list[psutil.Process]) -> None:
        assert self._process is not None
        self._process.wait()
        _, alive = psutil.wait_procs(everything, 60)
        if alive:
            raise AssertionError(f"{self.name}: {alive} did not end within 60 s")

    def rotate_certificate(self, draw: random.Random) -> None:
        """Replaces certificate and key, one after the other."""
        assert self._authority is not None
        pair, write = self._authority.sign("server"), draw.choice(WAYS[:2])
        # A server that starts in between finds two files that do not belong together.
        with self.busy:
            write(self._tls / "server.crt", pair.cert)
            write(self._tls / "server.key", pair.key)

    def rotate_token(self, draw: random.Random, pause: float) -> None:
        """Lets a new token in, moves the clients to it, and removes the old one."""
        new, write = f"token-{draw.getrandbits(64):x}\n".encode(), draw.choice(WAYS)
        write(self._tokens, self._token.read_bytes() + new)
        time.sleep(pause)
        write(self._token, new)
        time.sleep(pause)
        write(self._tokens, new)

    def close(self) -> None:
        """Ends all of its processes."""
        with self.busy:
            if self._process is not None:
                self.kill()


def is_worker(process: psutil.Process) -> bool:
    """Whether a child is a worker, and not a helper of multiprocessing, and has not ended."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(
            process.cmdline()
        )
    return False


def free_port() -> int:
    """A free port below those that the system gives to connections.

    Otherwise another process could take it while the replica is down.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
