"""A recording finds the exact law of each tensor, by any way a model may draw it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initclient._laws import Truncated, Uniform, through_clamp, through_erfinv
from scipy import special
from torch import nn

from tests.torch.recordings import Holder


def law(make: Callable[[], torch.Tensor], device: str = "meta") -> ic.Tensor:
    return ict.record(Holder, make, device=device).plan().tensors["weight"]


def written(shape: tuple[int, ...], write: Callable[[torch.Tensor], Any]) -> ic.Tensor:
    def make() -> torch.Tensor:
        tensor = torch.empty(shape)
        with torch.no_grad():
            write(tensor)
        return tensor

    on_meta, on_cpu = law(make), law(make, "cpu")
    assert on_meta == on_cpu
    return on_meta


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda w: nn.init.normal_(w, 1.0, 0.02), ic.normal((8, 4), mean=1.0, std=0.02)),
        (lambda w: w.normal_(std=0.5), ic.normal((8, 4), std=0.5)),
        (lambda w: w.copy_(torch.randn(8, 4)), ic.normal((8, 4), mean=0.0, std=1.0)),
        (lambda w: w.copy_(torch.randn_like(w) * 3 + 1), ic.normal((8, 4), mean=1.0, std=3.0)),
        (lambda w: w.copy_(torch.normal(0.5, 2.0, (8, 4))), ic.normal((8, 4), mean=0.5, std=2.0)),
        (lambda w: nn.init.uniform_(w, -2, 3), ic.uniform((8, 4), a=-2.0, b=3.0)),
        (lambda w: w.copy_(torch.rand(8, 4)), ic.uniform((8, 4), a=0.0, b=1.0)),
        (lambda w: w.copy_(2 - torch.rand(8, 4)), ic.uniform((8, 4), a=1.0, b=2.0)),
        (lambda w: w.uniform_().mul_(-2).add_(1), ic.uniform((8, 4), a=-1.0, b=1.0)),
        (lambda w: w.normal_().div_(4).neg_(), ic.normal((8, 4), mean=0.0, std=0.25)),
        (lambda w: w.normal_(std=0.0), ic.zeros((8, 4))),
        (lambda w: w.uniform_(3, 3), ic.constant((8, 4), 3.0)),
        (lambda w: w.normal_().mul_(0), ic.zeros((8, 4))),
        (lambda w: w.zero_(), ic.zeros((8, 4))),
        (lambda w: nn.init.ones_(w), ic.ones((8, 4))),
        (lambda w: w.fill_(0.1), ic.constant((8, 4), 0.1)),
        (lambda w: w.copy_(torch.full((8, 4), 2.5)), ic.constant((8, 4), 2.5)),
        (lambda w: w.copy_(torch.tensor([[1.5] * 4] * 8)), ic.constant((8, 4), 1.5)),
        (nn.init.eye_, ic.eye((8, 4))),
        (lambda w: nn.init.eye_(w).mul_(0.5), ic.identity((8, 4), 0.5)),
        (nn.init.orthogonal_, ic.orthogonal((8, 4))),
        (lambda w: nn.init.orthogonal_(w, 2).mul_(-3), ic.orthogonal((8, 4), 6.0)),
        (lambda w: nn.init.orthogonal_(w.t()), ic.orthogonal((8, 4))),
        (lambda w: nn.init.sparse_(w, 0.25, 0.1), ic.sparse((8, 4), 0.25, 0.1)),
        (
            lambda w: nn.init.trunc_normal_(w, std=0.02),
            ic.trunc_normal((8, 4), std=0.02, a=-2.0, b=2.0),
        ),
        (
            lambda w: nn.init.trunc_normal_(w, 0.5, 2.0, -1.0, 1.5).mul_(-2).add_(1),
            ic.trunc_normal((8, 4), mean=0.0, std=4.0, a=-2.0, b=3.0),
        ),
    ],
)
def test_a_draw_is_its_law(write: Callable[[torch.Tensor], Any], expected: ic.Tensor) -> None:
    found = written((8, 4), write)
    plain = {name: value for name, value in found.given().items() if value is not None}
    wanted = {**({"gain": 1.0} if found.scheme == "orthogonal" else {}), **expected.given()}
    assert (found.scheme, found.shape, found.dtype) == (expected.scheme, (8, 4), "F32")
    assert plain == pytest.approx(wanted)


def test_a_convolution_that_copies_is_dirac() -> None:
    found = written((6, 3, 3), lambda w: nn.init.dirac_(w, 2))
    assert found == ic.dirac((6, 3, 3), groups=2)


def test_a_scale_that_a_tensor_holds_is_folded_in() -> None:
    found = law(lambda: torch.randn(4, 4) * (torch.tensor(2.0) ** -0.5))
    assert found.scheme == "normal"
    assert found.std == pytest.approx(2**-0.5)


@pytest.mark.parametrize("least", [1e-9, 1e-7, 1e-4])
def test_a_clamp_before_a_logarithm_bounds_its_values(least: float) -> None:
    """Also where it moves next to nothing, below which the logarithm would go far."""
    found = law(lambda: torch.rand(64).clamp(min=least).log())
    assert found.scheme == "apply"
    (described,) = ic.describe({"w": found}, target="local").tensors
    values = ic.fetch({"w": found}, target="local")["w"]
    assert values.min() >= math.log(least)
    ((_, inner),) = found.parts or ()
    bound = inner.a if inner.scheme in ("uniform", "apply") else None
    assert bound == pytest.approx(least)
    assert described.scheme == "apply"


@given(steps=st.lists(st.tuples(st.sampled_from("*+-/"), st.floats(0.1, 4.0)), max_size=6))
@settings(max_examples=25, deadline=None)
def test_affine_changes_fold_as_they_do_with_doubles(steps: list[tuple[str, float]]) -> None:
    def make() -> torch.Tensor:
        made = torch.rand(3)
        for sign, number in steps:
            made = {
                "*": made * number,
                "+": made + number,
                "-": number - made,
                "/": made / number,
            }[sign]
        return made

    low, high = 0.0, 1.0
    for sign, number in steps:
        if sign == "-":
            low, high = number - high, number - low
        else:
            step = {"*": lambda x, n: x * n, "+": lambda x, n: x + n, "/": lambda x, n: x / n}
            low, high = step[sign](low, number), step[sign](high, number)
    found = law(make)
    assert (found.a, found.b) == pytest.approx((low, high), rel=1e-12, abs=1e-12)


def test_a_constant_is_what_torch_computes_in_the_tensor_s_own_type() -> None:
    def make() -> torch.Tensor:
        return torch.ones(3, dtype=torch.bfloat16).mul_(0.1).mul_(3).add_(1)

    plan = ict.record(Holder, make).plan()
    made = torch.from_numpy(ic.fetch(plan, target="local")["weight"].view(np.int16).copy())
    assert torch.equal(made.view(torch.bfloat16), make())


def test_a_truncated_normal_by_the_inverse_error_function_is_one() -> None:
    """The route of older libraries: uniform, erfinv, scale, clamp."""

    def truncated(w: torch.Tensor) -> None:
        low, high = ((1 + math.erf(x / 0.02 / math.sqrt(2))) / 2 for x in (-0.04, 0.04))
        w.uniform_(2 * low - 1, 2 * high - 1)
        w.erfinv_()
        w.mul_(0.02 * math.sqrt(2.0))
        w.add_(0.0)
        w.clamp_(min=-0.04, max=0.04)

    found = written((8, 4), truncated)
    assert found.scheme == "trunc_normal"
    assert found.std == pytest.approx(0.02, rel=1e-14)
    assert (found.a, found.b) == (-0.04, 0.04)


@given(a=st.floats(-0.9999, 0.99), width=st.floats(1e-3, 1.0))
def test_erfinv_of_a_uniform_has_the_inverse_s_bounds(a: float, width: float) -> None:
    b = min(a + width, 0.9999)
    made = through_erfinv(Uniform(a, b))
    assert isinstance(made, Truncated)
    assert (made.a, made.b) == pytest.approx((special.erfinv(a), special.erfinv(b)), rel=1e-9)


def test_a_clamp_that_cuts_off_next_to_nothing_leaves_the_law() -> None:
    assert through_clamp(Uniform(-1, 1), -1, 1) == Uniform(-1, 1)
    assert through_clamp(Truncated(0, 1, -2, 2), -3, 3) == Truncated(0, 1, -2, 2)


def test_a_padding_row_is_a_row_of_zeros_in_the_plan() -> None:
    plan = ict.record(nn.Embedding, 10, 4, padding_idx=3).plan()
    assert plan.tensors["weight"].zero_rows == (3,)
    assert plan.tensors["weight"].scheme == "normal"


def test_parts_along_an_axis_are_parts_with_streams_of_their_own() -> None:
    def qkv(w: torch.Tensor) -> None:
        nn.init.normal_(w[:4], std=0.1)
        nn.init.normal_(w[4:6], std=0.2)
        nn.init.zeros_(w[6:])

    found = written((8, 4), qkv)
    assert found.scheme == "concatenate"
    parts = dict(found.parts or ())
    assert [part.shape for part in parts.values()] == [(4, 4), (2, 4), (2, 4)]
    assert [part.scheme for part in parts.values()] == ["normal", "normal", "zeros"]
    assert parts["0"].stream == "weight/0"


def test_parts_of_one_law_are_one_draw() -> None:
    def experts(w: torch.Tensor) -> None:
        for expert in w:
            nn.init.normal_(expert, std=0.02)

    assert written((5, 4, 3), experts) == ic.normal((5, 4, 3), mean=0.0, std=0.02)


def test_a_forget_gate_that_is_set_leaves_three_gates_of_noise() -> None:
    def gates(w: torch.Tensor) -> None:
        w.uniform_(-0.5, 0.5)
        w[4:8].fill_(1.0)

    found = written((16,), gates)
    parts = [(part.scheme, part.shape) for _, part in found.parts or ()]
    assert parts == [("uniform", (4,)), ("ones", (4,)), ("uniform", (8,))]


def test_orthogonal_gates_are_matrices_of_their_own() -> None:
    def gates(w: torch.Tensor) -> None:
        for gate in w.chunk(4):
            nn.init.orthogonal_(gate)

    found = written((16, 4), gates)
    assert [part.scheme for _, part in found.parts or ()] == ["orthogonal"] * 4
    assert len({part.stream for _, part in found.parts or ()}) == 4


def test_a_box_within_a_matrix_is_a_part_within_parts() -> None:
    def box(w: torch.Tensor) -> None:
        w.normal_()
        w[2:4, 1:3] = 0.0

    plan = ict.record(Holder, lambda: _filled((6, 5), box)).plan(seed=3)
    values = ic.fetch(plan, target="local")["weight"]
    zeros = np.zeros((6, 5), dtype=bool)
    zeros[2:4, 1:3] = True
    assert ((values == 0) == zeros).all()


def test_columns_and_masks_are_parts_too() -> None:
    def make() -> torch.Tensor:
        mask = torch.ones(4, 6)
        mask[:, ::3] = 0
        return torch.randn(4, 6) * mask

    values = ic.fetch(ict.record(Holder, make).plan(seed=1), target="local")["weight"]
    assert ((values == 0) == (np.arange(6) % 3 == 0)).all()


def test_draws_that_are_joined_or_cut_are_parts() -> None:
    def make() -> torch.Tensor:
        drawn = torch.randn(8, 4)
        return torch.cat([drawn[4:] * 2, torch.zeros(2, 4), drawn[:4] * 3])

    parts = [(part.scheme, part.std) for _, part in law(make).parts or ()]
    assert parts == [("normal", 2.0), ("zeros", None), ("normal", 3.0)]


def test_indices_move_elements_and_keep_their_law() -> None:
    found = law(lambda: torch.randn(6, 4)[torch.tensor([5, 3, 1, 0, 2, 4])].flip(0))
    assert found == ic.normal((6, 4), mean=0.0, std=1.0)


def test_an_own_element_type_is_kept_or_replaced() -> None:
    recording = ict.record(nn.Linear, 4, 4, dtype=torch.bfloat16)
    assert recording.plan().tensors["weight"].dtype == "BF16"
    assert recording.plan(dtype="float32").tensors["weight"].dtype == "F32"


def test_integers_and_truth_values_are_constants_of_their_type() -> None:
    class Counters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.tensor(0))
            self.register_buffer("used", torch.ones(3, dtype=torch.bool))

    tensors = ict.record(Counters).plan().tensors
    assert (tensors["steps"].dtype, tensors["steps"].scheme) == ("I64", "zeros")
    assert (tensors["used"].dtype, tensors["used"].scheme) == ("BOOL", "ones")


def _filled(shape: tuple[int, ...], write: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    tensor = torch.empty(shape)
    write(tensor)
    return tensor


@pytest.mark.parametrize(
    ("make", "function"),
    [
        (lambda: torch.rand(40).add(1).log(), "log"),
        (lambda: torch.rand(40).exp(), "exp"),
        (lambda: torch.rand(40).add(1).log1p(), "log1p"),
        (lambda: torch.rand(40).expm1(), "expm1"),
        (lambda: torch.rand(40).sqrt(), "sqrt"),
        (lambda: torch.randn(40) ** 2, "square"),
        (lambda: torch.randn(40).abs(), "abs"),
        (lambda: torch.rand(40).add(1).reciprocal(), "reciprocal"),
        (lambda: nn.functional.softplus(torch.randn(40)), "softplus"),
        (lambda: (x := torch.rand(40) + 1) + torch.log(-torch.expm1(-x)), "inverse_softplus"),
        (lambda: torch.randn(40).clamp(min=0.5), "clamp"),
        (lambda: torch.rand(40).exp() * 3, "multiply"),
        (lambda: 1 - torch.rand(40).exp(), "add"),
    ],
)
def test_a_function_of_a_draw_is_applied_in_the_plan(
    make: Callable[[], torch.Tensor], function: str
) -> None:
    """The plan's own draw, through torch's function, gives the plan's values."""
    plan = ict.record(Holder, make).plan(seed=5)
    found = plan.tensors["weight"]
    assert (found.scheme, found.function) == ("apply", function)
    inner = found
    while inner.scheme == "apply":
        ((_, inner),) = inner.parts or ()
    draw = ic.fetch(ic.Plan({"weight": inner}, 5), target="local")["weight"]
    values = torch.from_numpy(ic.fetch(plan, target="local")["weight"].copy())
    assert torch.unique(values).numel() >= 10
    own = torch.from_numpy(draw.copy()).double()
    applied = _applied(found, own)
    assert torch.allclose(values.double(), applied, rtol=1e-6, atol=1e-7)


def _applied(tensor: ic.Tensor, draw: torch.Tensor) -> torch.Tensor:
    if tensor.scheme != "apply":
        return draw
    ((_, part),) = tensor.parts or ()
    x = _applied(part, draw)
    name = tensor.function
    if name == "inverse_softplus":
        return x + torch.log(-torch.expm1(-x))
    if name == "clamp":
        return x.clamp(tensor.a, tensor.b)
    if name in ("add", "multiply"):
        return x + tensor.a if name == "add" else x * tensor.a
    if name == "softplus":
        return nn.functional.softplus(x)
    return getattr(torch, str(name))(x)
