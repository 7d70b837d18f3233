"""A plan of many tensors costs no more a tensor than one of few; each kind is read once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, layout, normal, ones, stack, zeros
from initcore.resolve import resolve
from initcore.show import from_layout, print_description
from initcore.wire import format_plan, parse_plan

from tests.core.plan_texts import read, read_by_library


def layers(count: int, **common: Any) -> Plan:
    """Two kinds of tensors, with names like those of a mixture of experts."""
    kinds = (normal((4, 6), std=0.02, dtype="bf16", **common), zeros((6,)))
    return Plan(
        {f"model.layers.{i // 8}.experts.{i % 8}.{i}.weight": kinds[i % 2] for i in range(count)}, 7
    )


def calls(work: Callable[[], object]) -> int:
    """How many functions the work calls, of Python and of C."""
    count = 0

    def see(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def describe(plan: Plan) -> None:
    description = from_layout(layout(plan))
    json.dumps(description.to_dict())
    print_description(description, io.StringIO())


WORK: dict[str, Callable[[Plan], object]] = {
    "resolve": resolve,
    "layout": layout,
    "describe": describe,
    "write": format_plan,
    "read": lambda plan: parse_plan(format_plan(plan)),
    "write JSON": lambda plan: format_plan(plan, json_form=True),
    "read JSON": lambda plan: parse_plan(format_plan(plan, json_form=True)),
}


@pytest.mark.parametrize("name", WORK)
def test_the_calls_for_a_plan_grow_no_faster_than_its_tensors(name: str) -> None:
    work, few, many = WORK[name], layers(160), layers(640)
    work(few)
    assert calls(lambda: work(many)) < 4.2 * calls(lambda: work(few))


@pytest.mark.parametrize(("name", "most"), [("resolve", 20), ("layout", 30), ("read", 60)])
def test_a_tensor_like_an_earlier_one_costs_few_calls(name: str, most: int) -> None:
    work, few, many = WORK[name], layers(160), layers(640)
    work(few)
    more = calls(lambda: work(many)) - calls(lambda: work(few))
    assert more < most * 480


def test_tensors_alike_are_resolved_as_if_each_were_alone() -> None:
    """Equal values of other types or signs, and each field that tells two tensors apart."""
    kinds = [
        normal((4, 6)),
        normal((4, 6), mean=-0.0),
        normal((4, 6), seed=3),
        normal((4, 6), stream="other"),
        normal((4, 6), zero_rows=[1]),
        normal((4, 6), dtype="f16"),
        normal((6, 4)),
        normal((4, 6), std=1),
        stack({"a": normal((2,)), "b": normal((2,), stream="b2")}),
        ones((4, 6)),
    ]
    tensors = {f"w{i}": kind for i, kind in enumerate(kinds * 3)}
    plan = Plan(tensors, 11).shard({"w0": (slice(1, 3),), "w11": (slice(1, 3),)})
    alone = [resolve(Plan({name: tensor}, 11))[0] for name, tensor in plan.tensors.items()]
    assert list(map(repr, resolve(plan))) == list(map(repr, alone))


@pytest.mark.parametrize("stream", ["", "\ud800", "s" * 5000])
def test_a_wrong_stream_is_found_among_tensors_alike(stream: str) -> None:
    first = normal((4, 6), stream="right")
    wrong = Tensor(scheme="normal", shape=(4, 6), stream=stream)
    with pytest.raises(PlanError) as caught:
        resolve(Plan({"a": first, "b": wrong, "c": normal((4, 6))}))
    assert [(v.tensor, v.field) for v in caught.value.violations] == [("b", "stream")]


@pytest.mark.parametrize("name", ["", "__metadata__", "\ud800", "n" * 5000, 3])
def test_a_wrong_name_is_found_among_tensors_alike(name: Any) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(Plan({"a": normal((4, 6)), name: normal((4, 6))}))
    assert [v.field for v in caught.value.violations] == ["name"]


LINES = [
    "  shape: [4, 6]\n",
    "  scheme: NORMAL\n",
    "  scheme: ZEROS\n",
    "  dtype: BF16\n",
    "  stream: 'a\n",
    '  stream: "a\n',
    "  stream: |+\n",
    "    text\n",
    "    more: text\n",
    "  stream: &a s\n",
    "  stream: *a\n",
    "  name: other\n",
    "  # a comment\n",
    "  - name: inner\n",
    "  shape: [4,\n",
    "  6]\n",
    "  std: 1e-3\n",
    "  std: 010\n",
    "  \n",
    "  b'\n",
    '  b"\n',
    "\n",
    "- name: 'quoted'\n",
    "...\n",
]
RIGHT = ["  shape: [4, 6]\n  scheme: NORMAL\n", "  shape: [6]\n  scheme: ZEROS\n  dtype: BF16\n"]
NAMES = st.sampled_from(["a.b", "layer", "yes", "Null", "x", "a-b/c", "x1e3", "1e3"])


@given(
    extra=st.lists(st.tuples(NAMES, st.lists(st.sampled_from(LINES), max_size=4)), max_size=3),
    at=st.integers(0, 80),
    head=st.sampled_from(["tensors:\n", "seed: 5\ntensors:\n", "seed: 07\ntensors:\n"]),
)
def test_items_that_repeat_are_read_as_any_others(
    extra: list[tuple[str, list[str]]], at: int, head: str
) -> None:
    items = [f"- name: l.{i}.w\n{RIGHT[i % 2]}" for i in range(80)]
    items[at:at] = [f"- name: {name}\n{''.join(lines)}" for name, lines in extra]
    text = head + "".join(items)
    assert read(text) == read_by_library(text)


@pytest.mark.parametrize(
    "body",
    [
        "  shape: &a [2]\n  scheme: LITERAL\n  values: *a\n",
        "  shape: [2]\n  scheme: ONES\rseed: 0\n",
        "  shape: [2]\n  scheme: ONES\x85seed: 0\n",
        "  shape: [2]\n  scheme: ONES\u2028seed: 0\n",
        "  shape: [2]\n  scheme: ONES\r  seed: 3\n",
    ],
)
def test_lines_and_anchors_of_yaml_alone_are_read_as_in_any_other_text(body: str) -> None:
    text = "seed: 7\ntensors:\n" + "".join(f"- name: l.{i}\n{body}" for i in range(80))
    assert read(text) == read_by_library(text)


@pytest.mark.parametrize("json_form", [False, True])
def test_each_kind_of_item_is_read_once(json_form: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from initcore.wire import plan_file

    read, fields = [], plan_file.PlanFields

    def seen(*arguments: Any, **more: Any) -> Any:
        read.append(arguments)
        return fields(*arguments, **more)

    plan = layers(400)
    text = format_plan(plan, json_form=json_form)
    monkeypatch.setattr(plan_file, "PlanFields", seen)
    assert parse_plan(text) == plan
    # Two kinds, and the seed of the plan.
    assert len(read) <= 3
