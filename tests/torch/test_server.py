"""From a server: the same bits, and from each rank a request for its own part only."""

from __future__ import annotations

import initclient.torch as ict
import torch
from initserver import Server, ServerConfig
from torch import nn


def test_a_server_fills_a_model_as_this_process_does() -> None:
    here, there = nn.LSTM(8, 16), nn.LSTM(8, 16)
    plan = ict.plan(here, seed=7)
    ict.init_(here, plan, target="local")
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5)) as server:
        ict.init_(there, plan, server.address)
    for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
        assert torch.equal(ours, theirs)
