"""A tensor has as many dimensions as an array of the installed NumPy may have, and no more.

NumPy 1 allows 32 and NumPy 2 allows 64: `make test-oldest` runs this with 1.26.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import initclient as ic
import numpy as np
import pytest
from initcore import Plan, PlanError, Tensor, layout
from initcore.plan import MAX_DIMENSIONS
from initcore.wire import format_plan, parse_plan

MOST = (1,) * MAX_DIMENSIONS
MORE = (1, *MOST)
REFUSED = re.escape(
    f"shape: has {len(MORE)} dimensions; at most {MAX_DIMENSIONS} are allowed with NumPy "
    f"{np.__version__}"
)

SHAPES: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "zeros": ic.zeros,
    "normal": lambda shape: ic.normal(shape, std=0.5),
    "kaiming_normal": lambda shape: ic.kaiming_normal((*shape[2:], 2, 2)),
    "literal": lambda shape: ic.literal(shape, [1.5]),
    "stack": lambda shape: ic.stack({"part": ic.normal(shape[1:])}),
    "concatenate": lambda shape: ic.concatenate({"part": ic.normal(shape)}),
    "permute": lambda shape: ic.permute({"part": ic.normal(shape)}, range(len(shape))),
    "broadcast_to": lambda shape: ic.broadcast_to(shape, {"part": ic.normal(())}),
    "apply": lambda shape: ic.apply({"part": ic.normal(shape)}, "exp"),
}


def test_the_limit_is_numpys() -> None:
    assert np.zeros(MOST).ndim == MAX_DIMENSIONS
    with pytest.raises(ValueError, match="dimension"):
        np.zeros(MORE)


@pytest.mark.parametrize("scheme", SHAPES)
def test_as_many_as_numpy_allows_are_drawn(scheme: str) -> None:
    plan = Plan({"w": SHAPES[scheme](MOST)}, 7)
    array = ic.fetch(plan, target="local")["w"]
    assert array.ndim == MAX_DIMENSIONS
    assert parse_plan(format_plan(plan)) == plan


@pytest.mark.parametrize("scheme", SHAPES)
def test_one_more_is_refused_before_anything_is_drawn(scheme: str) -> None:
    with pytest.raises(PlanError, match=f"^{REFUSED}$"):
        SHAPES[scheme](MORE)


def test_a_tensor_that_no_builder_made_is_refused_with_its_plan() -> None:
    part = Tensor(scheme="normal", shape=MORE, mean=0.0, std=1.0)
    whole = Tensor(scheme="apply", shape=MOST, parts=(("part", part),), function="exp")
    with pytest.raises(PlanError, match=f"^tensor 'w': {REFUSED}$"):
        layout(Plan({"w": part}, 7))
    with pytest.raises(PlanError, match=rf"^tensor 'w': parts\[0\]\.{REFUSED}$"):
        layout(Plan({"w": whole}, 7))


def test_one_more_is_refused_in_a_plan_file() -> None:
    sizes = ", ".join(map(str, MORE))
    text = f"tensors:\n- name: w\n  shape: [{sizes}]\n  scheme: zeros\n"
    with pytest.raises(PlanError, match=rf"tensor 'w'.*{REFUSED}"):
        layout(parse_plan(text))
