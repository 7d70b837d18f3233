"""A server's model by name, and what every verb must give of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
from initclient import aio
from initclient._transport.receiver import Receiver
from initserver import Server, ServerConfig
from torch import nn

NAME = "acme/small"
PLAN = ict.record(nn.Linear, 40, 30).plan(seed=7)


def started(folder: Path, plan: ic.Plan, settings: str = "") -> Server:
    """A server that has a plan as the model `NAME`, with these settings of its folder."""
    place = folder / NAME
    place.mkdir(parents=True)
    (place / "initserve.yaml").write_text(settings)
    ic.dump_plan(plan, place / "plan.yaml")
    return Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, models=str(folder)))


def are_of(plan: ic.Plan, weights: dict[str, Any]) -> bool:
    """Whether weights of any framework are the plan's, to the bit."""
    want = ic.fetch(plan, target="local")
    return set(weights) == set(want) and all(
        np.array_equal(np.asarray(weights[name]), value) for name, value in want.items()
    )


def check_verbs(model: ic.Model, plan: ic.Plan, address: str, folder: Path) -> None:
    """Every verb that takes a plan takes the model, and gives what the plan gives."""
    assert are_of(plan, ic.fetch(model, target=address, check=2))
    assert are_of(plan, ic.Client(address).fetch(model))
    assert are_of(plan, asyncio.run(aio.fetch(model, target=address)))
    path = ic.fetch_file(model, folder / "one.safetensors", target=address)
    assert ic.verify(path, model, target=address)
    parts = ic.fetch_file(model, folder / "parts", target=address, shard_size=4000)
    assert ic.verify(parts, plan, target="local")
    assert ic.describe(model, target=address).digest == plan.digest
    assert ic.get_plan(model, target=address) == plan
    layer = nn.Linear(40, 30)
    ict.init_(layer, model, address)
    assert are_of(plan, layer.state_dict())
    assert ict.verify(layer, model, target=address)


def sent_requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that gets each request for a download."""
    sent: list[Any] = []
    make = Receiver.request

    def noted(receiver: Receiver, server: str) -> Any:
        sent.append(make(receiver, server))
        return sent[-1]

    monkeypatch.setattr(Receiver, "request", noted)
    return sent
