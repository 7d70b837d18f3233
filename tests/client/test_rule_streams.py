"""Parts that a rule's function makes draw from streams under the tensor's name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initclient._plan import Rule
from torch import nn

Planner = Callable[[Any, Path], ic.Plan]

NAMES = ("0.weight", "1.weight", "2.weight")


def with_torch(initializer: Any, folder: Path) -> ic.Plan:
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in NAMES))
    return ict.plan(model, [ict.rule(nn.Linear, initializer)], seed=7)


def with_jax(initializer: Any, folder: Path) -> ic.Plan:
    tree = {name: jax.ShapeDtypeStruct((4, 4), "float32") for name in NAMES}
    return icj.plan(tree, [icj.rule("*", initializer)], seed=7)


def from_a_file(initializer: Any, folder: Path) -> ic.Plan:
    trained = ic.fetch_file({name: ic.ones((4, 4)) for name in NAMES}, folder / "t.safetensors")
    return ic.plan_from_safetensors(trained, [ic.rule("*", initializer)], seed=7)


PLANNERS = pytest.mark.parametrize("planner", [with_torch, with_jax, from_a_file])


def halves(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
    half = (shape[0] // 2, *shape[1:])
    return ic.concatenate({"e0": ic.normal(half), "e1": ic.normal(half)}, dtype=dtype)


def halves_with_streams(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
    half = (shape[0] // 2, *shape[1:])
    parts = {name: ic.normal(half, stream=name) for name in ("e0", "e1")}
    return ic.concatenate(parts, dtype=dtype)


@PLANNERS
def test_tensors_of_one_function_differ_and_a_warning_says_what_changed(
    planner: Planner, tmp_path: Path
) -> None:
    with pytest.warns(ic.PlanWarning, match=r"0\.weight and 2 more .*'0\.weight/e0'.*stream='e0'"):
        plan = planner(halves, tmp_path)
    values = ic.fetch(plan, target="local")
    parts = [half.tobytes() for name in NAMES for half in np.split(values[name], 2)]
    assert len(set(parts)) == 6
    alone = {"x": ic.normal((2, 4), stream="1.weight/e1")}
    assert np.array_equal(values["1.weight"][2:], ic.fetch(alone, seed=7, target="local")["x"])


@PLANNERS
def test_streams_of_the_parts_own_keep_the_values_of_earlier_releases(
    planner: Planner, tmp_path: Path
) -> None:
    values = ic.fetch(planner(halves_with_streams, tmp_path), target="local")
    before = ic.fetch({"w": halves((4, 4))}, seed=7, target="local")["w"]
    assert all(np.array_equal(values[name], before) for name in NAMES)


@PLANNERS
def test_a_seed_of_the_parts_own_does_not_make_tensors_equal(
    planner: Planner, tmp_path: Path
) -> None:
    def seeded(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        half = (shape[0] // 2, *shape[1:])
        parts = {"e0": ic.normal(half, seed=3), "e1": ic.normal(half, seed=3, stream="e1")}
        return ic.concatenate(parts, dtype=dtype)

    with pytest.warns(ic.PlanWarning, match=r"0\.weight and 2 more .*'0\.weight/e0'.*stream='e0'"):
        values = ic.fetch(planner(seeded, tmp_path), target="local")
    assert len({values[name][:2].tobytes() for name in NAMES}) == 3
    assert len({values[name][2:].tobytes() for name in NAMES}) == 1
    alone = {"x": ic.normal((2, 4), stream="1.weight/e0", seed=3)}
    assert np.array_equal(values["1.weight"][:2], ic.fetch(alone, target="local")["x"])


def test_a_plan_and_its_file_mean_what_they_meant(tmp_path: Path) -> None:
    by_hand = ic.Plan({name: halves((4, 4)) for name in NAMES}, 7)
    path = tmp_path / "plan.yaml"
    ic.dump_plan(by_hand, path)
    assert ic.load_plan(path) == by_hand
    assert [part.stream for _, part in by_hand.tensors[NAMES[0]].parts or ()] == [None, None]


LEAVES = st.one_of(
    st.just(ic.normal((2, 2))),
    st.just(ic.orthogonal((2, 2))),
    st.just(ic.zeros((2, 2))),
    st.just(ic.uniform((2, 2), stream="asked for")),
    st.just(ic.uniform((2, 2), seed=3)),
)
LABELS = st.lists(st.text("abc.", min_size=1, max_size=2), min_size=1, max_size=3, unique=True)


def composed(parts: st.SearchStrategy[ic.Tensor]) -> st.SearchStrategy[ic.Tensor]:
    """Compositions of parts; `resolve` is not asked whether their shapes fit each other."""
    return st.builds(
        lambda names, each: ic.stack({name: each[i % len(each)] for i, name in enumerate(names)}),
        LABELS,
        st.lists(parts, min_size=1, max_size=3),
    )


def random_leaves(tensor: ic.Tensor, name: str) -> Iterator[tuple[str, ic.Tensor]]:
    if tensor.parts is not None:
        for part_name, part in tensor.parts:
            yield from random_leaves(part, part_name)
    elif tensor.scheme != "zeros":
        yield tensor.stream or name, tensor


@settings(max_examples=200, deadline=None)
@given(st.recursive(LEAVES, composed, max_leaves=8))
def test_tensors_that_any_function_makes_share_no_stream_unless_asked_to(made: ic.Tensor) -> None:
    rule = ic.rule("*", lambda shape, dtype=None: made)
    assert isinstance(rule, Rule)
    streams = [
        stream
        for name in ("w", "v.w", "wa")
        for stream, tensor in random_leaves(rule.tensor(name, made.shape, "F32"), name)
        if tensor.stream != "asked for"
    ]
    assert len(streams) == len(set(streams))


def test_constants_have_no_stream_and_no_warning() -> None:
    def two(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        return ic.stack({"a": ic.zeros((4,)), "b": ic.ones((4,))}, dtype=dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = ict.plan(nn.Linear(4, 2, bias=False), [ict.rule("weight", two)])
    assert plan.tensors["weight"] == two((2, 4))


def test_names_with_slashes_do_not_bring_two_parts_to_one_stream() -> None:
    def two(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        inner = ic.reshape((2, 2), {"b": ic.normal((4,))})
        return ic.stack({"a": inner, "a/b": ic.normal((2, 2))})

    with pytest.raises(TypeError, match=r"does not fit w: two of its parts .* stream 'w/a/b'"):
        ic.rule("w", two).tensor("w", (2, 2, 2), "F32")
