"""Calls of each kind, to try in an environment: `python environment_calls.py PLAIN TLS CA`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import initclient as ic

FINE = "fine"


def outcomes(plain: str, tls: str, ca: str) -> dict[str, str]:
    """FINE or the error of calls to a server without TLS, to one with it, and of this process.

    Args:
        plain: the address of a server without TLS.
        tls: that of a server with TLS.
        ca: the file of its authority.
    """
    plan = ic.Plan({"w": ic.ones((2,))})
    retry = ic.Retry(attempts=2, base_delay=0.01)

    def outcome(call: Callable[[], Mapping[str, Any]]) -> str:
        try:
            return FINE if call()["w"].tolist() == [1, 1] else "wrong values"
        except (
            ic.InitserveError,
            ic.PlanError,
            ic.CheckpointError,
            ic.BackendError,
            ValueError,
        ) as error:
            return f"{type(error).__name__}: {error}".replace("\n", " ")

    trusting, system = ic.Credentials(ca=ca), ic.Credentials(tls=True)
    return {
        "plain": outcome(lambda: ic.fetch(plan, target=plain, retry=retry, timeout=60)),
        "ca": outcome(lambda: ic.fetch(plan, target=tls, credentials=trusting, retry=retry)),
        "system": outcome(lambda: ic.fetch(plan, target=tls, credentials=system, retry=retry)),
        "local": outcome(lambda: ic.fetch(plan, target="local")),
        "default": outcome(lambda: ic.fetch(plan, retry=retry)),
    }


if __name__ == "__main__":
    print(json.dumps(outcomes(*sys.argv[1:])))
