"""One tree on 1, 2, 3, 4 and 8 devices in every layout, held against a safetensors file.

Run by tests/jax/test_layouts.py with eight host devices, a server and the file.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
import safetensors
from initcore.dtypes import DTYPES
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from tests.jax import trees
from tests.meters import sent

ShardingOf = Callable[[tuple[int, ...]], Sharding]


def layouts(count: int) -> dict[str, ShardingOf]:
    """Rows, columns and a mesh of two dimensions, of this many devices."""
    line = Mesh(np.array(jax.devices()[:count]), ("all",))
    first = 2 if count % 2 == 0 else 1
    grid = Mesh(np.array(jax.devices()[:count]).reshape(first, -1), ("data", "model"))

    def along(mesh: Mesh, *names: str | None) -> ShardingOf:
        def of(shape: tuple[int, ...]) -> Sharding:
            if len(shape) < 2:
                # A vector lies on all devices, so several hold the same shard.
                return NamedSharding(mesh, P())
            fits = [
                name if name and size % mesh.shape[name] == 0 else None
                for name, size in zip(names, shape[-2:], strict=True)
            ]
            return NamedSharding(mesh, P(*[None] * (len(shape) - 2), *fits))

        return of

    return {
        "rows": along(line, "all", None),
        "columns": along(line, None, "all"),
        "mesh": along(grid, "data", "model"),
        "mesh, one axis replicated": along(grid, "model", None),
    }


def by_name(found: Any) -> dict[str, jax.Array]:
    paths = jax.tree_util.tree_leaves_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def with_one_bit_flipped(array: jax.Array) -> jax.Array:
    """The same array, but for the lowest bit of an element in the last shard."""
    index = array.addressable_shards[-1].index
    pieces = []
    for shard in array.addressable_shards:
        values = np.array(shard.data)
        if shard.index == index:
            values.view(np.uint32)[-1, -1] ^= 1
        pieces.append(jax.device_put(values, shard.device))
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, pieces)


def equal_to_file(found: Any, wanted: dict[str, np.ndarray]) -> bool:
    arrays = by_name(found)
    assert arrays.keys() == wanted.keys()
    return all(bits(np.asarray(arrays[name])) == bits(wanted[name]) for name in arrays)


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """The file's tensors; the library's own reader for NumPy does not know float8."""
    return {
        name: np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]].numpy).reshape(tensor["shape"])
        for name, tensor in safetensors.deserialize(path.read_bytes())
    }


def bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.dtype.itemsize, array.tobytes()


def main(path: str) -> None:
    plan = trees.plan()
    wanted = tensors_of(Path(path))
    seen = 0
    for count in (1, 2, 3, 4, 8):
        for name, sharding_of in layouts(count).items():
            tree = trees.tree(sharding_of)
            made = icj.init(tree, plan, "local")
            for leaf, array in zip(jax.tree.leaves(tree), jax.tree.leaves(made), strict=True):
                assert array.sharding == leaf.sharding
                assert array.dtype == leaf.dtype
            assert equal_to_file(made, wanted), (count, name)
            assert ic.verify(by_name(made), plan, target="local").ok
            spoiled = {**by_name(made), "square": with_one_bit_flipped(made["square"])}
            with pytest.raises(ic.VerificationError) as caught:
                ic.verify(spoiled, plan, target="local")
            assert [one.name for one in caught.value.report.mismatches] == ["square"]
            seen += 1
    print(f"{seen} layouts equal the file, and are verified")

    # Eight devices hold the same, and the server sends it once.
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), P())
    tree = trees.tree(lambda shape: everywhere)
    before, size = sent(), os.path.getsize(path)
    made = icj.init(tree, plan, os.environ["SERVER"])
    got = sent(before + size // 2) - before
    assert equal_to_file(made, wanted)
    assert got < 1.1 * size, (got, size)
    print("what eight devices hold is sent once")

    # Replicas share memory on the CPU; one that is given away leaves the others as they were.
    array = made["square"]
    added = jax.jit(lambda x: x + 1, donate_argnums=0)(array)
    assert np.array_equal(np.asarray(added), wanted["square"] + 1)
    assert all(np.array_equal(shard.data, added[shard.index]) for shard in added.addressable_shards)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(sys.argv[1])
