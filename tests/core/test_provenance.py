"""Provenance is in plan files and messages, as text, and not in the digest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from initcore import Plan, PlanError, layout, normal
from initcore.file import file_layout, weights_files
from initcore.wire.conversion import from_proto, to_proto
from initcore.wire.plan_file import format_plan, parse_plan

CAME_FROM = {"model": "nets.Net", "torch": "2.13", "no": "yes", "a: b": "# c\n", "config": "'\""}


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("as_json", [False, True])
@settings(max_examples=30, deadline=None)
@example(CAME_FROM)
@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=4))
def test_provenance_is_in_files_and_messages_and_not_in_the_digest(
    count: int, as_json: bool, came_from: dict[str, str]
) -> None:
    tensors = {f"layers.{n}.weight": normal((2, 2)) for n in range(count)}
    plain, plan = Plan(tensors, 7), Plan(tensors, 7, provenance=came_from)
    assert plan == plain
    assert hash(plan) == hash(plain)
    assert plan.digest == plain.digest
    assert layout(plan).header == layout(plain).header
    assert parse_plan(format_plan(plan, json_form=as_json)).provenance == came_from
    assert from_proto(to_proto(plan)).provenance == came_from
    assert list(plan.provenance) == sorted(came_from)
    parts = plan.select([]), plan.shard({}), plan.with_seed(8)
    assert [part.provenance for part in parts] == [came_from] * 3


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("provenance: torch", "line 1: provenance: is 'torch'; it must be a mapping from text"),
        ("provenance: {torch: 2.13}", r"provenance.torch: is 2.13; it must be text: put"),
        ("provenance: {torch: [a]}", r"provenance.torch: is \['a'\]; it must be text"),
        ("provenance: {1: a}", "line 1: provenance: has the key '?1'?; it must be a mapping"),
        ("provenance: {torch: }", "line 1: provenance.torch: is blank; it must be text"),
        ("provenence: {torch: a}", "there is no such field: did you mean .provenance.*"),
    ],
)
def test_provenance_is_text(written: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_plan(f"{written}\ntensors: []\n")
    many = "".join(f"- name: w{n}\n  shape: [2]\n  scheme: ZEROS\n" for n in range(100))
    with pytest.raises(PlanError, match=message):
        parse_plan(f"{written}\ntensors:\n{many}")


@pytest.mark.parametrize("wrong", [{"torch": 2}, {1: "torch"}, {"torch": "\ud800"}])
def test_provenance_that_no_file_can_hold_is_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match=r"provenance: has .*torch"):
        format_plan(Plan({}, provenance=wrong))


def test_provenance_that_makes_a_header_too_long_for_readers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = layout(Plan({"w": normal((2, 2))}, provenance={"model": "nets.Net" * 100}))
    monkeypatch.setattr(file_layout, "MAX_HEADER_BYTES", len(found.header))
    with pytest.raises(PlanError, match=r"need a header of [0-9]+ bytes"):
        weights_files(found, 1 << 20, layout)
