"""Speed of a fetch over loopback by number of streams.

    python benchmarks/streams.py [BACKEND [MEBIBYTES]]

Servers and client share this machine, so that they take each other's processors. The ways
alternate, so that a busy machine slows all of them, and the best of the rounds is shown.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import initclient as ic

ROUNDS = 5


def main(backend: str, mebibytes: int) -> None:
    command = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0", "--cache-bytes", "0"]
    command += ["--backend", backend]
    servers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        one, two = (address(server) for server in servers)
        ways: dict[str, dict[str, Any]] = {
            "1 stream": {"target": one, "streams": 1},
            "2 streams": {"target": one, "streams": 2},
            "4 streams": {"target": one, "streams": 4},
            "2 streams, 2 servers": {"target": [one, two], "streams": 2},
        }
        for name, make in (("normal F32", ic.normal), ("zeros F32", ic.zeros)):
            best = dict.fromkeys(ways, 0.0)
            for seed in range(ROUNDS):
                plan = ic.Plan({"w": make((mebibytes, 512, 512))}, seed)
                for way, arguments in ways.items():
                    start = time.perf_counter()
                    ic.fetch(plan, **arguments)
                    speed = mebibytes * 2**20 / (time.perf_counter() - start) / 1e6
                    best[way] = max(best[way], speed)
            for way, speed in best.items():
                print(f"{name:11} {way:21} {speed:6.0f} MB/s")
    finally:
        for server in servers:
            server.kill()


def address(server: subprocess.Popen[str]) -> str:
    assert server.stderr
    for line in server.stderr:
        if " listening at " in line:
            return line.split(" listening at ")[1].split(",")[0]
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "auto", int(given[1]) if len(given) > 1 else 512)
