"""Builders take any library's numbers, shapes and names, and refuse the rest at once."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

import initclient as ic
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, layout
from initcore.dtypes import DTYPES, DTypeName, canonical_name
from initcore.plan import builders, schemes
from initcore.plan.schemes import REALS, SCHEMES
from initcore.wire.plan_file import parse_plan

ROOT = Path(__file__).parent.parent.parent


NUMBERS: list[Any] = [
    np.float32(0.5),
    np.float64(0.5),
    np.longdouble(0.5),
    np.array(0.5),
    ml_dtypes.bfloat16(0.5),
    torch.tensor(0.5),
    jnp.float32(0.5),
    Decimal("0.5"),
    Fraction(1, 2),
]


@pytest.mark.parametrize("number", NUMBERS, ids=[type(n).__module__ for n in NUMBERS])
def test_reals_of_any_library_are_numbers(number: Any) -> None:
    made = ic.normal((2, 2), std=number)
    assert made == ic.normal((2, 2), std=0.5)
    assert type(made.std) is float
    assert layout(Plan({"w": made})).digest == layout(Plan({"w": ic.normal((2, 2), 0, 0.5)})).digest


INTEGERS: list[Any] = [
    np.int64(2),
    np.uint8(2),
    np.array(2),
    torch.tensor(2),
    jnp.int32(2),
]


@pytest.mark.parametrize("two", INTEGERS, ids=[type(n).__module__ for n in INTEGERS])
def test_integers_of_any_library_are_integers(two: Any) -> None:
    assert ic.zeros(two) == ic.zeros((2,))
    assert ic.normal((two, 4), std=two) == ic.normal((2, 4), std=2)
    assert type(ic.constant((3,), two, dtype="I64").val) is int
    assert ic.dirac((4, 2, 3), groups=two) == ic.dirac((4, 2, 3), groups=2)
    assert ic.xavier_normal((4, 3, 5), batch_axes=two) == ic.xavier_normal(
        (4, 3, 5), batch_axes=(2,)
    )
    assert ic.zeros((3, 3), zero_rows=[two], seed=two) == ic.zeros((3, 3), zero_rows=(2,), seed=2)
    part = {"p": ic.zeros((3, 4, 5))}
    assert ic.stack(part, two) == ic.stack(part, 2)
    assert ic.permute(part, (two, 0, 1)) == ic.permute(part, (2, 0, 1))
    assert Plan({"w": ic.zeros(3)}, two) == Plan({"w": ic.zeros(3)}, 2)


@pytest.mark.parametrize(
    "shape",
    [
        torch.Size([3, 4]),
        torch.empty(3, 4).shape,
        jnp.zeros((3, 4)).shape,
        (np.int64(3), np.int32(4)),
        [3, 4],
        np.array([3, 4]),
        torch.tensor([3, 4]),
        range(3, 5),
    ],
    ids=str,
)
def test_shapes_of_any_library_are_shapes(shape: Any) -> None:
    made = ic.normal(shape)
    assert made == ic.normal((3, 4))
    assert all(type(size) is int for size in made.shape)


def test_large_integers_stay_exact_and_texts_become_plain() -> None:
    assert ic.constant((2,), np.uint64(2**63 + 2**62), dtype="U64").val == 2**63 + 2**62
    made = ic.normal((2,), stream=np.str_("s"), dtype=np.str_("bfloat16"))
    assert made == ic.normal((2,), stream="s", dtype="bfloat16")
    assert type(made.stream) is str


AT_ONCE: list[tuple[str, Callable[[], Any], str, str]] = [
    # what is wrong, the call, the field, what the message must hold
    ("mode", lambda: ic.kaiming_normal((4, 4), mode="fan_inn"), "mode", "did you mean 'fan_in'?"),
    ("torch's words", lambda: ic.kaiming_uniform((4, 4), mode="fan"), "mode", "Mode fan not supp"),
    (
        "text",
        lambda: ic.normal((4,), std="0.02"),
        "std",
        "'0.02'; it must be a number, 0.02 without",
    ),
    ("words", lambda: ic.normal((4,), std="wide"), "std", "'wide'; it must be a number"),
    ("dtype", lambda: ic.normal((4,), dtype="float8"), "dtype", "F8_E4M3, F8_E5M2"),
    ("dtype of parts", lambda: ic.stack({"a": ic.ones(3)}, dtype="bf61"), "dtype", "'bf61'"),
    ("layout", lambda: ic.xavier_normal((4, 4), layout="keras"), "layout", "torch, jax"),
    (
        "nonlinearity",
        lambda: ic.kaiming_normal((4, 4), nonlinearity="rleu"),
        "nonlinearity",
        "Unsupported nonlinearity rleu: did you mean 'relu'?",
    ),
    (
        "distribution",
        lambda: ic.variance_scaling((4, 4), distribution="untruncated_normal"),
        "distribution",
        "did you mean 'normal'?",
    ),
    ("nan", lambda: ic.constant((4,), float("nan")), "val", "finite"),
    ("complex", lambda: ic.normal((4,), complex(1.0)), "mean", "must be a number"),
    ("several", lambda: ic.normal((4,), np.array([0.1, 0.2])), "mean", "must be a number"),
    ("truth", lambda: ic.normal((4,), std=True), "std", "must be a number"),
    ("groups", lambda: ic.dirac((4, 2, 3), groups="2"), "groups", "at least 1"),
    ("relative", lambda: ic.trunc_normal((4,), relative=1), "relative", "true or false"),
    ("seed", lambda: ic.zeros((4,), seed=-1), "seed", "0..2^64-1"),
    ("stream", lambda: ic.zeros((4,), stream=""), "stream", "empty"),
    ("sha256", lambda: ic.pretrained((4,), "c", sha256="12"), "sha256", "64 hexadecimal"),
    ("no size", lambda: ic.zeros(None), "shape", "axis 0 is None"),
    ("fraction", lambda: ic.zeros(4.0), "shape", "axis 0 is 4.0; sizes must be integers"),
    ("matrix", lambda: ic.normal(torch.empty(4, 3)), "shape", "[4, 3]; give its shape"),
    ("vector", lambda: ic.normal(np.ones(3)), "shape", "ic.normal(w.shape)"),
    ("jax", lambda: ic.eye(jnp.ones((3, 3))), "shape", "ic.eye(w.shape)"),
    ("two sizes", lambda: ic.normal(4, 4), "shape", "ic.normal((4, 4))"),
    ("a mean", lambda: ic.normal(4, 4), "shape", "write ic.normal((4,), mean=4)"),
    ("numpy's sizes", lambda: ic.orthogonal(np.int64(8), 4), "shape", "ic.orthogonal((8, 4))"),
    ("scalar", lambda: ic.permute({"s": ic.normal(())}, ()), "axes", "'s' is a scalar"),
    ("axes of a scalar", lambda: ic.permute({"s": ic.ones(())}, (0,)), "axes", "[0], but 's' is a"),
]


@pytest.mark.parametrize(
    ("call", "field", "text"), [b[1:] for b in AT_ONCE], ids=[b[0] for b in AT_ONCE]
)
def test_builders_refuse_at_once(call: Callable[[], Any], field: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        call()
    assert [violation.field for violation in caught.value.violations] == [field]
    assert text in str(caught.value)


def test_builders_name_everything_that_is_wrong() -> None:
    with pytest.raises(PlanError) as caught:
        ic.kaiming_normal((4, "4"), a="1", mode="fan_inn", dtype="float8", seed=-1)
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"shape", "a", "mode", "dtype", "seed"}


@given(st.sampled_from(sorted(SCHEMES)), st.text(max_size=5) | st.none() | st.lists(st.floats()))
def test_no_builder_takes_another_thing_for_a_number(scheme: str, value: Any) -> None:
    arguments = SCHEMES[scheme].arguments
    for name in set(arguments) & set(REALS):
        if value is None and arguments[name] is not schemes.REQUIRED:
            continue
        given_arguments = {key: 0.5 for key in ("val", "sparsity") if key in arguments}
        builder = getattr(ic, scheme)
        first: tuple[Any, ...] = ((4, 4),)
        if scheme == "apply":
            first = ({"x": ic.normal((4, 4))}, "clamp")
        if value is None:
            # None is an argument that is not given, which whole plans report.
            with pytest.raises(PlanError):
                layout(Plan({"w": builder(*first, **{**given_arguments, name: value})}))
            continue
        with pytest.raises(PlanError, match=f"^{name}: "):
            builder(*first, **{**given_arguments, name: value})


def test_what_may_be_meant_is_taken() -> None:
    assert ic.constant(4, 4).shape == (4,)
    assert ic.uniform(4, 2, 5) == ic.uniform((4,), 2.0, 5.0)
    assert ic.normal(4, 0.5) == ic.normal((4,), 0.5)
    assert ic.normal(4, 0, 1) == ic.normal((4,), 0.0, 1.0)
    assert ic.normal((4,), 4) == ic.normal((4,), mean=4.0)
    assert ic.normal(4, 4, 2) == ic.normal((4,), 4.0, 2.0)
    assert ic.normal(4, 4.0) == ic.normal((4,), 4.0)


def test_what_needs_other_fields_waits_for_the_plan() -> None:
    plan = Plan(
        {
            "a": ic.normal((2,), std=-1.0),
            "negative": ic.zeros((4, -1)),
            "b": ic.normal((2,), dtype="I32"),
            "c": ic.xavier_normal((2, 2), batch_axes=(2,)),
            "d": ic.zeros((2**32, 2**32)),
        }
    )
    with pytest.raises(PlanError) as caught:
        layout(plan)
    assert [(v.tensor, v.field) for v in caught.value.violations] == [
        ("a", "std"),
        ("negative", "shape"),
        ("b", "dtype"),
        ("c", "batch_axes"),
        ("d", "shape"),
    ]


def test_files_report_all_their_tensors() -> None:
    text = (
        "tensors: [{name: v, shape: [2, 2], scheme: KAIMING_NORMAL, mode: FAN_AVG}, "
        "{name: w, shape: [2], scheme: NORMAL, std: -1}]"
    )
    with pytest.raises(PlanError) as caught:
        layout(parse_plan(text))
    assert {(v.tensor, v.field) for v in caught.value.violations} == {("v", "mode"), ("w", "std")}


def test_rules_name_the_tensors_whose_values_builders_refuse() -> None:
    import initclient.torch as ict

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    rules = [ict.rule("*weight", ic.normal, std="0.02"), ict.rule("*", ic.zeros)]
    with pytest.raises(PlanError) as caught:
        ict.plan(model, rules=rules)
    found = [(v.tensor, v.field) for v in caught.value.violations]
    assert found == [("0.weight", "std"), ("1.weight", "std")]


@pytest.mark.parametrize("argument", ["mode", "nonlinearity", "distribution", "layout"])
def test_the_types_of_builders_are_the_names_that_checks_take(argument: str) -> None:
    for name, scheme in SCHEMES.items():
        if argument in scheme.arguments:
            hint = get_type_hints(getattr(builders, name))[argument]
            for known in get_args(hint):
                builder = getattr(builders, name)
                assert getattr(builder((4, 4), **{argument: known}), argument) == known
            with pytest.raises(PlanError) as caught:
                getattr(builders, name)((4, 4), **{argument: "xyzzy"})
            assert f"use one of {', '.join(get_args(hint))}" in str(caught.value)


def test_backends_and_frameworks_have_types_of_their_names() -> None:
    from initclient._compute.frameworks._framework import FRAMEWORKS, FrameworkName
    from initcore.backends import BACKENDS
    from initcore.backends.selection import _LOADERS

    assert set(get_args(FrameworkName)) == set(FRAMEWORKS)
    # "numba" is an old name of "native".
    assert {"auto", "numba", *_LOADERS} == set(BACKENDS)
    for function in (ic.fetch, ic.fetch_file, ic.verify, ic.plot):
        assert get_args(get_args(get_type_hints(function)["backend"])[0]) == BACKENDS


def test_types_of_elements_are_known_names() -> None:
    names = get_args(DTypeName)
    assert {canonical_name(name) for name in names} == set(DTYPES)
    assert {str(dtype.numpy) for dtype in DTYPES.values()} | set(DTYPES) < set(names)


SHAPED = [name for name in builders.__all__ if SCHEMES[name].draws or name == "pretrained"]


@pytest.mark.parametrize("number", [np.int64, int])
@pytest.mark.parametrize("name", SHAPED)
def test_sizes_as_several_arguments_are_answered_with_the_shape(name: str, number: Any) -> None:
    taken = [one for one in inspect.signature(getattr(ic, name)).parameters if one in REALS]
    for sizes in ((3, 4, 5), (64, 3, 7, 7), (2, 3, 4, 5, 6, 7)):
        if len(sizes) <= 1 + len(taken):
            continue  # a mean and a std
        with pytest.raises((TypeError, PlanError)) as caught:
            getattr(ic, name)(*map(number, sizes))
        assert f"ic.{name}({sizes})" in str(caught.value)
    if name != "constant":  # three times the constant 4
        with pytest.raises((TypeError, PlanError)) as caught:
            getattr(ic, name)(number(3), number(4))
        assert f"ic.{name}((3, 4))" in str(caught.value)
    if name != "pretrained":  # two texts
        with pytest.raises((TypeError, PlanError), match=r"without a name|must be a number|Mode"):
            getattr(ic, name)((3, 4), "float32", "float32")


HABITS: list[tuple[str, str, str]] = [
    ("normal", "stddev", "std"),  # TensorFlow and Keras
    ("normal", "scale", "std"),  # NumPy
    ("normal", "loc", "mean"),
    ("normal", "sigma", "std"),
    ("normal", "size", "shape"),
    ("normal", "generator", "seed"),  # torch
    ("normal", "key", "seed"),  # JAX
    ("uniform", "low", "a"),
    ("uniform", "high", "b"),
    ("uniform", "minval", "a"),
    ("uniform", "maxval", "b"),
    ("trunc_normal", "lower", "a"),
    ("trunc_normal", "upper", "b"),
    ("trunc_normal", "stddev", "std"),
    ("constant", "value", "val"),
    ("constant", "fill_value", "val"),
    ("kaiming_normal", "negative_slope", "a"),
    ("kaiming_normal", "activation", "nonlinearity"),
    ("lecun_normal", "in_axis", "layout"),
    ("lecun_normal", "batch_axis", "batch_axes"),
    ("xavier_uniform", "scale", "gain"),
    ("orthogonal", "scale", "gain"),
    ("dirac", "num_groups", "groups"),
    ("zeros", "param_dtype", "dtype"),
]


@pytest.mark.parametrize(("name", "habit", "meant"), HABITS)
def test_keywords_of_other_libraries_lead_to_ours(name: str, habit: str, meant: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(ic, name)((3, 4), **{habit: 1})
    assert f"ic.{name} takes no argument {habit!r}: did you mean {meant!r}?" in str(caught.value)


def test_parts_have_their_habits_too() -> None:
    with pytest.raises(TypeError, match="did you mean 'axis'"):
        ic.concatenate({"a": ic.zeros(3)}, dim=0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'axes'"):
        ic.permute({"a": ic.zeros((3, 4))}, perm=(1, 0))  # type: ignore[call-arg]


RIGHT = """
import ml_dtypes
import numpy as np

import initclient as ic

ic.kaiming_normal((4, 4), mode="fan_in", nonlinearity="relu", dtype="bfloat16", layout="jax")
ic.variance_scaling((4, 4), np.float32(2), "fan_avg", "uniform", dtype=np.float32)
ic.normal(np.int64(4), std=np.float64(0.02), dtype=np.dtype("float32"), seed=np.uint64(7))
ic.zeros(np.zeros((3, 3)).shape, dtype=ml_dtypes.bfloat16)
ic.stack({"a": ic.ones(3)}, dtype="BF16", axis=np.int64(0))
t = ic.normal((4, 4), dtype="bfloat16")
ic.ones(t.shape, dtype=t.dtype)
ic.fetch({"t": t}, framework="torch", backend="numpy", device="cpu")
ic.fetch_file(ic.Plan({"t": t}), "t.safetensors", target=ic.Local(backend="auto"))
"""
WRONG = [
    'ic.kaiming_normal((4, 4), mode="fan_inn")',
    'ic.kaiming_normal((4, 4), mode="fan_avg")',
    'ic.kaiming_normal((4, 4), nonlinearity="rleu")',
    'ic.variance_scaling((4, 4), distribution="cauchy")',
    'ic.xavier_normal((4, 4), layout="keras")',
    'ic.normal((4, 4), dtype="float8")',
    'ic.normal((4, 4), std="0.02")',
    'ic.zeros("44")',
    "ic.zeros(3, 4)",
    "ic.normal((4, 4), stddev=0.02)",
    'ic.fetch({}, framework="pytorch")',
    'ic.fetch({}, backend="gpu")',
    'ic.Local(backend="cuda")',
    'ic.fetch_file({}, "t.safetensors", backend="torch")',
]


def test_mypy_refuses_what_builders_refuse(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "calls.py"
    path.write_text("\n".join([RIGHT.rstrip(), *WRONG]) + "\n")
    config = tmp_path / "mypy.ini"
    search = ":".join(str(ROOT / name) for name in ("protos", "core", "server", "client"))
    config.write_text(
        f"[mypy]\nstrict = True\npython_version = 3.11\nmypy_path = {search}\n"
        f"follow_imports = silent\ncache_dir = {tmp_path}\nignore_missing_imports = True\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    errors = [line for line in run.stdout.splitlines() if ": error: " in line]
    first = len(RIGHT.rstrip().splitlines()) + 1
    lines = list(dict.fromkeys(int(line.split(":")[1]) for line in errors))
    assert lines == list(range(first, first + len(WRONG))), run.stdout + run.stderr


def test_tensors_that_no_builder_made_are_taken_as_they_are() -> None:
    assert Tensor(scheme="kaiming_normal", shape=(4, 4), mode="fan_inn").mode == "fan_inn"
