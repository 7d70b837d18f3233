"""How trainers begin: meshes of the context, logical axes, train states, checkpoints of Orbax.

Run by tests/jax/test_training.py with eight host devices.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from initclient.jax.orbax import PlanHandler
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

BATCH = jnp.ones((8, 16))
KERNEL = nnx.initializers.lecun_normal()


class Net(nnx.Module):
    """Two layers whose kernels lie on both axes of a mesh."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(
            16, 32, kernel_init=nnx.with_partitioning(KERNEL, ("data", "model")), rngs=rngs
        )
        self.down = nnx.Linear(
            32, 8, kernel_init=nnx.with_partitioning(KERNEL, ("model", None)), rngs=rngs
        )

    def __call__(self, x: Any) -> Any:
        return self.down(jax.nn.relu(self.up(x)))


def mesh_of(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))


def alone(state: Any, plan: ic.Plan) -> list[Any]:
    """The values on one device."""
    bare = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(icj.init(bare, plan, "local"))]


def assert_same(made: Any, wanted: list[Any]) -> None:
    found = [np.asarray(leaf) for leaf in jax.tree.leaves(made)]
    assert len(found) == len(wanted)
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def partition_specs_of_nnx() -> None:
    mesh = mesh_of(AxisType.Auto)
    with jax.set_mesh(mesh):
        graph, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
        plan = icj.plan(state, seed=7)
        by_specs = icj.init(state, plan, "local", out_shardings=nnx.get_partition_spec(state))
    by_names = icj.init(state, plan, "local", out_shardings=nnx.get_named_sharding(state, mesh))
    for made in (by_specs, by_names):
        model = nnx.merge(graph, made)
        assert model.up.kernel[...].sharding == NamedSharding(mesh, P("data", "model"))
        assert model.down.bias[...].sharding == NamedSharding(mesh, P())
        assert_same(made, alone(state, plan))
        with jax.set_mesh(mesh):
            assert nnx.jit(Net.__call__)(model, BATCH).shape == (8, 8)


def explicit_axes_in_the_mesh_of_the_context() -> None:
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        graph, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
        plan = icj.plan(state, seed=7)
        made = icj.init(state, plan, "local")
        model = nnx.merge(graph, made)
        kernel = model.up.kernel[...]
        assert kernel.sharding == NamedSharding(mesh, P("data", "model"))
        assert jax.typeof(kernel).sharding.spec == P("data", "model")
        assert icj.verify(made, plan, "local").ok
        images = jax.device_put(BATCH, P("data", None))
        assert jax.jit(lambda x, w: jnp.dot(x, w, out_sharding=P("data", None)))(
            images, jax.sharding.reshard(kernel, P(None, None))
        ).shape == (8, 32)
    assert_same(made, alone(state, plan))


class Block(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        init = linen.with_logical_partitioning(linen.initializers.lecun_normal(), ("in", "out"))
        return x + linen.Dense(16, use_bias=False, kernel_init=init)(x), None


class Scanned(linen.Module):
    """Layers stacked along the second axis, as MaxText does it."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        stack = linen.scan(
            Block,
            variable_axes={"params": 1},
            split_rngs={"params": True},
            length=6,
            metadata_params={linen.PARTITION_NAME: "layers"},
        )
        return stack()(x, None)[0]


LOGICAL = (("in", "data"), ("out", "model"), ("layers", None))


def a_train_state_of_logical_axes() -> None:
    """Params from the plan, and the optimizer's state from them; then a step that donates all."""
    mesh, model, tx = mesh_of(AxisType.Auto), Scanned(), optax.adamw(1e-3)
    abstract = jax.eval_shape(model.init, jax.random.key(0), BATCH)["params"]
    shardings = linen.logical_to_mesh_sharding(linen.get_partition_spec(abstract), mesh, LOGICAL)
    shapes = linen.meta.unbox(abstract)
    rules = [icj.rule("*/kernel", ic.lecun_normal, layout="jax", batch_axes=(1,))]
    plan = icj.plan(shapes, rules, seed=7)
    params = icj.init(shapes, plan, "local", out_shardings=shardings)
    kernel = params["ScanBlock_0"]["Dense_0"]["kernel"]
    assert kernel.shape == (16, 6, 16)
    assert kernel.sharding.spec == P("data", None, "model")
    assert_same(params, alone(shapes, plan))

    # The optimizer's state follows from the params, and lies where they do.
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    assert icj.verify(state.params, plan, "local").ok
    moments = state.opt_state[0].mu["ScanBlock_0"]["Dense_0"]["kernel"]
    assert moments.sharding.is_equivalent_to(kernel.sharding, 3)

    @jax.jit
    def loss(given: Any) -> Any:
        return (model.apply({"params": given}, BATCH) ** 2).mean()

    def step(now: Any) -> Any:
        return now.apply_gradients(grads=jax.grad(loss)(now.params))

    moved = jax.jit(step, donate_argnums=0)(state)
    assert int(moved.step) == 1
    with pytest.raises(ic.VerificationError, match="1 of 1 tensor differs"):
        icj.verify(moved.params, plan, "local")
    # The state that was given away took the params with it.
    with pytest.raises(RuntimeError, match="deleted"):
        icj.verify(params, plan, "local")


def element_types_of_a_policy() -> None:
    """Params in float32 and computation in bfloat16; params in bfloat16; 64 bits."""
    for param, compute in (("float32", "bfloat16"), ("bfloat16", "bfloat16")):
        layer = nnx.eval_shape(
            lambda param=param, compute=compute: nnx.Linear(
                16, 8, dtype=compute, param_dtype=param, rngs=nnx.Rngs(0)
            )
        )
        graph, state = nnx.split(layer)
        made = icj.init(state, icj.plan(state, seed=7), "local")
        assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(param)}
        assert nnx.merge(graph, made)(BATCH).dtype == compute
    tree = {"kernel": jax.ShapeDtypeStruct((16, 8), "float32")}
    plan = icj.plan(tree, seed=7, dtype="bfloat16")
    half = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), tree)
    assert icj.init(half, plan, "local")["kernel"].dtype == jnp.bfloat16
    wide = {"kernel": jax.ShapeDtypeStruct((16, 8), "float64")}
    plan = icj.plan(wide, seed=7)
    with jax.enable_x64(True):
        made = icj.init(wide, plan, "local")
        assert made["kernel"].dtype == "float64"
        assert icj.verify(made, plan, "local").ok
    assert np.array_equal(made["kernel"], ic.fetch(plan, target="local")["kernel"])


def a_run_that_orbax_starts() -> None:
    """The manager restores step 0 from a plan, and later steps from its own files."""
    mesh, model, tx = mesh_of(AxisType.Auto), Scanned(), optax.adam(1e-3)

    def created(key: Any) -> TrainState:
        params = linen.meta.unbox(model.init(key, BATCH)["params"])
        return TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    def lying(leaf: Any) -> Any:
        spec = P("data", None, "model") if leaf.ndim == 3 else P()
        return leaf.update(sharding=NamedSharding(mesh, spec))

    abstract = jax.tree.map(lying, jax.eval_shape(created, jax.random.key(0)))
    rules = [
        icj.rule("params/*/kernel", ic.lecun_normal, layout="jax", batch_axes=(1,)),
        icj.rule("opt_state/*", ic.zeros),
        icj.rule("step", ic.zeros),
    ]
    plan = icj.plan(abstract, rules, seed=7)
    seen: list[tuple[int, int]] = []
    handler = PlanHandler("local", progress=lambda *each: seen.append(each))
    with tempfile.TemporaryDirectory() as folder:
        with ocp.CheckpointManager(folder, handler_registry=handler.registry()) as manager:
            assert manager.latest_step() is None
            manager.save(0, args=ocp.args.StandardSave(plan))
            manager.wait_until_finished()
            state = manager.restore(0, args=ocp.args.StandardRestore(abstract))
            kernel = state.params["ScanBlock_0"]["Dense_0"]["kernel"]
            assert kernel.sharding.spec == P("data", None, "model")
            assert icj.verify(state, plan, "local").ok
            assert seen[-1][0] == seen[-1][1] == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            moved = state.replace(step=jnp.asarray(5, state.step.dtype))
            manager.save(5, args=ocp.args.StandardSave(moved))
            manager.wait_until_finished()
        # A new process with the trainer's own lines.
        with ocp.CheckpointManager(folder, handler_registry=handler.registry()) as manager:
            assert manager.latest_step() == 5
            again = manager.restore(5, args=ocp.args.StandardRestore(abstract))
            assert int(again.step) == 5
            assert_same(again.params, [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)])
            with pytest.raises(ValueError, match="give the abstract tree"):
                manager.restore(0, args=ocp.args.StandardRestore())
        # Without the manager, whose threads still make folders when a save has failed.
        wrong = ic.Plan({"w": ic.normal((2,), std=-1.0)})
        with pytest.raises(ic.PlanError, match="'w': std"):
            handler.save(Path(folder) / "wrong", args=ocp.args.StandardSave(wrong))


SCENARIOS: tuple[Callable[[], None], ...] = (
    partition_specs_of_nnx,
    explicit_axes_in_the_mesh_of_the_context,
    a_train_state_of_logical_axes,
    element_types_of_a_policy,
    a_run_that_orbax_starts,
)


if __name__ == "__main__":
    # Warnings of ours are errors; flax, optax and orbax have some of their own.
    warnings.simplefilter("error", ic.PlanWarning)
    for scenario in SCENARIOS:
        if len(sys.argv) < 2 or scenario.__name__ in sys.argv:
            scenario()
            print(f"{scenario.__name__} done", flush=True)
