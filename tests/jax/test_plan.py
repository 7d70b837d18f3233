"""A plan from a tree: names, rules, Flax's defaults, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from safetensors.numpy import save_file


def shape(*sizes: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


TREE = {
    "params": {
        "layers": [{"kernel": shape(6, 4), "bias": shape(4)}],
        "head": {"kernel": shape(4, 3, dtype="bfloat16")},
    }
}


def test_a_name_is_the_path_to_the_leaf() -> None:
    plan = icj.plan(TREE, seed=3)
    assert list(plan.tensors) == [
        "params/head/kernel",
        "params/layers/0/bias",
        "params/layers/0/kernel",
    ]
    assert plan.seed == 3
    head = plan.tensors["params/head/kernel"]
    assert (head.shape, head.dtype) == ((4, 3), "BF16")


def test_names_may_be_ones_own() -> None:
    def short(name: str) -> str:
        return name.removeprefix("params/").replace("/", ".")

    plan = icj.plan(TREE, name=short)
    assert list(plan.tensors) == ["head.kernel", "layers.0.bias", "layers.0.kernel"]
    made = icj.init(TREE, plan, "local", name=short)
    wanted = ic.fetch(plan, target="local")["head.kernel"]
    assert np.array_equal(np.asarray(made["params"]["head"]["kernel"]), wanted)


def test_two_leaves_of_one_name_are_refused() -> None:
    with pytest.raises(ic.PlanError, match="tensor 'w': name: two leaves"):
        icj.plan(TREE, name=lambda name: "w")


def test_the_first_rule_that_matches_decides() -> None:
    plan = icj.plan(
        TREE,
        [
            icj.rule("*/head/kernel", ic.zeros),
            icj.rule(re.compile(r".*/layers/\d+/bias"), ic.constant, val=0.5),
            icj.rule("*kernel", ic.he_normal, layout="jax"),
        ],
    )
    schemes = {name: tensor.scheme for name, tensor in plan.tensors.items()}
    assert list(schemes.values()) == ["zeros", "constant", "he_normal"]
    assert plan.tensors["params/layers/0/kernel"].layout == "jax"


def test_a_rule_without_effect_is_reported() -> None:
    rules = [icj.rule("*", ic.ones), icj.rule("*/head/*", ic.zeros)]
    with pytest.warns(ic.PlanWarning, match=r"rule\('\*/head/\*', zeros\) has no effect"):
        icj.plan(TREE, rules)


def test_a_leaf_that_no_rule_covers_is_named_with_a_rule_for_it() -> None:
    tree = {"pos": shape(4), "experts": {"kernel": shape(8, 6, 4)}, **TREE}
    with pytest.raises(ic.PlanError) as caught:
        icj.plan(tree)
    assert [violation.tensor for violation in caught.value.violations] == ["experts/kernel", "pos"]
    first, second = map(str, caught.value.violations)
    assert "record the model's own code: icj.record(lambda: ...).plan(seed=...)" in first
    assert "record" not in second
    assert "rule('experts/kernel', ic.lecun_normal, layout='jax'), with batch_axes=(0,)" in first
    assert "rule('pos', ic.zeros)" in second


def test_no_noise_is_suggested_for_a_norm_of_stacked_layers() -> None:
    tree = {"layers": {"norm": {"weight": shape(12, 8)}, "w": shape(12, 8, 8)}}
    with pytest.raises(ic.PlanError) as caught:
        icj.plan(tree)
    found = {one.tensor: one.message for one in caught.value.violations}
    assert "rule('layers/norm/weight', ic.ones)" in found["layers/norm/weight"]
    assert "rule('layers/w', ic.lecun_normal, layout='jax')" in found["layers/w"]


@pytest.mark.parametrize(
    "tree",
    [
        # A stack of Dense layers, with and without biases: the first axis is no input.
        {"kernel": shape(8, 6, 4), "bias": shape(8, 4)},
        {"kernel": shape(8, 6, 4)},
        {"embedding": shape(8, 10, 4)},
        # Recurrent cells draw orthogonal matrices under names like others.
        {"hi": {"kernel": shape(4, 4)}, "hf": {"kernel": shape(4, 4)}, "ii": {"bias": shape(4)}},
        {"dense_h": {"kernel": shape(4, 4)}, "dense_i": {"kernel": shape(4, 4)}},
        # A statistic by itself is somebody's own.
        {"mean": shape(4)},
        {"w": shape(4, 4)},
    ],
)
def test_where_names_and_shapes_leave_a_doubt_there_is_no_default(tree: Any) -> None:
    with pytest.raises(ic.PlanError, match="no rule covers this leaf"):
        icj.plan(tree)


def test_another_element_type_for_what_is_floating() -> None:
    tree = {"w": shape(4), "step": shape(dtype="int32")}
    plan = icj.plan(tree, [icj.rule("*", ic.ones)], dtype="float16")
    assert {name: tensor.dtype for name, tensor in plan.tensors.items()} == {
        "w": "F16",
        "step": "I32",
    }


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (3.0, "tensor 'w': shape: this leaf is 3.0, which has no shape"),
        (jax.eval_shape(lambda: jax.random.key(0)), r"tensor 'w': dtype: is key<fry>.*nnx\.Param"),
    ],
)
def test_leaves_that_are_no_weights_are_named(leaf: Any, message: str) -> None:
    with pytest.raises(ic.PlanError, match=message):
        icj.plan({"w": leaf})


def test_rules_are_checked_where_they_are_made() -> None:
    with pytest.raises(TypeError, match="a rule matches by 3"):
        icj.rule(3, ic.zeros)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the initializer .* is 'zeros'"):
        icj.rule("*", "zeros")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="shape comes from the tree"):
        icj.rule("*", ic.zeros, shape=(3,))
    with pytest.raises(TypeError, match="among the rules"):
        icj.plan(TREE, ["*"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"rule\('\*', zeros, size=1\) does not fit params/head"):
        icj.plan(TREE, [icj.rule("*", ic.zeros, size=1)])


ONES = [icj.rule("*", ic.ones)]


def test_a_plan_that_does_not_fit_the_tree_is_refused_before_anything_is_made() -> None:
    plan = icj.plan({"a": shape(4), "b": shape(4)}, ONES)
    tree = {"a": shape(5), "b": shape(4, dtype="float16"), "c": shape(1)}
    with pytest.raises(ic.PlanError) as caught:
        icj.init(tree, plan, "local")
    assert list(map(str, caught.value.violations)) == [
        "tensor 'a': shape: is [4] in the plan and [5] in the tree",
        "tensor 'b': dtype: is F32 in the plan and F16 in the tree; make them alike",
        "tensor 'c': name: the tree has this leaf and the plan does not; plan the same tree",
    ]


def test_a_part_of_what_a_plan_describes_has_to_be_said_to_be_one() -> None:
    plan = icj.plan({"a": shape(4), "b": shape(3), "c": shape(2)}, ONES)
    with pytest.raises(ic.PlanError, match=r"tensor 'b': name: .*like 1 others.* partial=True"):
        icj.init({"a": shape(4)}, plan, "local")
    assert list(icj.init({"a": shape(4)}, plan, "local", partial=True)) == ["a"]


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64"])
def test_64_bits_are_refused_where_jax_has_them_switched_off(dtype: str) -> None:
    tree = {"w": jax.ShapeDtypeStruct((4,), np.dtype(dtype))}
    plan = icj.plan(tree, ONES)
    with pytest.raises(ic.PlanError, match=r"tensor 'w': dtype: is .64.*jax_enable_x64"):
        icj.init(tree, plan, "local")
    with jax.enable_x64(True):
        made = icj.init(tree, plan, "local")["w"]
    assert made.dtype == dtype
    assert (np.asarray(made) == 1).all()


def test_a_sharding_without_devices_is_named() -> None:
    mesh = AbstractMesh((2,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    tree = {"w": jax.ShapeDtypeStruct((4,), "float32", sharding=sharding)}
    with pytest.raises(ic.PlanError, match="tensor 'w': sharding: does not fit"):
        icj.init(tree, icj.plan(tree, ONES), "local")


def test_arrays_are_templates_too() -> None:
    tree = {"w": jax.numpy.zeros((3, 4))}
    plan = icj.plan(tree, [icj.rule("w", ic.normal)], seed=5)
    made = icj.init(tree, plan, "local")["w"]
    assert np.array_equal(np.asarray(made), ic.fetch(plan, target="local")["w"])
    assert not np.asarray(tree["w"]).any()


def test_the_public_names_are_these() -> None:
    assert set(icj.__all__) == {
        *("Initializer", "Recording", "Rule", "init", "plan", "record", "rule", "verify")
    }


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
def test_leaves_may_come_from_a_checkpoint(tmp_path: Path) -> None:
    body = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_file({"body": body}, tmp_path / "trained.safetensors")
    tree = {"body": shape(4, 3), "head": shape(3, 2)}
    plan = ic.Plan(
        {"body": ic.pretrained((4, 3), "trained.safetensors"), "head": ic.normal((3, 2))}
    )
    made = icj.init(tree, plan, "local", checkpoints=tmp_path)
    assert np.array_equal(np.asarray(made["body"]), body)
    with pytest.raises(ic.PlanError, match="body': checkpoint: needs a folder of checkpoints"):
        icj.init(tree, plan, "local")
    part = icj.init({"head": shape(3, 2)}, plan, "local", partial=True)
    assert np.array_equal(np.asarray(part["head"]), np.asarray(made["head"]))


@pytest.mark.parametrize("dtype", ["int4", "complex64"])
def test_element_types_that_plans_do_not_know_are_named_with_the_choices(dtype: str) -> None:
    tree = {"w": jax.ShapeDtypeStruct((4,), np.dtype(dtype))}
    plan = ic.Plan({"w": ic.Tensor(scheme="ones", shape=(4,), dtype=dtype)})
    with pytest.raises(ic.PlanError, match=rf"tensor 'w': dtype: .*{dtype}"):
        icj.init(tree, plan, "local")
