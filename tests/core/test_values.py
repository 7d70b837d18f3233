"""Public values behave as values: hash, copies, plain values, text."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, PlanError, Violation, layout

from tests import plans

PLANS = {
    "every scheme": plans.every_scheme(),
    "later cases": plans.every_later_case(),
    "cut": Plan({"w": ic.zeros((4, 6))}, 3).shard({"w": slice(1, 3)}),
    "pretrained": Plan({"w": ic.pretrained((2,), "model.safetensors")}),
    "empty": Plan(),
}


def values() -> list[Any]:
    found: list[Any] = [ic.Fingerprint((1, 2)), Violation("w", "std", "is wrong", 3)]
    for plan in PLANS.values():
        laid_out, description = layout(plan), ic.describe(plan, fingerprints=False)
        found += [plan, laid_out, description, *plan.tensors.values()]
        found += [*laid_out.entries, *description.tensors]
    return found


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda value: pickle.loads(pickle.dumps(value)),
        dataclasses.replace,
    ],
    ids=["copy", "deepcopy", "pickle", "replace"],
)
def test_copies_are_equal_and_have_the_same_hash(copied: Callable[[Any], Any]) -> None:
    for value in values():
        other = copied(value)
        assert type(other) is type(value)
        assert other == value
        assert hash(other) == hash(value)
        assert {value: 1}[other] == 1


def test_values_become_plain_values() -> None:
    for value in values():
        plain = dataclasses.asdict(value)
        assert list(plain) == [field.name for field in dataclasses.fields(value)]
    plain = dataclasses.asdict(PLANS["later cases"])
    assert list(plain["tensors"]) == list(PLANS["later cases"])
    assert plain["tensors"]["stack"]["parts"][0][1]["scheme"] == "xavier_uniform"
    assert dataclasses.asdict(layout(PLANS["cut"]))["plan"]["tensors"]["w"]["shape"] == (4, 6)


@given(plans.plans(), plans.plans())
def test_plans_are_equal_exactly_where_their_fields_are(one: Plan, other: Plan) -> None:
    fields = [list(plan.tensors.items()) for plan in (one, other)]
    assert (one == other) == (fields[0] == fields[1] and one.seed == other.seed)
    again = Plan(dict(one.tensors), one.seed)
    assert again == one
    assert hash(again) == hash(one)
    assert again.digest == one.digest


@given(plans.plans(), st.randoms())
def test_the_order_of_tensors_is_a_part_of_the_plan_as_of_its_digest(
    one: Plan, random: random.Random
) -> None:
    names = list(one)
    random.shuffle(names)
    other = Plan({name: one[name] for name in names}, one.seed)
    assert (other == one) == (one == other) == (names == list(one))
    assert (other.digest == one.digest) == (other == one)
    assert dict(other.tensors) == dict(one.tensors)


@pytest.mark.parametrize(
    "make",
    [
        lambda zero: ic.constant((2,), zero),
        lambda zero: ic.literal((2,), [1.0, zero]),
        lambda zero: ic.stack({"x": ic.constant((2,), zero)}),
    ],
)
def test_signed_zeros_are_other_values_as_they_are_other_digests(
    make: Callable[[float], ic.Tensor],
) -> None:
    one, other = Plan({"w": make(0.0)}), Plan({"w": make(-0.0)})
    assert one.digest != other.digest
    assert one != other
    assert one["w"] != other["w"]
    assert one == Plan({"w": make(0.0)})
    assert len({one["w"], other["w"], make(-0.0)}) == 2


def test_the_tensors_of_a_plan_do_not_change() -> None:
    mapping: Any = PLANS["cut"].tensors
    tensor = ic.zeros((2,))
    changes: list[Callable[[], Any]] = [
        lambda: mapping.__setitem__("v", tensor),
        lambda: mapping.__delitem__("w"),
        lambda: mapping.update(v=tensor),
        lambda: mapping.setdefault("v", tensor),
        lambda: mapping.pop("w"),
        lambda: mapping.__ior__({"v": tensor}),
        mapping.popitem,
        mapping.clear,
    ]
    for change in changes:
        with pytest.raises(TypeError, match="do not change"):
            change()
    for holder in (copy.deepcopy(PLANS["cut"]), pickle.loads(pickle.dumps(PLANS["cut"]))):
        with pytest.raises(TypeError, match="do not change"):
            holder.tensors["v"] = tensor
    assert list(mapping) == ["w"]
    # What is made from it is an ordinary dict.
    assert {**mapping, "v": tensor}.keys() == (mapping | {"v": tensor}).keys() == {"v", "w"}


def test_a_plan_is_one_line_of_text() -> None:
    tensor = ic.zeros((2,))
    names = ["a.weight", "b.weight", *map(str, range(298))]
    shown = repr(Plan(dict.fromkeys(names, tensor), 7))
    assert shown == "Plan(seed=7, 300 tensors: 'a.weight', 'b.weight', ...)"
    assert repr(Plan({"a": tensor, "b\n": tensor})) == r"Plan(seed=0, 2 tensors: 'a', 'b\n')"
    assert repr(Plan({"a": tensor})) == "Plan(seed=0, 1 tensor: 'a')"
    assert repr(Plan()) == "Plan(seed=0, 0 tensors)"
    many = repr(Plan({str(number): tensor for number in range(1200)}))
    assert many == "Plan(seed=0, 1,200 tensors: '0', '1', ...)"


def test_tensors_of_a_plan_go_by_their_names() -> None:
    plan = PLANS["every scheme"]
    assert plan["normal"] is plan.tensors["normal"]
    assert "normal" in plan
    assert "abnormal" not in plan
    assert len(plan) == len(list(plan)) == len(plan.tensors)
    with pytest.raises(KeyError, match="abnormal"):
        plan["abnormal"]


@pytest.mark.parametrize("names", ["wx", "w", np.str_("wx")])
def test_a_text_is_no_list_of_names(names: str) -> None:
    plan = Plan({"w": ic.zeros((2,)), "x": ic.zeros((2,)), "wx": ic.zeros((2,))})
    with pytest.raises(PlanError) as caught:
        plan.select(names)
    assert f"write select([{str(names)!r}])" in str(caught.value)
    assert list(plan.select(["wx"])) == ["wx"]
    assert list(plan.select(name for name in "xw")) == ["w", "x"]


def test_a_description_prints_as_the_command_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from initclient.cli import main

    path = tmp_path / "plan.yaml"
    plan = plans.every_later_case()
    ic.dump_plan(plan, path)
    main(["describe", str(path)])
    assert capsys.readouterr().out == f"{ic.describe(plan)}\n"
    assert f"{ic.describe(plan, fingerprints=True)}".count("fingerprint") == 1


def test_a_description_is_an_html_table() -> None:
    from xml.etree import ElementTree

    plan = Plan({"<b>&": ic.kaiming_normal((8, 4)), "a\x1b": ic.zeros((2, 2))})
    found = ic.describe(plan, fingerprints=True)
    root = ElementTree.fromstring(f"<div>{found._repr_html_().replace('<br>', '<br/>')}</div>")
    head, *rows = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert head[0] == "tensor"
    assert head[-1] == "fingerprint"
    assert [row[0] for row in rows] == ["<b>&", "a?"]
    assert rows[0][1:7] == ["8 x 4", "F32", "kaiming_normal", "4", "8", "std 0.70711"]
    assert [row[-1] for row in rows] == [tensor.fingerprint for tensor in found.tensors]
    assert f"plan digest {found.digest}" in "".join(root.itertext())


def test_a_plan_knows_its_digest_and_its_file(tmp_path: Path) -> None:
    plan = plans.every_scheme()
    assert plan.digest == layout(plan).digest == Plan(plan.tensors, plan.seed).digest
    assert plan.digest != plan.with_seed(8).digest
    path = tmp_path / "plan.yaml"
    path.write_text(plan.to_yaml())
    assert ic.load_plan(path) == plan
    ic.dump_plan(plan, tmp_path / "same.yaml")
    assert (tmp_path / "same.yaml").read_text() == plan.to_yaml()
    with pytest.raises(PlanError, match="tensor 'w'"):
        Plan({"w": ic.zeros((-1,))}).digest  # noqa: B018
    # It names the file, which a server may make though this process would not.
    assert len(Plan({"w": ic.orthogonal((2**15, 2**15))}).digest) == 64
    asked = pickle.loads(pickle.dumps(plan))
    assert asked == plan
    assert asked.digest == plan.digest


def test_a_missing_name_is_answered_with_the_closest() -> None:
    plan = Plan({"fc.weight": ic.normal((2,)), "fc.bias": ic.zeros((3,))})
    with pytest.raises(KeyError, match=r"no tensor of this name.*did you mean 'fc\.bias'"):
        plan["fc.bais"]
    with pytest.raises(PlanError, match=r"no tensor of this name.*did you mean 'fc\.weight'"):
        plan.select(["fc.wight"])
    with pytest.raises(PlanError, match=r"no tensor of this name.*did you mean 'fc\.weight'"):
        plan.shard({"fc.wight": slice(1)})
    with pytest.raises(PlanError, match=r"no tensor of this name in the plan$"):
        plan.select(["x"])


def test_a_composed_tensor_is_one_line_too() -> None:
    made = ic.stack({f"expert.{i}": ic.zeros((2,)) for i in range(1000)})
    assert repr(made).endswith("1,000 parts: 'expert.0', 'expert.1', ...)")
    assert repr(ic.stack({"p": ic.zeros((2,))})).endswith("1 part: 'p')")
    odd = Plan({"x\n" * 5000: ic.zeros((2,)), 3: ic.zeros((2,))})  # type: ignore[dict-item]
    assert len(repr(odd)) < 200
    assert "\n" not in repr(odd)
