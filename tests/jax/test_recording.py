"""record: the laws of every leaf from the traced initialization."""

from __future__ import annotations

import math
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jax.models import MODELS
from tests.jax.own_values import distance_from_orthogonal

I = jax.nn.initializers  # noqa: E741
KEY = jax.random.key(0)


def recorded(function: Any) -> icj.Recording:
    return icj.record(lambda: {"w": function(KEY)})


def planned(function: Any) -> ic.Tensor:
    return recorded(function).plan(seed=7).tensors["w"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("init", "std"),
    [
        (I.lecun_normal(), math.sqrt(1 / 63) / 0.87962566103423978),
        (I.he_normal(), math.sqrt(2 / 63) / 0.87962566103423978),
        (I.glorot_normal(), math.sqrt(1 / ((63 + 31) / 2)) / 0.87962566103423978),
        (I.normal(0.02), 0.02),
        (I.normal(1 / 3), 1 / 3),
        (I.truncated_normal(0.013), 0.013),
        (I.variance_scaling(0.3, "fan_out", "normal"), math.sqrt(0.3 / 31)),
        (lambda *a: 0.5 * I.normal(0.1)(*a), 0.05),
    ],
)
def test_standard_deviations_are_the_doubles_of_the_initializer(
    init: Any, std: float, dtype: str
) -> None:
    assert planned(lambda key: init(key, (63, 31), dtype)).std == std


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (I.glorot_uniform(), math.sqrt(3 * (1 / 47))),
        (I.lecun_uniform(), math.sqrt(3 / 63)),
        (lambda key, shape: jax.random.uniform(key, shape, minval=-1 / 7, maxval=1 / 7), 1 / 7),
    ],
)
def test_bounds_are_the_doubles_of_the_initializer(init: Any, bound: float) -> None:
    made = planned(lambda key: init(key, (63, 31)))
    assert (made.scheme, made.a, made.b) == ("uniform", -bound, bound)


@pytest.mark.parametrize(
    ("init", "wanted"),
    [
        (lambda key: I.zeros(key, (3, 4)), ic.zeros((3, 4))),
        (lambda key: jnp.full((3, 4), 2.5), ic.constant((3, 4), 2.5)),
        (lambda key: 2.0 * jnp.eye(3, 4), ic.identity((3, 4), 2.0)),
        (lambda key: jnp.arange(3.0), ic.literal((3,), (0.0, 1.0, 2.0))),
        (lambda key: jax.random.normal(key, (4,)) * 0.02 + 1, ic.normal((4,), mean=1.0, std=0.02)),
        (lambda key: 1 - jax.random.uniform(key, (4,)) / 4, ic.uniform((4,), a=0.75, b=1.0)),
        (lambda key: I.orthogonal()(key, (3, 5)), ic.orthogonal((3, 5))),
        (lambda key: I.orthogonal(2.0, 0)(key, (5, 3)).T, ic.orthogonal((3, 5), 2.0)),
    ],
)
def test_a_law_that_a_scheme_has_is_that_scheme(init: Any, wanted: ic.Tensor) -> None:
    assert planned(init) == wanted


@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (3, 3, 16, 32)])
@pytest.mark.parametrize("column_axis", [-1, 0])
def test_orthogonal_kernels_are_orthogonal_in_jaxs_axes(
    shape: tuple[int, ...], column_axis: int
) -> None:
    made = planned(lambda key: I.orthogonal(2.0, column_axis)(key, shape))
    kernel = ic.fetch({"w": made}, seed=3, target="local")["w"].astype("f8") / 2
    matrix = np.moveaxis(kernel, column_axis, -1).reshape(-1, shape[column_axis])
    assert distance_from_orthogonal(matrix) < 1e-6


@pytest.mark.parametrize("how", ["scan", "vmap"])
def test_a_stack_of_orthogonal_kernels_is_orthogonal_layer_by_layer(how: str) -> None:
    def layer(key: Any) -> Any:
        return I.orthogonal(1.5)(key, (24, 16))

    def stack(key: Any) -> Any:
        keys = jax.random.split(key, 3)
        if how == "vmap":
            return jax.vmap(layer)(keys)
        return jax.lax.scan(lambda carry, one: (carry, layer(one)), 0, keys)[1]

    layers = ic.fetch({"w": planned(stack)}, seed=3, target="local")["w"].astype("f8") / 1.5
    assert layers.shape == (3, 24, 16)
    assert not np.array_equal(layers[0], layers[1])
    for one in layers:
        assert distance_from_orthogonal(one) < 1e-6


def test_delta_orthogonal_is_a_matrix_at_the_centre_of_zeros() -> None:
    made = planned(lambda key: I.delta_orthogonal(2.0)(key, (3, 3, 8, 16)))
    kernel = ic.fetch({"w": made}, seed=3, target="local")["w"].astype("f8") / 2
    assert distance_from_orthogonal(kernel[1, 1]) < 1e-6
    kernel[1, 1] = 0
    assert not kernel.any()


def test_loops_and_branches_with_known_conditions_are_followed() -> None:
    def init(key: Any) -> Any:
        def step(i: Any, state: Any) -> Any:
            key, std = state
            return jax.random.fold_in(key, i), std / 2

        key, std = jax.lax.fori_loop(0, 3, step, (key, 0.8))
        _, std = jax.lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 2), (3, std))
        draw = jax.lax.cond(std > 0, jax.random.normal, jax.random.uniform, key)
        return jnp.reshape(draw * std, (1,)) + jnp.zeros((1,))

    assert planned(init) == ic.normal((1,), std=0.4)


def test_parts_of_different_laws_are_joined() -> None:
    def gates(key: Any) -> Any:
        one, two = jax.random.split(key)
        first, second = I.orthogonal()(one, (8, 8)), I.normal(0.1)(two, (8, 4))
        return jnp.concatenate([first, second, jnp.ones((8, 1))], axis=1)

    found = ic.fetch({"w": planned(gates)}, seed=3, target="local")["w"].astype("f8")
    assert distance_from_orthogonal(found[:, :8]) < 1e-6
    assert 0.05 < found[:, 8:12].std() < 0.15
    assert (found[:, 12] == 1).all()


def test_layers_that_share_a_draw_repeat_it() -> None:
    made = planned(lambda key: jnp.tile(I.normal(0.1)(key, (1, 4, 8)), (3, 1, 1)))
    found = ic.fetch({"w": made}, seed=3, target="local")["w"]
    assert (found == found[0]).all()
    assert np.unique(found[0]).size == 32


def test_a_key_that_is_used_twice_is_one_stream_and_said() -> None:
    def init() -> Any:
        a, b = jax.random.split(KEY)
        dense = I.lecun_normal()
        return {"a": dense(a, (8, 4)), "b": dense(b, (8, 4)), "c": dense(a, (8, 4))}

    recording = icj.record(init)
    assert recording.notes == (
        "one random key draws a, c, so they hold the same values; the plan gives them one stream",
    )
    assert "the same draws as a" in recording.explain("c")
    made = ic.fetch(recording.plan(seed=7), target="local")
    assert np.array_equal(made["a"], made["c"])
    assert not np.array_equal(made["a"], made["b"])
    # Whichever leaf keeps its law names the stream.
    rest = ic.fetch(recording.plan(seed=7, rules=[icj.rule("a", ic.zeros)]), target="local")
    alone = {"c": ic.trunc_normal((8, 4), **_truncated(rest))}
    assert np.array_equal(rest["c"], ic.fetch(alone, seed=7, target="local")["c"])


def _truncated(found: Any) -> dict[str, float]:
    std = math.sqrt(1 / 8) / 0.87962566103423978
    return {"std": std, "a": -2 * std, "b": 2 * std}


@pytest.mark.parametrize(
    "other",
    [
        lambda key: jax.random.normal(key, (9, 4)),
        lambda key: 2 * jax.random.normal(key, (8, 4)),
        lambda key: jax.random.uniform(key, (8, 4)),
        lambda key: jax.random.normal(key, (8, 4)).T,
        lambda key: jax.random.normal(key, (8, 4))[1:3],
    ],
)
def test_a_key_of_two_different_draws_is_refused_by_name(other: Any) -> None:
    recording = icj.record(lambda: {"a": jax.random.normal(KEY, (8, 4)), "b": other(KEY)})
    with pytest.raises(ic.PlanError, match=r"'b': .*its random key also draws a, in another"):
        recording.plan()


def test_parts_of_one_draw_are_apart() -> None:
    def init() -> Any:
        both = jax.random.normal(KEY, (2, 8, 4)) * 0.1
        return {"a": both[0], "b": both[1], "c": both[1]}

    recording = icj.record(init)
    plan = recording.plan()
    assert plan.tensors["a"] == ic.normal((8, 4), std=0.1)
    made = ic.fetch(plan, target="local")
    assert not np.array_equal(made["a"], made["b"])
    assert np.array_equal(made["c"], made["b"])


def test_a_scan_may_run_from_the_end() -> None:
    def init(key: Any) -> Any:
        def step(std: Any, one: Any) -> Any:
            return 2 * std, std * jax.random.normal(one, (4096,))

        return jax.lax.scan(step, 1.0, jax.random.split(key, 3), reverse=True)[1]

    found = ic.fetch({"w": planned(init)}, seed=3, target="local")["w"]
    assert found.std(axis=1) == pytest.approx([4.0, 2.0, 1.0], rel=0.1)


def test_a_window_over_an_edge_is_moved_as_jax_moves_it() -> None:
    def init() -> Any:
        rows = jax.random.normal(KEY, (8, 4))
        return {"a": jax.lax.dynamic_slice(rows, (6, 0), (4, 4)), "b": rows[4:]}

    made = ic.fetch(icj.record(init).plan(seed=3), target="local")
    assert made["a"].shape == (4, 4)
    assert np.array_equal(made["a"], made["b"])


def test_a_clamp_that_cuts_is_no_truncation() -> None:
    made = planned(lambda key: jnp.clip(jax.random.normal(key, (1000,)), -1, 1))
    found = ic.fetch({"w": made}, seed=3, target="local")["w"]
    assert 0.2 < (abs(found) == 1).mean() < 0.45


@pytest.mark.filterwarnings("ignore:.*zero-element tensors is a no-op")
def test_a_stack_of_no_layers_is_empty() -> None:
    made = planned(lambda key: jax.vmap(lambda k: I.normal()(k, (4, 2)))(jax.random.split(key, 0)))
    assert made == ic.zeros((0, 4, 2))


def test_functions_under_jit_are_recorded_as_they_are_now() -> None:
    init = jax.jit(lambda key: I.lecun_normal()(key, (63, 31)))
    init(KEY)
    std = math.sqrt(1 / 63) / 0.87962566103423978
    made = recorded(init).plan(seed=7).tensors["w"]
    assert made == ic.trunc_normal((63, 31), std=std, a=-2 * std, b=2 * std)
    elsewhere = jax.jit(lambda: {"w": jnp.asarray(np.random.default_rng().normal(size=4))})
    elsewhere()
    with pytest.raises(ic.PlanError, match="another run of the code gives it other values"):
        icj.record(elsewhere).plan()


def test_what_is_no_array_of_a_module_stays_as_it_is() -> None:
    recording = icj.record(lambda: MODELS["equinox block"](KEY))
    model = icj.init(recording.shapes, recording.plan(seed=7), "local")
    assert model.mlp.activation is recording.shapes.mlp.activation
    assert model.attention.dropout.p == 0.1
    tokens = jax.vmap(model.embed)(jnp.arange(6))
    assert jnp.isfinite(jax.jit(jax.vmap(model.mlp))(tokens)).all()
    # In other trees a number is a leaf without a shape, and a function alone is no tree.
    for tree in ({"w": 3.0}, jnp.sin):
        with pytest.raises(ic.PlanError, match="has no shape and dtype"):
            icj.plan(tree)


def test_explain_names_the_lines_of_the_user_and_of_the_layer() -> None:
    recording = icj.record(lambda: MODELS["convolutions"](KEY))
    text = recording.explain("second/kernel")
    assert text.startswith("second/kernel [3, 3, 24, 32] float32:\n  orthogonal(gain=2)")
    assert "drawn with orthogonal at flax/nnx/nn/linear.py" in text
    assert "models.py" in text
    with pytest.raises(KeyError, match="did you mean 'second/kernel'"):
        recording.explain("second/kernl")


def test_rules_come_before_what_was_recorded() -> None:
    recording = icj.record(lambda: MODELS["stacked"](KEY))
    rules = [icj.rule("*/kernel", ic.he_normal, layout="jax", batch_axes=(0,))]
    plan = recording.plan(seed=3, rules=rules, dtype="bfloat16")
    assert plan.tensors["layers/kernel"].scheme == "he_normal"
    assert {tensor.dtype for tensor in plan.tensors.values()} == {"BF16"}
    assert plan.seed == 3
    with pytest.warns(ic.PlanWarning, match="has no effect"):
        recording.plan(rules=[icj.rule("nothing", ic.zeros)])
    with pytest.raises(TypeError, match=r"the rules are .*; give a list of rules, such as \["):
        recording.plan(rules=icj.rule("*", ic.zeros))  # type: ignore[arg-type]


def test_what_is_no_function_without_arguments_is_an_error() -> None:
    with pytest.raises(TypeError, match="takes a function without arguments"):
        icj.record({"w": 1})  # type: ignore[arg-type]
    with pytest.raises(ic.PlanError, match="returned no arrays"):
        icj.record(lambda: None)
    with pytest.raises(ic.PlanError, match="state of a random generator"):
        icj.record(lambda: {"k": KEY})


def test_recording_leaves_jax_as_it_was() -> None:
    before = jax.random.normal, jax.random.uniform
    with pytest.raises(ZeroDivisionError):
        icj.record(lambda: {"w": jax.random.normal(KEY, (1 // 0,))})
    assert (jax.random.normal, jax.random.uniform) == before
