"""icj.init where trainers begin: meshes, partition specs, train states, Orbax; equinox."""

from __future__ import annotations

import doctest
import importlib
from dataclasses import dataclass
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.jax.launching import run
from tests.jax.training import SCENARIOS


def test_trainers_begin_as_their_examples_do() -> None:
    (text,) = run(["-m", "tests.jax.training"], devices=8)
    for scenario in SCENARIOS:
        assert f"{scenario.__name__} done" in text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["_init", "_rules", "_verify", "orbax"])
def test_the_examples_of_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"initclient.jax.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


TREE = {"a": {"w": jax.ShapeDtypeStruct((4, 2), "float32")}, "b": jax.ShapeDtypeStruct((2,), "f4")}


def plan_of(tree: Any) -> ic.Plan:
    return icj.plan(tree, [icj.rule("*", ic.normal)], seed=3)


def mesh(*names: str) -> Mesh:
    return Mesh(np.array(jax.devices()[:1]).reshape([1] * len(names)), names)


def test_shardings_may_be_one_for_a_whole_part_of_the_tree() -> None:
    by_rows = NamedSharding(mesh("x"), PartitionSpec("x"))
    for shardings in (by_rows, {"a": by_rows, "b": None}, {"a": {"w": by_rows}, "b": by_rows}):
        made = icj.init(TREE, plan_of(TREE), "local", out_shardings=shardings)
        assert made["a"]["w"].sharding == by_rows
        assert icj.verify(made, plan_of(TREE), "local").ok
    with pytest.raises(ValueError, match="out_shardings"):
        icj.init(TREE, plan_of(TREE), "local", out_shardings={"c": by_rows})


def test_a_partition_spec_needs_the_mesh_of_a_context() -> None:
    spec = PartitionSpec("x")
    with pytest.raises(ic.PlanError, match=r"'a/w': sharding: does not fit: .* no devices; call"):
        icj.init(TREE, plan_of(TREE), "local", out_shardings=spec)
    with jax.set_mesh(mesh("x")):
        made = icj.init(TREE, plan_of(TREE), "local", out_shardings=spec)
        assert made["b"].sharding.spec == spec
        with pytest.raises(ic.PlanError, match=r"names \['y'\], and the mesh .* axes \['x'\]"):
            icj.init(TREE, plan_of(TREE), "local", out_shardings=PartitionSpec("y"))
    with pytest.raises(ic.PlanError, match="'data' is no sharding; give one"):
        icj.init(TREE, plan_of(TREE), "local", out_shardings="data")


@jax.tree_util.register_dataclass
@dataclass
class Module:
    """As modules of equinox are: a tree of arrays, functions, numbers and text."""

    weight: Any
    activation: Any = jax.nn.gelu
    rate: float = 0.25
    name: str = "net"
    inference: bool = False


def test_what_is_no_array_of_a_module_stays_as_it_is() -> None:
    tree = [Module(jax.ShapeDtypeStruct((4, 2), "float32")), Module(np.zeros((2,), "float32"))]
    plan = plan_of(tree)
    assert tuple(plan.tensors) == ("0/weight", "1/weight")
    by_rows = NamedSharding(mesh("x"), PartitionSpec("x"))
    made = icj.init(tree, plan, "local", out_shardings=by_rows)
    assert made[0].weight.sharding == by_rows
    assert (made[0].activation, made[0].rate, made[1].name) == (jax.nn.gelu, 0.25, "net")
    assert icj.verify(made, plan, "local").agreed == tuple(plan.tensors)


def test_numbers_in_plain_trees_are_refused() -> None:
    with pytest.raises(ic.PlanError, match=r"'scale': shape: this leaf is 1.0, which has no shape"):
        icj.plan({"scale": 1.0})
    assert icj.plan(
        {"act": jax.nn.relu, "bias": jax.ShapeDtypeStruct((2,), "f4")}
    ).tensors.keys() == {"bias"}
