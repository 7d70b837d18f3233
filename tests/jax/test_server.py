"""JAX arrays from a server, in the requested kind of memory."""

from __future__ import annotations

from pathlib import Path

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
from initserver import Server, ServerConfig
from jax.sharding import Mesh, NamedSharding, PartitionSpec

TREE = {"w": jax.ShapeDtypeStruct((6, 4), "float32")}


PLAN = icj.plan(TREE, [icj.rule("w", ic.normal)], seed=3)


def test_a_server_that_asks_for_a_token_gets_it(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token\n")
    tokens.chmod(0o600)
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, token_file=str(tokens))
    with Server(config) as server:
        with pytest.raises(ic.AuthenticationError):
            icj.init(TREE, PLAN, server.address)
        given = ic.Credentials(token="a-token")
        made = icj.init(TREE, PLAN, server.address, credentials=given)
    assert np.array_equal(np.asarray(made["w"]), ic.fetch(PLAN, target="local")["w"])


def test_an_array_goes_into_the_memory_that_its_sharding_names() -> None:
    mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
    kinds = {m.kind for m in jax.devices()[0].addressable_memories()}
    for kind in sorted(kinds):
        sharding = NamedSharding(mesh, PartitionSpec(), memory_kind=kind)
        tree = {"w": jax.ShapeDtypeStruct((6, 4), "float32", sharding=sharding)}
        made = icj.init(tree, PLAN, "local")["w"]
        assert made.sharding.memory_kind == kind
        assert np.array_equal(np.asarray(made), ic.fetch(PLAN, target="local")["w"])
