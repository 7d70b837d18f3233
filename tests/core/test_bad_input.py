"""Every wrong argument is refused before any work, with tensor, field, value and a remedy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, VirtualFile, layout
from initcore.backends import load
from initcore.plan import builders
from initcore.plan.schemes import ARGUMENTS, REQUIRED, SCHEMES
from initcore.wire.plan_file import format_plan


def unchecked(name: str) -> Callable[..., Tensor]:
    """A builder without its own checks: plans from files come without builders."""
    signature = inspect.signature(getattr(builders, name))

    def build(*given: Any, **keywords: Any) -> Tensor:
        bound = signature.bind(*given, **keywords)
        bound.apply_defaults()
        common = bound.arguments.pop("common")
        return Tensor(scheme=name, **bound.arguments, **common)

    return build


constant, ones, zeros = map(unchecked, ("constant", "ones", "zeros"))
uniform, normal, trunc_normal = map(unchecked, ("uniform", "normal", "trunc_normal"))
eye, dirac, sparse = map(unchecked, ("eye", "dirac", "sparse"))
orthogonal, delta_orthogonal = map(unchecked, ("orthogonal", "delta_orthogonal"))
xavier_normal, kaiming_normal = map(unchecked, ("xavier_normal", "kaiming_normal"))
variance_scaling = unchecked("variance_scaling")


def violations(tensor: Any, name: str = "layer.weight", seed: Any = 7) -> list[tuple[str, str]]:
    with pytest.raises(PlanError) as caught:
        layout(Plan({name: tensor}, seed))
    assert isinstance(caught.value, ValueError)
    for violation in caught.value.violations:
        assert str(violation) in str(caught.value)
        assert violation.tensor in ("", name)
        if violation.tensor:
            assert violation.index == 0
            assert f"tensor {name!r}: {violation.field}: " in str(caught.value)
    return [(v.field, v.message) for v in caught.value.violations]


NAN, INF = math.nan, math.inf
BAD: list[tuple[str, Any, str, str]] = [
    # what is wrong, the tensor, the field, what the message must hold
    ("scheme", Tensor(scheme="unifrom", shape=(2,)), "scheme", "did you mean 'uniform'"),
    ("dtype", normal((2,), dtype="float33"), "dtype", "float33"),
    ("integer normal", normal((2,), dtype="I32"), "dtype", "constant, ones or zeros"),
    ("bool eye", eye((2, 2), dtype=bool), "dtype", "BOOL"),
    ("foreign argument", Tensor(scheme="zeros", shape=(2,), gain=2.0), "gain", "does not take it"),
    ("missing argument", Tensor(scheme="constant", shape=(2,)), "val", "missing"),
    ("missing sparsity", Tensor(scheme="sparse", shape=(2, 2)), "sparsity", "missing"),
    ("nan", normal((2,), NAN), "mean", "nan"),
    ("infinity", uniform((2,), 0.0, INF), "b", "inf"),
    ("nan constant", constant((2,), NAN), "val", "finite"),
    ("text", normal((2,), std="wide"), "std", "'wide'"),
    ("text that is a number", normal((2,), std="0.5"), "std", "'0.5'; it must be a number"),
    ("truth as a number", normal((2,), std=True), "std", "must be a number"),
    ("huge slope", kaiming_normal((2, 2), a=1e200), "a", "its square"),
    ("huge mean", trunc_normal((2,), 1e39, 1.0, -1.0, 1.0), "mean", "F32"),
    ("negative size", zeros((3, -1)), "shape", "must not be negative"),
    ("fractional size", zeros((3, 2.5)), "shape", "2.5"),
    ("true size", zeros((3, True)), "shape", "integers"),
    ("overflow", zeros((2**32, 2**32)), "shape", "2^63-1"),
    ("overflow of bytes", normal((2**61,), dtype="F64"), "shape", "2^63-1"),
    ("overflow beside an empty axis", zeros((0, 2**63)), "shape", "2^63-1"),
    ("mode", kaiming_normal((2, 2), mode="fan_avg"), "mode", "Mode fan_avg not supported"),
    ("vs mode", variance_scaling((2, 2), mode="fan"), "mode", "fan_geo_avg"),
    (
        "nonlinearity",
        kaiming_normal((2, 2), nonlinearity="swish"),
        "nonlinearity",
        "Unsupported nonlinearity swish",
    ),
    ("distribution", variance_scaling((2, 2), distribution="cauchy"), "distribution", "cauchy"),
    ("layout", xavier_normal((2, 2), layout="keras"), "layout", "torch, jax"),
    ("fans", xavier_normal((5,)), "shape", "fewer than 2 dimensions"),
    ("fans of a batch", xavier_normal((5, 5), batch_axes=(0,)), "shape", "batch axes [0]"),
    ("batch axis", xavier_normal((5, 5), batch_axes=(2,)), "batch_axes", "-2..1"),
    ("same axis", xavier_normal((5, 5, 5), batch_axes=(0, -3)), "batch_axes", "twice"),
    ("dims of eye", eye((2, 2, 2)), "shape", "Only tensors with 2 dimensions are supported"),
    ("dims of sparse", sparse((4,), 0.5), "shape", "Only tensors with 2 dimensions"),
    ("dims of dirac", dirac((2, 2)), "shape", "Only tensors with 3, 4, or 5 dimensions"),
    ("dims of orthogonal", orthogonal((4,)), "shape", "Only tensors with 2 or more dimensions"),
    ("dims of delta", delta_orthogonal((4, 4)), "shape", "3D, 4D or 5D"),
    ("fans of delta", delta_orthogonal((4, 5, 3)), "shape", "fan_in must be less or equal"),
    ("groups", dirac((4, 2, 3), groups=3), "groups", "dim 0 must be divisible by groups"),
    ("no groups", dirac((4, 2, 3), groups=0), "groups", "at least 1"),
    ("sparsity", sparse((4, 4), 1.5), "sparsity", "[0, 1]"),
    ("negative sparsity", sparse((4, 4), -0.1), "sparsity", "[0, 1]"),
    ("negative std", normal((2,), std=-1.0), "std", "normal expects std >= 0.0"),
    ("negative gain", xavier_normal((2, 2), -1.0), "gain", "must not be negative"),
    ("scale", variance_scaling((2, 2), scale=0.0), "scale", "positive"),
    ("bounds", uniform((2,), 1.0, 0.0), "a", "from=1.0 > to=0.0"),
    ("truncation", trunc_normal((2,), a=1.0, b=1.0), "a", "not below b"),
    ("zero std", trunc_normal((2,), std=0.0), "std", "positive"),
    ("far interval", trunc_normal((2,), a=7.0, b=9.0), "a", "widen the interval"),
    ("seed", zeros((2,), seed=2**64), "seed", "2^64-1"),
    ("own seed", zeros((2,), seed=-1), "seed", "2^64-1"),
    ("stream", zeros((2,), stream=""), "stream", "empty"),
    ("overflow of F16", normal((2,), std=20_000.0, dtype="F16"), "std", "F16"),
    ("overflow of F8", uniform((2,), 0.0, 500.0, dtype="F8_E4M3"), "b", "F8_E4M3"),
    ("constant too large", constant((2,), 1e39), "val", "F32"),
    ("constant too large for a sample", normal((2,), 1e39, dtype="F64"), "std", "F32"),
    ("half in an integer", constant((2,), 0.5, dtype="I8"), "val", "-128..127"),
    ("too large an integer", constant((2,), 256, dtype="U8"), "val", "0..255"),
    ("two as truth", constant((2,), 2, dtype="BOOL"), "val", "0..1"),
    ("inexact integer", constant((2,), 2**53 + 1, dtype="I64"), "val", "no double holds"),
    ("matrix", orthogonal((2**15, 2**15)), "shape", "at most"),
    ("long matrix", orthogonal((2**22, 2)), "shape", "at most"),
    ("delta matrix", delta_orthogonal((2**15, 2**15, 3)), "shape", "at most"),
    ("long column", sparse((2**29, 2), 0.5), "shape", "at most"),
    ("slices", Tensor(scheme="zeros", shape=(4, 4), slices=((0, 2),)), "slices", "one for each"),
    ("slice", Tensor(scheme="zeros", shape=(4,), slices=((0, 5),)), "slices", "outside the 4"),
    ("slice start", Tensor(scheme="zeros", shape=(4,), slices=((-1, 2),)), "slices", "0 <= start"),
    ("slice order", Tensor(scheme="zeros", shape=(4,), slices=((3, 2),)), "slices", "outside"),
    ("slice truth", Tensor(scheme="zeros", shape=(4,), slices=((False, 2),)), "slices", "integers"),
    ("no tensor", (4, 4), "scheme", "builder"),
]


@pytest.mark.parametrize(("tensor", "field", "text"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_wrong_arguments_are_refused(tensor: Any, field: str, text: str) -> None:
    found = violations(tensor)
    assert [name for name, _ in found] == [field]
    assert text in found[0][1]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "7", None, True])
def test_a_plans_seed_is_a_64_bit_integer(seed: Any) -> None:
    assert violations(zeros((2,)), seed=seed)[0][0] == "seed"


@pytest.mark.parametrize("name", ["", "__metadata__", "\ud800", "x" * 5000, 3])
def test_names_that_no_file_can_have_are_refused(name: Any) -> None:
    with pytest.raises(PlanError) as caught:
        layout(Plan({name: zeros((2,))}))
    assert caught.value.violations[0].field == "name"


def test_wide_truncations_are_refused_not_made_wrong() -> None:
    for mean, std in ((1e39, 1e39), (0.0, 1e39)):
        fields = [f for f, _ in violations(trunc_normal((6,), mean, std, -3e38, 3e38))]
        assert set(fields) <= {"mean", "std"}


def test_everything_wrong_is_reported_at_once() -> None:
    plan = Plan({"a": zeros((-1,)), "b": normal((2,)), "c": uniform((2,), NAN, dtype="F9")}, -1)
    with pytest.raises(PlanError) as caught:
        layout(plan)
    assert [v.path for v in caught.value.violations] == [
        "seed",
        "tensors[0].shape",
        "tensors[2].dtype",
        "tensors[2].a",
    ]


@given(st.sampled_from(sorted(SCHEMES)), st.sampled_from(ARGUMENTS))
def test_no_scheme_ignores_an_argument(scheme: str, argument: str) -> None:
    if argument in SCHEMES[scheme].arguments:
        return
    values: dict[str, Any] = {"mode": "fan_in", "nonlinearity": "relu", "layout": "jax"}
    values |= {"distribution": "normal", "batch_axes": (0,), "relative": True, "groups": 1}
    values |= {"axis": 0, "axes": (0,), "checkpoint": "c", "source": "s", "sha256": "0" * 64}
    values |= {"parts": (("p", zeros((4,))),)}
    needed = {n: values.get(n, 0.5) for n, d in SCHEMES[scheme].arguments.items() if d is REQUIRED}
    tensor = Tensor(
        scheme=scheme, shape=(4, 4, 4), **needed, **{argument: values.get(argument, 1.0)}
    )
    assert argument in [field for field, _ in violations(tensor)]


SHARDS: list[tuple[Any, str]] = [
    ((slice(0, 5),), "outside the 4"),
    ((slice(None), slice(None), slice(None)), "3 slices for the 2 dimensions"),
    ((slice(0, 4, 2),), "step"),
    ((slice(3, 1),), "outside"),
    ((slice(-5, None),), "outside"),
    ((2,), "slice(start, stop)"),
    ((slice("a", None),), "integers"),
]


@pytest.mark.parametrize(("index", "text"), SHARDS)
def test_wrong_shards_are_refused_where_they_are_made(index: Any, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan({"w": zeros((4, 6))}).shard({"w": index})
    assert text in str(caught.value)
    assert "tensor 'w': slices" in str(caught.value)


def test_shards_of_unknown_tensors_are_refused() -> None:
    with pytest.raises(PlanError, match="no tensor of this name"):
        Plan({"w": zeros((4,))}).shard({"v": slice(0, 1)})
    with pytest.raises(PlanError, match="no tensor of this name"):
        Plan({"w": zeros((4,))}).select(["w", "v"])


def test_torch_says_the_same() -> None:
    """torch's own words, where torch refuses too."""
    init, empty = torch.nn.init, torch.empty
    for call, tensor in (
        (lambda: init.xavier_normal_(empty(5)), xavier_normal((5,))),
        (lambda: init.eye_(empty(2, 2, 2)), eye((2, 2, 2))),
        (lambda: init.dirac_(empty(2, 2)), dirac((2, 2))),
        (lambda: init.dirac_(empty(4, 2, 3), 3), dirac((4, 2, 3), 3)),
        (lambda: init.orthogonal_(empty(4)), orthogonal((4,))),
        (lambda: init.sparse_(empty(4), 0.5), sparse((4,), 0.5)),
        (
            lambda: init.kaiming_normal_(empty(2, 2), mode="fan"),
            kaiming_normal((2, 2), mode="fan"),
        ),
        (
            lambda: init.kaiming_normal_(empty(2, 2), nonlinearity="swish"),
            kaiming_normal((2, 2), nonlinearity="swish"),
        ),
        (lambda: init.uniform_(empty(2), 1.0, 0.0), uniform((2,), 1.0, 0.0)),
        (lambda: init.normal_(empty(2), std=-1.0), normal((2,), std=-1.0)),
    ):
        with pytest.raises((ValueError, RuntimeError)) as theirs:
            call()
        words = str(theirs.value).split(", please use")[0].split("=")[0].split(" std ")[0]
        assert words in violations(tensor)[0][1]


def test_unusual_truncations_warn_like_torch() -> None:
    with pytest.warns(UserWarning, match="mean is more than 2 std") as theirs:
        torch.nn.init.trunc_normal_(torch.empty(2), mean=0.0, a=2.5, b=4.0)
    ours = layout(Plan({"t": trunc_normal((2,), a=2.5, b=4.0)})).warnings
    assert len(ours) == len(theirs) == 1
    assert "mean is more than 2 std from [a, b]" in ours[0]


def test_extremes_that_are_right_are_taken() -> None:
    plan = Plan(
        {
            "scalar": normal(()),
            "seed": zeros((2,), seed=2**64 - 1),
            "wide": uniform((2,), -3e38, 3e38),
            "int": constant((2,), -(2**63), dtype="I64"),
            "tiny": normal((2,), std=1e-45),
            "flat": normal((2,), std=0.0),
            "name with spaces, ünïcode 🙂": ones((1,)),
        },
        2**64 - 1,
    )
    assert layout(plan).warnings == ()


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_numbers_that_no_float_holds_are_wrong_wherever_a_plan_goes(value: int) -> None:
    plan = Plan({"w": constant((2,), value)})
    for use in (layout, format_plan):
        with pytest.raises(PlanError, match="'w'"):
            use(plan)


def test_numpys_error_settings_are_the_callers_own_business() -> None:
    plan = Plan(
        {
            "u": uniform((4,), -1.0, 0.0),
            "n": normal((4,), std=1e-40),
            "q": orthogonal((4, 4), gain=1e-44),
            "h": normal((4,), std=1e-9, dtype="float16"),
        },
        1,
    )

    def made() -> list[bytes]:
        laid_out = layout(plan)
        file = VirtualFile(laid_out, load("numpy"))
        return [file.array(entry).tobytes() for entry in laid_out.entries]

    expected = made()
    with np.errstate(all="raise"):
        assert made() == expected


@pytest.mark.parametrize("scheme", [["normal"], {"normal": 1}, None, 3])
def test_a_scheme_that_is_no_text_is_named(scheme: Any) -> None:
    with pytest.raises(PlanError, match=r"tensor 'w': scheme: .* is not known"):
        layout(Plan({"w": Tensor(scheme=scheme, shape=(2,))}))


def test_a_number_without_a_value_is_named() -> None:
    with pytest.raises(PlanError, match=r"val: is .*meta.*; it must be a number"):
        layout(Plan({"w": constant((2,), torch.empty((), device="meta"))}))
