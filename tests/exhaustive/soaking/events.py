"""Events of a soak: faults of servers, disks and callers, drawn by the seed."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import pytest
from initcore.wire.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from tests.exhaustive.soaking.calls import RETRY, TIMEOUT, Subject, digest
from tests.exhaustive.soaking.ledger import Ledger
from tests.exhaustive.soaking.replicas import GRACE, Replica
from tests.server.rude import RudeConnection

FETCH = "initserve.v1.InitService/Fetch"

# Seconds between two faults of workers of one replica: killed faster than they start, they leave
# a gap.
BETWEEN_FAULTS = 10.0
# Seconds after a replica is back until the next one goes.
BETWEEN_OUTAGES = 5.0
# Seconds after which servers and clients have seen a new token.
SETTLE = 3.0
# Seconds that rude callers stay.
STAY = 6.0
PAUSES = (0.5, 3.0)

LIMITED = """
import resource, sys, initclient as ic
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
ic.fetch_file(sys.argv[1], sys.argv[2], target=sys.argv[3])
"""


class Events:
    """Draws events and lets them happen, several at a time.

    Args:
        ledger: where they are noted.
        replicas: one without TLS, and one with TLS and tokens.
        folder: where files are written.
        large: a plan of several MiB.
        slack: seconds of a busy machine on top of the bounds of a stop.
    """

    def __init__(
        self,
        ledger: Ledger,
        replicas: Sequence[Replica],
        folder: Path,
        large: Subject,
        slack: float,
    ) -> None:
        self._ledger, self._replicas, self._folder = ledger, replicas, folder
        self._large, self._slack = large, slack
        self._one_outage, self._one_rotation = threading.Lock(), threading.Lock()
        self._faulty = list(replicas)
        self.kinds: dict[str, Callable[[random.Random], bool]] = {
            "a worker killed": self._kill_worker,
            "a worker stopped": self._stop_worker,
            "a replica killed": self._kill_replica,
            "a supervisor killed": self._kill_supervisor,
            "a replica stopped": self._stop_replica,
            "a full disk": self._full_disk,
            "readers that never read": self._readers,
            "rude callers": self._rude,
            "rude callers of the metrics port": self._rude_metrics,
            "a certificate rotated": self._rotate_certificate,
            "a token rotated": self._rotate_token,
        }

    def spare(self, replica: Replica) -> None:
        """From now on no process of this replica is killed or stopped."""
        self._faulty = [one for one in self._replicas if one is not replica]

    def run(
        self, seed: str, seconds: float, tick: Callable[[], None], *, each: bool = False
    ) -> None:
        """Lets events happen for this long.

        Args:
            seed: draws the events.
            seconds: how long.
            tick: called between events.
            each: begin with one of each kind, and go on until all of these have begun.
        """
        draw = random.Random(seed)
        end = time.monotonic() + seconds
        missing = draw.sample(list(self.kinds), len(self.kinds) if each else 0)
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(6) as pool:
            while time.monotonic() < end or missing:
                kind = missing.pop() if missing else draw.choice(list(self.kinds))
                running = {one for one in running if not one.done()}
                if len(running) < 6:
                    running.add(pool.submit(self._happen, kind, random.Random(draw.random())))
                else:
                    missing.append(kind)
                tick()
                time.sleep(draw.uniform(*PAUSES))

    def _happen(self, kind: str, draw: random.Random) -> None:
        try:
            if self.kinds[kind](draw):
                self._ledger.happened(kind)
        except Exception as error:
            self._ledger.broke(f"event: {kind}", error)

    def _end_worker(self, draw: random.Random, kill: bool) -> bool:
        """Waits until a fault may come."""
        replica = draw.choice(self._faulty)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and replica in self._faulty:
            if replica.end_worker(draw, kill, BETWEEN_FAULTS):
                how = "killed" if kill else "stopped"
                self._ledger.begins(f"a worker {how} ({replica.name})")
                return True
            time.sleep(0.1)
        return False

    def _kill_worker(self, draw: random.Random) -> bool:
        return self._end_worker(draw, kill=True)

    def _stop_worker(self, draw: random.Random) -> bool:
        return self._end_worker(draw, kill=False)

    @contextmanager
    def _outage(self, draw: random.Random) -> Iterator[Replica]:
        """One replica is down at a time: the other one has to serve."""
        with self._one_outage:
            replica = draw.choice(self._faulty)
            self._ledger.begins(f"an outage ({replica.name})")
            with replica.outage():
                yield replica
            time.sleep(BETWEEN_OUTAGES)

    def _kill_replica(self, draw: random.Random) -> bool:
        with self._outage(draw) as replica:
            replica.kill()
        return True

    def _kill_supervisor(self, draw: random.Random) -> bool:
        with self._outage(draw) as replica:
            replica.kill_supervisor()
        return True

    def _stop_replica(self, draw: random.Random) -> bool:
        with self._outage(draw) as replica:
            status, seconds = replica.stop()
        assert status == 0, f"{replica.name} ended with {status}: {replica.log()}"
        # The supervisor waits another second before it kills workers.
        bound = GRACE + 1 + self._slack
        assert seconds < bound, f"{replica.name} stopped after {seconds:.1f} s, not {bound} s"
        return True

    def _full_disk(self, draw: random.Random) -> bool:
        replica = draw.choice(self._replicas)
        self._ledger.begins(f"a full disk ({replica.name})")
        if os.geteuid() or draw.random() < 0.3:
            return self._full_for_a_child()
        folder = self._folder / f"disk-{draw.getrandbits(64):x}"
        folder.mkdir()
        size = 2 * self._large.size
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True
        )
        options: dict[str, Any] = {"target": replica.address, "credentials": replica.credentials}
        options |= {"retry": RETRY, "timeout": TIMEOUT}
        try:
            ballast = folder / "ballast"
            ballast.write_bytes(bytes(size - self._large.size // 2))
            with pytest.raises(OSError, match="no space"):
                ic.fetch_file(self._large.plan, folder / "x", **options)
            assert [*folder.iterdir()] == [ballast]
            ballast.unlink()
            ic.fetch_file(self._large.plan, folder / "x", **options)
            assert digest(folder / "x") == self._large.digest, "other bytes on a small disk"
            assert [one.name for one in folder.iterdir()] == ["x"]
        finally:
            subprocess.run(["umount", str(folder)], check=True)
            folder.rmdir()
        return True

    def _full_for_a_child(self) -> bool:
        """A limit on the size of files, in a process of its own."""
        folder = self._folder / f"limited-{threading.get_ident()}"
        folder.mkdir()
        plan = folder / "plan.yaml"
        ic.dump_plan(self._large.plan, plan)
        command = [sys.executable, "-c", LIMITED, str(plan), str(folder / "x")]
        ended = subprocess.run(
            [*command, self._replicas[0].address], capture_output=True, text=True, timeout=120
        )
        assert "File too large" in ended.stderr, ended.stderr
        assert [*folder.iterdir()] == [plan]
        plan.unlink()
        folder.rmdir()
        return True

    def _readers(self, draw: random.Random) -> bool:
        """More than --max-streams, over one connection, so that one worker has them all."""
        replica = draw.choice(self._replicas)
        self._ledger.begins(f"readers that never read ({replica.name})")
        request = service_pb2.FetchRequest(plan=to_proto(self._large.plan))
        with ExitStack() as stack, suppress(grpc.RpcError, OSError):
            if replica.credentials is None:
                rude = stack.enter_context(RudeConnection(replica.address))
                for _ in range(12):
                    rude.call(FETCH, request.SerializeToString())
            else:
                ca = grpc.ssl_channel_credentials((replica.folder / "ca").read_bytes())
                channel = stack.enter_context(grpc.secure_channel(replica.address, ca))
                stub = service_pb2_grpc.InitServiceStub(channel)
                for _ in range(12):
                    metadata = replica.credentials.metadata()
                    call = stub.Fetch(request, metadata=metadata, timeout=60)
                    with suppress(grpc.RpcError):
                        next(call)
                    stack.callback(call.cancel)
            time.sleep(STAY)
        return True

    def _rude(self, draw: random.Random) -> bool:
        """Silence, half a preface, bytes without sense, and calls without a request."""
        replica = draw.choice(self._replicas)
        self._ledger.begins(f"rude callers ({replica.name})")
        with ExitStack() as stack, suppress(OSError):
            for _ in range(10):
                rude = stack.enter_context(RudeConnection(replica.address))
                for _ in range(5):
                    rude.begin(draw.choice([FETCH, "grpc.health.v1.Health/Check", "a/b"]))
            self._drip(stack, replica.address, draw)
        return True

    def _rude_metrics(self, draw: random.Random) -> bool:
        """More connections than the port takes, each with a part of a request."""
        replica = draw.choice(self._replicas)
        self._ledger.begins(f"rude callers of the metrics port ({replica.name})")
        with ExitStack() as stack, suppress(OSError):
            self._drip(stack, replica.metrics, draw, 80)
        return True

    def _drip(self, stack: ExitStack, address: str, draw: random.Random, count: int = 20) -> None:
        """Connections that send a few bytes from time to time."""
        host, _, port = address.rpartition(":")
        opened = []
        for _ in range(count):
            with suppress(OSError):
                opened.append(socket.create_connection((host, int(port)), 5))
                stack.enter_context(opened[-1])
        beginnings = [b"", b"PRI * HTTP/2.0\r\n", b"GET /metrics HTTP/1.1\r\n", draw.randbytes(50)]
        for connection in opened:
            with suppress(OSError):
                connection.sendall(draw.choice(beginnings))
        end = time.monotonic() + STAY
        while time.monotonic() < end:
            time.sleep(0.5)
            for connection in opened:
                with suppress(OSError):
                    connection.sendall(b"x")

    def _rotate_certificate(self, draw: random.Random) -> bool:
        self._ledger.begins("a certificate rotated (secure)")
        self._replicas[1].rotate_certificate(draw)
        return True

    def _rotate_token(self, draw: random.Random) -> bool:
        with self._one_rotation:
            self._ledger.begins("a token rotated (secure)")
            self._replicas[1].rotate_token(draw, SETTLE)
        return True
