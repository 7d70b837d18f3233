"""Trees that are verified: on up to eight devices, or as one process of several.

Run by tests/jax/test_verify.py, with eight host devices, or with a process's number, the count
and a coordinator's address. SERVER is a server's address, FOLDER an empty folder.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from initclient.jax.orbax import PlanHandler
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.jax import trees
from tests.jax.layouts import layouts


def flipped(array: jax.Array, number: int, place: int = -1) -> tuple[jax.Array, tuple[int, ...]]:
    """The array with one bit flipped in one of this process's copies, and the bit's position.

    Args:
        array: the array.
        number: the copy, in the order of the addressable shards.
        place: the element, counted within the copy.
    """
    pieces, position = [], ()
    for count, shard in enumerate(array.addressable_shards):
        values = np.array(shard.data)
        if count == number:
            flat = values.reshape(-1).view(f"u{values.itemsize}")
            flat[place] ^= 1
            local = np.unravel_index(place % values.size, values.shape)
            starts = [part.start or 0 for part in shard.index]
            position = tuple(int(a + b) for a, b in zip(starts, local, strict=True))
        pieces.append(jax.device_put(values, shard.device))
    return (
        jax.make_array_from_single_device_arrays(array.shape, array.sharding, pieces),
        position,
    )


def found(tree: Any, plan: ic.Plan, target: str) -> tuple[str, ic.WrongPart]:
    """The one tensor that differs, and its one wrong part."""
    with pytest.raises(ic.VerificationError) as caught:
        icj.verify(tree, plan, target)
    (mismatch,) = caught.value.report.mismatches
    (part,) = mismatch.parts
    assert len(caught.value.report.agreed) == len(plan.tensors) - 1
    return mismatch.name, part


def on_devices() -> None:
    plan, server = trees.plan(), os.environ["SERVER"]
    reports = set()
    for count in (1, 2, 4, 8):
        for name, sharding_of in layouts(count).items():
            made = icj.init(trees.tree(sharding_of), plan, "local")
            targets = ("local", server) if name == "mesh" else ("local",)
            for target in targets:
                report = icj.verify(made, plan, target)
                assert report.agreed == tuple(plan.tensors), (count, name)
                reports.add((report.plan_digest, tuple(report.fingerprints.items())))
            print(f"{count} devices: {name}", flush=True)
            square = plan.select(["square"])
            for number, shard in enumerate(made["square"].addressable_shards):
                spoiled, position = flipped(made["square"], number, 5)
                wrong, part = found({"square": spoiled}, square, "local")
                assert (wrong, part.elements, part.first) == ("square", 1, position), (count, name)
                assert part.device == ("" if count == 1 else str(shard.device))
            if server not in targets:
                continue
            # A server sends fingerprints alone, which name the part.
            wrong, part = found({**made, "square": spoiled}, plan, server)
            assert (wrong, part.elements) == ("square", None)
            assert part.device == ("" if count == 1 else str(shard.device))
            assert all(a <= at < b for at, (a, b) in zip(position, part.bounds, strict=True))
            print(f"{count} devices with a server", flush=True)
    assert len(reports) == 1, "the fingerprints are those of whole tensors, in every layout"


def as_one_of(rank: int, count: int, coordinator: str) -> None:
    # XLA's CPU client asks for it where JAX is old.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes=count, process_id=rank)
    mesh = Mesh(np.array(jax.devices()).reshape(count, -1), ("data", "model"))
    for target in ("local", os.environ["SERVER"]):
        for spec in (P("data"), P(None, "model"), P("model", "data"), P()):
            verify_shards(mesh, spec, rank, target)
            print(f"process {rank}: {spec} {target == 'local'}", flush=True)
    failures(mesh, rank)
    print(f"process {rank}: failures", flush=True)
    a_run_that_orbax_starts(mesh)
    print(f"process {rank}: Orbax", flush=True)


def verify_shards(mesh: Mesh, spec: P, rank: int, target: str) -> None:
    sharding = NamedSharding(mesh, spec)
    tree = {
        name: jax.ShapeDtypeStruct((8, 12), kind, sharding=sharding)
        for name, kind in (("w", "float32"), ("v", "bfloat16"))
    }
    plan = icj.plan(tree, [icj.rule("*", ic.normal)], seed=3)
    seen: list[tuple[int, int]] = []
    made = icj.init(tree, plan, "local", progress=lambda *each: seen.append(each))
    boxes = {str(shard.index): shard.data.size for shard in made["w"].addressable_shards}
    assert seen[-1] == (6 * sum(boxes.values()),) * 2, "each process makes its own shards alone"
    # Axes that are explicit, as in a model's own code, are no matter.
    with contextlib.ExitStack() as stack:
        if hasattr(jax, "set_mesh"):
            stack.enter_context(jax.set_mesh(mesh))
        report = icj.verify(made, plan, target, progress=lambda *each: seen.append(each))
    assert report.agreed == ("v", "w")
    assert seen[-1] == (6 * sum(boxes.values()),) * 2, "and compares them alone"

    # A bit on one device of the last process: all processes report the same.
    spoiled, wanted = dict(made), {}
    last = jax.process_count() - 1
    device = [one for one in jax.devices() if one.process_index == last][-1]
    if rank == last:
        spoiled["w"], position = flipped(made["w"], len(made["w"].addressable_shards) - 1)
        wanted = {"first": position, "elements": 1} if target == "local" else {}
    name, part = found(spoiled, plan, target)
    assert (name, part.rank, part.device) == ("w", last, str(device))
    assert {key: getattr(part, key) for key in wanted} == wanted
    # This process's shards alone, without the others.
    if rank == last:
        with pytest.raises(ic.VerificationError, match="1 of 2 tensors differs"):
            icj.verify(spoiled, plan, target, local=True)
    else:
        assert icj.verify(spoiled, plan, target, local=True).agreed == ("v", "w")


def failures(mesh: Mesh, rank: int) -> None:
    """What one process meets, all report."""
    last = jax.process_count() - 1
    whole = NamedSharding(mesh, P())
    tree = {"w": jax.ShapeDtypeStruct((4, 4), "float32", sharding=whole)}
    plan = icj.plan(tree, [icj.rule("*", ic.normal)], seed=3)
    made = icj.init(tree, plan, "local")
    if rank == last:
        with pytest.raises(ValueError, match=r"'w' is ShapeDtypeStruct.*no values to verify"):
            icj.verify(tree, plan, "local")
    else:
        with pytest.raises(ic.InitserveError, match=f"rank {last} could not verify its part"):
            icj.verify(made, plan, "local")
    with pytest.raises(ic.InitserveError, match="the same plan and seed on every process"):
        icj.verify(made, plan, "local", seed=rank)
    # Half of the processes has a leaf that the others do not know of.
    more = {**made, "extra": jax.numpy.zeros(2)} if rank == 0 else made
    with pytest.raises(ic.VerificationError, match="extra: is there and not in the plan"):
        icj.verify(more, plan, "local")
    # An array on the devices of one process: the others hold nothing of it.
    alone = NamedSharding(Mesh(np.array(jax.local_devices(process_index=0)), ("one",)), P("one"))
    tree = {"w": jax.ShapeDtypeStruct((4, 4), "float32", sharding=alone)}
    one = icj.init(tree, plan, "local")
    assert icj.verify(one, plan, "local").agreed == ("w",)
    assert math.prod(one["w"].shape) == 16


def a_run_that_orbax_starts(mesh: Mesh) -> None:
    """Each process restores its own shards of a plan, which one of them has stored."""
    sharding = NamedSharding(mesh, P("data", "model"))
    tree = {"w": jax.ShapeDtypeStruct((8, 12), "float32", sharding=sharding)}
    plan = icj.plan(tree, [icj.rule("*", ic.normal)], seed=3)
    seen: list[tuple[int, int]] = []
    handler = PlanHandler("local", progress=lambda *each: seen.append(each))
    with ocp.CheckpointManager(
        os.environ["FOLDER"], handler_registry=handler.registry()
    ) as manager:
        manager.save(0, args=ocp.args.StandardSave(plan))
        manager.wait_until_finished()
        made = manager.restore(0, args=ocp.args.StandardRestore(tree))
    assert seen[-1] == (4 * 8 * 12 // jax.process_count(),) * 2
    assert icj.verify(made, plan, "local").agreed == ("w",)


if __name__ == "__main__":
    # Orbax has warnings of its own.
    warnings.simplefilter("error", ic.PlanWarning)
    if len(sys.argv) == 1:
        on_devices()
    else:
        as_one_of(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
