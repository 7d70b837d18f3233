"""A process that uses a client, forks, and uses it again, many times.

Run by tests/client/test_forks.py with the number of forks and a server's address; it prints how
many children fetched the right bits, and ends with status 1 if one did not.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import initclient as ic
import numpy as np

PLAN = ic.Plan({"w": ic.normal((64, 32)), "b": ic.uniform((7,))}, seed=7)
SECONDS = 20


def main(forks: int, address: str) -> int:
    want = ic.fetch(PLAN, target="local", backend="numpy")
    client = ic.Client(address, timeout=SECONDS)
    ended: dict[str, int] = {}
    for number in range(forks):
        # An open connection, one that is just being closed, and one of a single call.
        check(ic.fetch(PLAN, target=address) if number % 3 == 2 else client.fetch(PLAN), want)
        if number % 3 == 1:
            client.close()
        child = os.fork()
        if child == 0:
            os._exit(in_child(client, want))
        outcome = end_of(child)
        ended[outcome] = ended.get(outcome, 0) + 1
    check(client.fetch(PLAN), want)
    print(f"of {forks} children: {ended}")
    return 0 if ended == {"right": forks} else 1


def check(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert all(got[name].tobytes() == want[name].tobytes() for name in want)


def in_child(client: ic.Client, want: dict[str, np.ndarray]) -> int:
    try:
        check(client.fetch(PLAN), want)
    except BaseException as error:
        print(f"child: {error!r}", flush=True)
        return 1
    return 0


def end_of(child: int) -> str:
    deadline = time.monotonic() + SECONDS + 10
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return "right" if code == 0 else f"status {code}"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
