"""Downloads over loopback beside what grpcio itself can do; see README.md here.

    python benchmarks/serving.py [--quick]

Servers and clients share this machine, so that they take each other's processors. The ceiling is
a server of grpcio that sends one constant chunk of the same size again and again, to clients that
only count bytes: no checksums, no memory to put them in. One chunk stays in the processor's cache.
So there are two more ceilings, with all that has to be done to data and nothing else: one server
reads as many chunks as the file has from memory, the other draws them, and their clients checksum
them and write them to their place.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from _turns import Row, compared, cpus, print_part, take_turns
from initcore.wire import crc32c

_PEER = str(Path(__file__).parent / "_peer.py")
_SEEDS = itertools.count(1000)

# The server of grpcio that does to data what each service has to do, and nothing else.
_LEAST = {"cached": "grpcio, file", "generated": "grpcio, drawn"}


class Server:
    """A server process and what it and its workers used."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0", *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.target = self._address()

    def _address(self) -> str:
        assert self._process.stderr
        for line in self._process.stderr:
            if " listening at " in line:
                return line.split(" listening at ")[1].split(",")[0]
        raise SystemExit("the server did not start")

    def processor_seconds(self) -> float:
        """CPU seconds so far."""
        return sum(_cpu(pid) for pid in self._pids())

    def peak_memory(self) -> float:
        """MiB at most, summed over processes."""
        return sum(_status(pid, "VmHWM") for pid in self._pids()) / 1024

    def _pids(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class Ceiling(Server):
    """grpcio and nothing else.

    Args:
        mebibytes: chunks of a download.
        kind: "ceiling" sends one chunk again and again, "file" a whole file, "drawn" draws it.
    """

    def __init__(self, mebibytes: int, kind: str = "ceiling") -> None:
        self.order = "ceiling" if kind == "ceiling" else "checked"
        command = [sys.executable, _PEER, kind, str(mebibytes)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.target = f"127.0.0.1:{self._process.stdout.readline().strip()}"


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


class Clients:
    """Client processes that have imported everything and wait."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, _PEER, "client"]
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)
        ]

    def fetch(self, count: int, **order: Any) -> tuple[float, float]:
        """All of the first `count` at once: seconds until the last is done, CPU seconds of all."""
        began = time.perf_counter()
        for process in self._processes[:count]:
            assert process.stdin
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        used = 0.0
        for process in self._processes[:count]:
            assert process.stdout
            used += json.loads(process.stdout.readline())[1]
        return time.perf_counter() - began, used

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def rows(quick: bool) -> Iterator[Row]:
    """Every kind of service at every number of clients, in turns."""
    mebibytes, turns = (64, 3) if quick else (256, 7)
    counts = [1, 2] if quick else [1, 2, 4, 8, 16]
    cache = ["--cache-bytes", str(4 * mebibytes << 20)]
    none = ["--cache-bytes", "0"]
    with ExitStack() as stack:
        servers: dict[str, Server] = {
            "ceiling": stack.enter_context(Ceiling(mebibytes)),
            _LEAST["cached"]: stack.enter_context(Ceiling(mebibytes, "file")),
            _LEAST["generated"]: stack.enter_context(Ceiling(mebibytes, "drawn")),
            "cached": stack.enter_context(Server(*cache)),
            "generated": stack.enter_context(Server(*none)),
        }
        servers["cached, new memory"] = servers["cached"]
        if len(cpus()) > 1:
            servers["generated, 2 workers"] = stack.enter_context(Server(*none, "--workers", "2"))
        clients = stack.enter_context(Clients(counts[-1]))
        for server in servers.values():
            clients.fetch(counts[-1], **_order(server, mebibytes))
        alone = {"cached": _receiving_seconds()}
        alone["generated"] = alone["cached"] + _kernel_seconds()
        for count in counts:
            yield from _turns(servers, clients, count, mebibytes, turns if count < 8 else 3, alone)


def _kernel_seconds() -> float:
    """CPU seconds that making a gigabyte takes, and nothing else."""
    elements = 1 << 17
    fill = workloads.filler("native", workloads.normal(), "BF16", elements)
    return min(take_turns({"fill": fill}, 500)["fill"]) / (elements * 2 / 1e9)


def _receiving_seconds() -> float:
    """CPU seconds that a client's checksums and writes take for a gigabyte, and nothing else."""
    # So much more than a cache holds, that each turn writes to memory, as a client does.
    received, chunks = np.ones(1 << 20, dtype=np.uint8), 256
    place = np.ones(chunks << 20, dtype=np.uint8)

    def receive() -> None:
        for begin in range(0, place.size, received.size):
            crc32c(received.data)
            place[begin : begin + received.size] = received

    return min(take_turns({"receive": receive}, 5)["receive"]) / (place.size / 1e9)


def _order(
    server: Server, mebibytes: int, seed: int = 7, new_memory: bool = False
) -> dict[str, Any]:
    what = server.order if isinstance(server, Ceiling) else "fetch"
    about = {"mebibytes": mebibytes, "seed": seed, "new_memory": new_memory}
    return {"what": what, "target": server.target, **about}


def _turns(
    servers: dict[str, Server],
    clients: Clients,
    count: int,
    mebibytes: int,
    turns: int,
    alone: Mapping[str, float],
) -> Iterator[Row]:
    speeds: dict[str, list[float]] = {name: [] for name in servers}
    sides: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    gigabytes = count * mebibytes * 2**20 / 1e9
    for _ in range(turns):
        for name, server in servers.items():
            # Another seed each time where nothing is to come from earlier turns.
            seed = 7 if name.startswith("cached") else next(_SEEDS)
            order = _order(server, mebibytes, seed, name.endswith("new memory"))
            before = server.processor_seconds()
            seconds, used = clients.fetch(count, **order)
            speeds[name].append(gigabytes / seconds)
            spent = server.processor_seconds() - before
            sides[name].append((spent / gigabytes, used / gigabytes))
    where = f"{count} client{'s' if count > 1 else ''}"
    reach = {"cached": 0.9, "generated": 0.7} if count == 1 else {}
    for name in servers:
        if name != "ceiling":
            yield compared(
                speeds[name],
                speeds["ceiling"],
                larger_is_better=True,
                group="Serving normal bf16, beside grpcio's own ceiling",
                name=name,
                where=where,
                unit="GB/s",
                against="grpcio",
                reach=reach.get(name),
            )
    for name, least in _LEAST.items():
        yield compared(
            speeds[name],
            speeds[least],
            larger_is_better=True,
            group="Serving normal bf16, beside grpcio that reads or draws, checks and writes",
            name=name,
            where=where,
            unit="GB/s",
            against="grpcio",
        )
    # Where both sides together have only these processors, nothing is faster than this.
    grpcio = sum(min(each[side] for each in sides["ceiling"]) for side in (0, 1))
    for name, seconds in alone.items():
        yield compared(
            [len(cpus()) / (grpcio + seconds)],
            [max(speeds["ceiling"])],
            larger_is_better=True,
            group="The most that these CPUs do: seconds of grpcio, checksums, writes and draws",
            name=name,
            where=where,
            unit="GB/s",
            against="grpcio",
        )
    if "generated, 2 workers" in servers and count > 1:
        yield compared(
            speeds["generated, 2 workers"],
            speeds["generated"],
            larger_is_better=True,
            group="Serving with two worker processes, beside one",
            name="generated",
            where=where,
            unit="GB/s",
            against="1 process",
        )
    for index, side in enumerate(("server", "client")):
        for name in servers:
            yield Row(
                group=f"CPU seconds per GB, {side}",
                name=name,
                where=where,
                ours=min(each[index] for each in sides[name]),
                unit="s/GB",
                turns=turns,
            )
    for name, server in servers.items():
        yield Row(
            group="Peak memory of the server so far",
            name=name,
            where=where,
            ours=server.peak_memory(),
            unit="MiB",
        )


if __name__ == "__main__":
    print_part(__doc__, rows)
