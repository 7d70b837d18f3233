"""Everything that is wrong with a plan file comes in one error, in the file's order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from initcore import PlanError, Violation
from initcore.resolve import resolve
from initcore.wire import parse_plan
from initcore.wire.conversion import from_proto
from initserve.v1 import plan_pb2

TWICE = """\
seed: 7
tensors:
  - {name: a, shape: [4, 2], scheme: NORMAL}
  - {name: a, shape: [4], scheme: KAIMING_NORMAL}
  - {name: b, shape: [4], scheme: XAVIER_NORMAL}
  - {name: c, shape: [2], scheme: NORML}
  - {name: d, shape: [2, 2], scheme: NORMAL, std: -1.0}
  - {name: e, shape: [-2], scheme: ZEROS}
"""


def found(text: str) -> list[tuple[str, str, int | None]]:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    return [(v.tensor, v.field, v.line) for v in caught.value.violations]


def test_a_name_that_is_there_twice_hides_no_other_fault() -> None:
    assert found(TWICE) == [
        ("a", "name", 4),
        ("a", "shape", 4),
        ("b", "shape", 5),
        ("c", "scheme", 6),
        ("d", "std", 7),
        ("e", "shape", 8),
    ]


def test_a_wrong_seed_hides_no_other_fault() -> None:
    text = TWICE.replace("seed: 7", "seed: -1")
    assert found(text) == [("", "seed", 1), *found(TWICE)]


def test_messages_have_all_faults_too() -> None:
    plan = plan_pb2.Plan()
    plan.tensors.add(name="a", shape=[2], scheme=plan_pb2.ZEROS)
    plan.tensors.add(name="a", shape=[2], scheme=plan_pb2.ZEROS)
    plan.tensors.add(name="b", shape=[2], scheme=plan_pb2.KAIMING_NORMAL)
    with pytest.raises(PlanError) as caught:
        from_proto(plan)
    paths = [violation.path for violation in caught.value.violations]
    assert paths == ["tensors[1].name", "tensors[2].shape"]


RIGHT = {"shape": [4, 2], "scheme": "NORMAL"}
FAULTS = {
    "scheme": {"shape": [4, 2], "scheme": "NORML"},
    "shape": {"shape": [4], "scheme": "KAIMING_NORMAL"},
    "std": {"shape": [4], "scheme": "NORMAL", "std": -1},
    "dtype": {"shape": [4], "scheme": "NORMAL", "dtype": "I64"},
    "gain": {"shape": [4], "scheme": "ZEROS", "gain": 2.0},
    "zero_rows": {"shape": [4], "scheme": "NORMAL", "zero_rows": [9]},
}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["", *FAULTS])), min_size=1, max_size=8
    )
)
def test_every_fault_of_every_tensor_is_there_whatever_else_is_wrong(
    items: list[tuple[str, str]],
) -> None:
    """The faults of a plan are those of its tensors alone, and the names that are there twice."""
    form = [{"name": name, **(FAULTS[fault] if fault else RIGHT)} for name, fault in items]
    wanted = set()
    names: set[str] = set()
    for index, (name, fault) in enumerate(items):
        if fault:
            wanted.add((index, fault))
        if name in names:
            wanted.add((index, "name"))
        names.add(name)
    violations: tuple[Violation, ...] = ()
    try:
        # What only `resolve` finds is raised where the plan is used.
        resolve(parse_plan(json.dumps({"tensors": form})))
    except PlanError as error:
        violations = error.violations
    assert {(v.index, v.field) for v in violations} == wanted
    indexes = [v.index or 0 for v in violations]
    assert indexes == sorted(indexes)
