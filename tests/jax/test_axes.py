"""A rule for JAX means JAX's axes: kernels [*window, in, out]."""

from __future__ import annotations

import math
import re
import warnings
from functools import partial
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import numpy as np
import pytest
from initcore.plan import SCHEMES
from initcore.plan import builders as all_builders
from initcore.resolve import resolve

SHAPE = (3, 5, 8, 16)


def leaf(*sizes: int) -> dict[str, Any]:
    return {"kernel": jax.ShapeDtypeStruct(sizes, "float32")}


def planned(initializer: Any, *sizes: int, **arguments: Any) -> ic.Tensor:
    """What a rule of this initializer makes of a kernel, without a word about earlier releases."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "rule.*takes JAX's axes", ic.PlanWarning)
        plan = icj.plan(leaf(*sizes), [icj.rule("kernel", initializer, **arguments)], seed=7)
    return plan.tensors["kernel"]


def values(tensor: ic.Tensor) -> Any:
    return ic.fetch({"kernel": tensor}, seed=7, target="local")["kernel"]


WITH_LAYOUT = [name for name in SCHEMES if "layout" in SCHEMES[name].arguments]


@pytest.mark.parametrize("scheme", WITH_LAYOUT)
def test_every_scheme_with_a_layout_has_jaxs_unless_one_is_given(scheme: str) -> None:
    builder = getattr(all_builders, scheme)
    assert planned(builder, *SHAPE) == builder(SHAPE, layout="jax")
    assert planned(partial(builder), *SHAPE) == builder(SHAPE, layout="jax")
    for one in (
        partial(planned, builder, layout="torch"),
        partial(planned, partial(builder, layout="torch")),
    ):
        if scheme != "delta_orthogonal":
            assert one(*SHAPE) == builder(SHAPE, layout="torch")


def test_fans_are_those_of_jax() -> None:
    wanted = math.sqrt(2 / (3 * 5 * 8))
    tensor = planned(ic.kaiming_normal, *SHAPE)
    (resolved,) = resolve(ic.Plan({"kernel": tensor}))
    assert resolved.content.draw.std == pytest.approx(wanted)  # type: ignore[union-attr]
    assert values(tensor).std() == pytest.approx(wanted, rel=0.05)
    by_jax = jax.nn.initializers.he_normal()(jax.random.key(0), SHAPE)
    assert values(planned(ic.he_normal, *SHAPE)).std() == pytest.approx(
        float(by_jax.std()), rel=0.05
    )


def test_a_rule_made_for_files_means_jaxs_axes_in_a_tree() -> None:
    with pytest.warns(ic.PlanWarning, match="takes JAX's axes"):
        plan = icj.plan(leaf(4, 8), [ic.rule("*", ic.kaiming_normal)])
    assert plan.tensors["kernel"].layout == "jax"


def test_other_values_than_before_are_a_warning_that_layout_ends() -> None:
    tree = {name: jax.ShapeDtypeStruct((4, 8), "float32") for name in ("a", "b")}
    with pytest.warns(ic.PlanWarning) as caught:
        icj.plan(tree, [icj.rule("*", ic.kaiming_normal)])
    (text,) = (str(one.message) for one in caught)
    assert text == (
        "rule('*', kaiming_normal) takes JAX's axes, [*window, in, out], since 0.3.0, and torch's "
        "before, so a and 1 more has other values than it had; layout='jax' says that this is "
        "meant, layout='torch' draws the old ones, and stacked layers need batch_axes"
    )


@pytest.mark.parametrize(
    "rule",
    [
        icj.rule("*", ic.kaiming_normal, layout="jax"),
        icj.rule("*", ic.kaiming_normal, layout="torch"),
        icj.rule("*", partial(ic.kaiming_normal, layout="torch")),
        icj.rule("*", ic.xavier_uniform),  # the same fans, the other way round
        icj.rule("*", ic.normal, std=0.02),
        icj.rule("*", ic.orthogonal),
        icj.rule("*", ic.eye),
        icj.rule("*", lambda shape, dtype=None: ic.kaiming_normal(shape, dtype=dtype)),
    ],
    ids=lambda rule: re.sub(r" at 0x[0-9a-f]+", "", repr(rule)),
)
def test_the_same_values_as_before_are_no_warning(rule: icj.Rule) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = icj.plan(leaf(4, 8), [rule]).tensors["kernel"]
    assert np.array_equal(values(made), values(rule.tensor("kernel", (4, 8), "float32")))


def test_dirac_copies_the_input_of_a_jax_convolution() -> None:
    kernel = values(planned(ic.dirac, 3, 3, 4, 4))
    image = np.arange(2 * 5 * 5 * 4, dtype="float32").reshape(2, 5, 5, 4)
    out = jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert np.array_equal(out, image)


def test_hadamard_counts_the_last_axis_as_outputs() -> None:
    assert np.array_equal(values(planned(ic.hadamard, 4, 8)), values(ic.hadamard((8, 4))).T)
    assert planned(ic.hadamard, 8, 8) == ic.hadamard((8, 8))
    wanted = values(ic.hadamard((8, 4, 3, 3)))
    assert np.array_equal(values(planned(ic.hadamard, 3, 3, 4, 8)), wanted.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("builder", [ic.eye, partial(ic.sparse, sparsity=0.5)])
def test_schemes_of_matrices_alone_are_refused_on_convolutions(builder: Any) -> None:
    with pytest.raises(ic.PlanError, match="'kernel': shape"):
        planned(builder, 3, 3, 4, 8)


def test_under_jit_the_calls_say_outside_jit() -> None:
    tree = leaf(4, 8)
    plan = icj.plan(tree, seed=7)

    def init(x: Any) -> Any:
        return icj.init(tree, plan, "local")

    def fetch(x: Any) -> Any:
        return ic.fetch(plan, target="local", framework="jax")

    for function, call in ((init, "initclient.jax.init"), (fetch, r"fetch\(framework='jax'\)")):
        for transformed in (jax.jit(function), partial(jax.eval_shape, function)):
            with pytest.raises(RuntimeError, match=rf"{call} is called under .*outside jit"):
                transformed(1.0)
        assert jax.tree.leaves(function(1.0))[0].shape == (4, 8)
