"""One process of several that share a mesh: it receives its shard, and never holds more.

Run by tests/jax/test_layouts.py with its number, the count and a coordinator's address.
"""

from __future__ import annotations

import os
import sys

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.counting import counted
from tests.meters import memory, sent

SHAPE = (6144, 4096)
WHOLE = 4 * SHAPE[0] * SHAPE[1]


def main(rank: int, count: int, coordinator: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes=count, process_id=rank)
    mesh = Mesh(np.array(jax.devices()), ("all",))
    for target in (os.environ["SERVER"], "local"):
        # What a first time costs, such as loading gRPC, is no part of a model.
        small = {"w": jax.ShapeDtypeStruct((64, 64), "float32")}
        icj.init(small, icj.plan(small, [icj.rule("w", ic.normal)]), target)
        for spec in (P("all"), P(None, "all")):
            measure(mesh, spec, rank, count, target)
            print(f"process {rank}: {spec} from {target}", flush=True)

    # A leaf on the devices of another process costs this one nothing.
    elsewhere = Mesh(np.array(jax.devices()[:1]), ("one",))
    tree = {"w": jax.ShapeDtypeStruct((4, 4), "float32", sharding=NamedSharding(elsewhere, P()))}
    array = icj.init(tree, icj.plan(tree, [icj.rule("w", ic.normal)]), "local")["w"]
    assert len(array.addressable_shards) == (1 if rank == 0 else 0)
    assert array.shape == (4, 4)


def measure(mesh: Mesh, spec: P, rank: int, count: int, target: str) -> None:
    tree = {"w": jax.ShapeDtypeStruct(SHAPE, "float32", sharding=NamedSharding(mesh, spec))}
    plan = icj.plan(tree, [icj.rule("w", ic.normal)], seed=3)
    share = WHOLE // count
    for turn in range(count):
        multihost_utils.sync_global_devices(f"{target} {spec} {turn}")
        if turn != rank:
            continue
        remote = target != "local"
        bytes_before, held_before = sent() if remote else 0, memory("VmRSS")
        with counted() as made:
            array = icj.init(tree, plan, target)["w"]
        # No less than what it rose by: the peak may be one of an earlier time.
        rise = memory("VmHWM") - held_before
        print(f"{spec}: the peak rose by {rise / share:.2f} of the share", flush=True)
        assert rise < 1.5 * share < WHOLE, (spec, rise, share)
        if remote:
            got = sent(bytes_before + share) - bytes_before
            assert share <= got < 1.01 * share, (spec, got, share)
        else:
            assert share <= made.nbytes <= 1.05 * share, (spec, made.nbytes, share)
        # What was measured is the real thing.
        (shard,) = array.addressable_shards
        rows, columns = (part.start or 0 for part in shard.index)
        corner = plan.shard({"w": ((rows, rows + 2), (columns, columns + 2))})
        wanted = ic.fetch(corner, target="local")["w"]
        assert (np.asarray(shard.data)[:2, :2] == wanted).all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
