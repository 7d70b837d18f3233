"""Matrices along JAX's axes: kernels, stacks of layers, and fans of any axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
from flax import linen
from hypothesis import given
from hypothesis import strategies as st
from initcore.resolve import resolve
from jax._src.nn.initializers import _compute_fans as jax_fans
from jax.nn import initializers as jax_initializers

from tests.jax.own_values import distance_from_orthogonal

SEED = 7


def planned(shape: Sequence[int], initializer: Any, **arguments: Any) -> ic.Tensor:
    """What a rule makes of a kernel; a rule that says its axes warns of nothing."""
    tree = {"kernel": jax.ShapeDtypeStruct(tuple(shape), "float32")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = icj.plan(tree, [icj.rule("kernel", initializer, **arguments)], seed=SEED)
    return plan.tensors["kernel"]


def values(tensor: ic.Tensor, name: str = "kernel") -> Any:
    return ic.fetch({name: tensor}, seed=SEED, target="local")[name]


@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (64, 64), (3, 3, 16, 32), (5, 7, 12)])
def test_an_orthogonal_kernel_is_orthogonal_along_flax_axes(shape: tuple[int, ...]) -> None:
    kernel = values(planned(shape, ic.orthogonal, layout="jax"))
    assert kernel.shape == shape
    assert distance_from_orthogonal(kernel.reshape(-1, shape[-1])) < 1e-6
    own = jax_initializers.orthogonal()(jax.random.key(0), shape)
    # All elements together: sqrt(min(rows, columns) / (rows * columns)), in both.
    assert np.linalg.norm(kernel) == pytest.approx(np.linalg.norm(own), rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "batch"),
    [
        (linen.Dense(48), (2, 24)),
        (linen.Conv(32, (3, 3), use_bias=False), (1, 8, 8, 16)),
    ],
    ids=["Dense", "Conv"],
)
def test_a_layer_of_flax_with_an_orthogonal_kernel(layer: Any, batch: tuple[int, ...]) -> None:
    orthogonal = layer.clone(kernel_init=jax_initializers.orthogonal(1.5))
    shapes = jax.eval_shape(orthogonal.init, jax.random.key(0), np.zeros(batch, "float32"))
    rules = [icj.rule("*/kernel", ic.orthogonal, gain=1.5, layout="jax")]
    made = icj.init(shapes, icj.plan(shapes, rules, seed=1), "local")["params"]["kernel"]
    own = orthogonal.init(jax.random.key(0), np.zeros(batch, "float32"))["params"]["kernel"]
    assert distance_from_orthogonal(np.asarray(made).reshape(-1, made.shape[-1]) / 1.5) < 1e-6
    assert np.linalg.norm(made) == pytest.approx(np.linalg.norm(own), rel=1e-6)
    assert float(made.std()) == pytest.approx(float(own.std()), rel=0.02)


def test_scanned_layers_are_orthogonal_one_by_one_and_differ() -> None:
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x: Any, _: Any) -> Any:
            return linen.Dense(24, kernel_init=jax_initializers.orthogonal())(x), None

    stack = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=5)()
    shapes = jax.eval_shape(stack.init, jax.random.key(0), np.zeros((2, 24), "float32"), None)
    rules = [icj.rule("*/kernel", ic.orthogonal, batch_axes=(0,))]
    plan = icj.plan(shapes, rules, seed=SEED)
    name = "params/Dense_0/kernel"
    kernel = np.asarray(icj.init(shapes, plan, "local")["params"]["Dense_0"]["kernel"])
    assert kernel.shape == (5, 24, 24)
    assert all(distance_from_orthogonal(layer) < 1e-6 for layer in kernel)
    assert len({layer.tobytes() for layer in kernel}) == 5
    # Each layer is what a leaf of its own name would be.
    assert np.array_equal(kernel[3], values(ic.orthogonal((24, 24)), f"{name}/3"))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
def test_columns_may_lie_along_any_axis(axis: int) -> None:
    shape = (3, 4, 5, 6)
    kernel = values(planned(shape, ic.orthogonal, column_axis=axis))
    matrix = np.moveaxis(kernel, axis, -1).reshape(-1, shape[axis])
    assert distance_from_orthogonal(matrix) < 1e-6
    own = jax_initializers.orthogonal(column_axis=axis)(jax.random.key(0), shape)
    theirs = np.moveaxis(np.asarray(own), axis, -1).reshape(-1, shape[axis])
    assert distance_from_orthogonal(theirs) < 1e-5


@pytest.mark.parametrize("batch", [(0,), (2,), (-1,), (0, 1), (1, 3), (3, 0)])
def test_batch_axes_are_stacks_of_matrices_in_any_place(batch: tuple[int, ...]) -> None:
    shape = (2, 3, 4, 5)
    kernel = values(planned(shape, ic.orthogonal, gain=2.0, batch_axes=batch))
    axes = sorted(axis % 4 for axis in batch)
    apart = np.moveaxis(kernel, axes, range(len(axes)))
    for index in np.ndindex(*apart.shape[: len(axes)]):
        layer = apart[index]
        assert distance_from_orthogonal(layer.reshape(-1, layer.shape[-1]) / 2.0) < 1e-6
        name = "/".join(["kernel", *map(str, index)])
        matrix = ic.orthogonal((layer.size // layer.shape[-1], layer.shape[-1]), gain=2.0)
        assert np.array_equal(layer.reshape(matrix.shape), values(matrix, name))


def test_sparse_counts_zeros_among_the_outputs_of_each_input() -> None:
    kernel = values(planned((6, 10), ic.sparse, sparsity=0.3, layout="jax"))
    assert [int((row == 0).sum()) for row in kernel] == [3] * 6
    assert np.array_equal(kernel.T, values(ic.sparse((10, 6), sparsity=0.3)))
    stack = values(planned((4, 6, 10), ic.sparse, sparsity=0.3, batch_axes=0))
    assert ((stack == 0).sum(axis=2) == 3).all()
    assert len({layer.tobytes() for layer in stack}) == 4


@pytest.mark.parametrize("batch", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("builder", [ic.eye, partial(ic.identity, gain=3.0), ic.hadamard, ic.dirac])
def test_patterns_are_the_same_in_each_layer(builder: Any, batch: tuple[int, ...]) -> None:
    rest = (3, 4, 8) if builder is ic.dirac else (4, 8)
    shape = list(rest)
    for axis in batch:
        shape.insert(axis, axis + 2)
    kernel = values(planned(shape, builder, batch_axes=batch))
    apart = np.moveaxis(kernel, batch, range(len(batch))).reshape(-1, *rest)
    one = values(planned(rest, builder, layout="jax"))
    assert all(np.array_equal(layer, one) for layer in apart)


def test_delta_orthogonal_has_jaxs_axes_in_each_layer() -> None:
    stack = values(planned((2, 3, 3, 4, 8), ic.delta_orthogonal, batch_axes=(0,)))
    for number, layer in enumerate(stack):
        own = ic.delta_orthogonal((3, 3, 4, 8), layout="jax")
        assert np.array_equal(layer, values(own, f"kernel/{number}"))
        assert distance_from_orthogonal(layer[1, 1]) < 1e-6
    one = planned((3, 3, 4, 8), ic.delta_orthogonal, column_axis=-1)
    assert one == ic.delta_orthogonal((3, 3, 4, 8), layout="jax")


def test_layout_torch_draws_what_0_2_0_drew() -> None:
    for builder in (ic.orthogonal, ic.hadamard, partial(ic.sparse, sparsity=0.5)):
        shape = (6, 8) if isinstance(builder, partial) else (3, 3, 4, 8)
        tensor = planned(shape, builder, layout="torch")
        assert np.array_equal(values(tensor), values(builder(shape)))


@pytest.mark.parametrize(
    ("builder", "shape"),
    [
        (ic.orthogonal, (3, 3, 4, 8)),
        (ic.hadamard, (3, 3, 4, 8)),
        (partial(ic.sparse, sparsity=0.5), (6, 8)),
        (ic.dirac, (3, 3, 4, 8)),
    ],
)
def test_a_rule_that_says_no_axes_warns_that_0_2_0_took_torchs(
    builder: Any, shape: tuple[int, ...]
) -> None:
    tree = {"kernel": jax.ShapeDtypeStruct(shape, "float32")}
    with pytest.warns(ic.PlanWarning, match=r"takes JAX's axes.*layout='torch' draws the old"):
        plan = icj.plan(tree, [icj.rule("*", builder)])
    assert plan.tensors["kernel"] == planned(shape, builder, layout="jax")


SCALED = ["lecun_normal", "lecun_uniform", "glorot_normal", "glorot_uniform", "he_normal"]
AXES = st.integers(0, 3) | st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True)


@given(
    scheme=st.sampled_from(SCALED),
    in_axis=AXES,
    out_axis=AXES,
    batch=st.lists(st.integers(0, 3), max_size=1),
)
def test_fans_of_any_axes_are_those_of_jax(
    scheme: str, in_axis: Any, out_axis: Any, batch: list[int]
) -> None:
    shape = (3, 5, 8, 16)
    both = {one for axes in (in_axis, out_axis) for one in np.atleast_1d(axes)}
    arguments = {"in_axis": in_axis, "out_axis": out_axis, "batch_axes": tuple(batch)}
    if both & set(batch):
        with pytest.raises(ic.PlanError, match="of which batch_axes has some"):
            planned(shape, getattr(ic, scheme), **arguments)
        return
    tensor = planned(shape, getattr(ic, scheme), **arguments)
    (found,) = resolve(ic.Plan({"kernel": tensor}))
    fan_in, fan_out = jax_fans(shape, in_axis, out_axis, batch)
    matrix = getattr(ic, scheme)((round(fan_in), round(fan_out)), layout="jax")
    (wanted,) = resolve(ic.Plan({"kernel": matrix}))
    assert found.content == wanted.content
    assert found.parameters.std == wanted.parameters.std


def test_the_embedding_of_flax_by_its_axes() -> None:
    """Its initializer has out_axis=0 and in_axis=-2, so both are the first axis."""
    by_axes = planned((160, 48), ic.variance_scaling, distribution="normal", out_axis=0)
    tree = {"embedding": jax.ShapeDtypeStruct((160, 48), "float32")}
    by_default = icj.plan(tree).tensors["embedding"]
    first, second = (
        resolve(ic.Plan({"embedding": tensor}))[0].content for tensor in (by_axes, by_default)
    )
    assert first == second


@pytest.mark.parametrize(
    ("initializer", "arguments", "message"),
    [
        (ic.orthogonal, {"column_axis": 4}, r"column_axis: is .*4.*, outside the 4 dimensions"),
        (ic.orthogonal, {"column_axis": "last"}, r"column_axis: is .*'last'"),
        (ic.orthogonal, {"batch_axes": (0, -4)}, r"batch_axes: is \(0, -4\), which names an axis"),
        (ic.orthogonal, {"batch_axes": 0, "column_axis": 0}, r"is 0, which is among batch_axes"),
        (ic.orthogonal, {"layout": "torch", "column_axis": 0}, r"column_axis: is 0, and layout="),
        (ic.orthogonal, {"layout": "keras"}, r"layout: is 'keras'; use one of torch, jax"),
        (ic.he_normal, {"in_axis": 1.5}, r"in_axis: is 1.5; give an axis"),
        (ic.he_normal, {"in_axis": 1, "layout": "jax"}, r"layout: says what in_axis and out_axis"),
        (ic.eye, {"batch_axes": (0,)}, r"shape: Only tensors with 2 dimensions"),
    ],
)
def test_wrong_axes_are_refused_by_name(
    initializer: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ic.PlanError, match=f"'kernel'.*{message}"):
        planned((3, 5, 8, 16), initializer, **arguments)
    with pytest.raises(TypeError, match="takes no argument 'column_axis'"):
        planned((3, 5, 8, 16), ic.normal, column_axis=0)


def test_zero_rows_seeds_and_types_go_with_the_leaf() -> None:
    tensor = planned((3, 4, 5), ic.orthogonal, batch_axes=(0,), zero_rows=(1,), seed=9)
    kernel = values(tensor)
    assert (kernel[1] == 0).all()
    assert np.array_equal(
        kernel[2], ic.fetch({"kernel/2": ic.orthogonal((4, 5))}, seed=9, target="local")["kernel/2"]
    )
    tree = {"kernel": jax.ShapeDtypeStruct((3, 4, 5), "bfloat16")}
    plan = icj.plan(tree, [icj.rule("*", ic.orthogonal, batch_axes=(0,))])
    assert plan.tensors["kernel"].dtype == "BF16"
    assert icj.init(tree, plan, "local")["kernel"].dtype == "bfloat16"


@pytest.mark.filterwarnings("ignore:.*zero-element tensors is a no-op")
def test_empty_stacks_are_empty() -> None:
    for shape in ((0, 4, 5), (2, 0, 5)):
        tree = {"kernel": jax.ShapeDtypeStruct(shape, "float32")}
        plan = icj.plan(tree, [icj.rule("*", ic.orthogonal, batch_axes=(0,))])
        assert icj.init(tree, plan, "local")["kernel"].shape == shape
