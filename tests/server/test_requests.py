"""Plans that are taken apart on the wire are the plans that their messages stand for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, PlanError
from initcore.wire.conversion import from_proto
from initserve.v1 import plan_pb2
from initserver.config.limits import Limits
from initserver.wire.requests import PlanBytes


def field(number: int, content: bytes, tag: bytes = b"") -> bytes:
    """A length-delimited field on the wire, of less than 16 KiB."""
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return (tag or plan_tag(number)) + size + content


def plan_tag(number: int) -> bytes:
    key = number << 3 | 2
    return bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])


NAMES = st.sampled_from([b"", b"w", b"v", b"q", "£".encode(), "ω".encode() * 70, b"\xff"])
FIELDS = st.sampled_from(
    [
        b"\x20\x06",  # scheme: ZEROS
        b"\x20\x02",  # scheme: NORMAL
        b"\x20\x18",  # scheme: CONCATENATE
        b"\x20\x63",  # scheme: 99
        b"\x18\x04",  # dtype: BF16
        b"\x10\x03",  # shape: 3, not packed
        b"\x12\x02\x02\x03",  # shape: 2, 3, packed
        b"\xba\x01\x01\x00",  # zero_rows: 0
        b"\x30\x05",  # seed: 5
        b"\xfa\x7f\x01x",  # a field that is not known
        b"\xc2",  # not whole
    ]
)


def tensors(depth: int) -> st.SearchStrategy[bytes]:
    parts: Any = st.nothing()
    if depth:
        tags = st.sampled_from([b"\xc2\x01", b"\xc2\x81\x00"])
        parts = st.builds(lambda part, tag: field(24, part, tag), tensors(depth - 1), tags)
    name = NAMES.map(lambda name: field(1, name))
    fields = st.lists(FIELDS | name | parts, max_size=4)
    return st.tuples(name, fields).map(lambda found: b"".join((found[0], *found[1])))


PLANS = st.lists(tensors(2).map(lambda tensor: field(2, tensor)), max_size=5).map(b"".join)


def outcome(read: Any) -> Plan | list[tuple[str, str]] | None:
    try:
        plan: Plan = read()
    except PlanError as error:
        return [(violation.path, str(violation)) for violation in error.violations]
    except Exception:
        return None  # not a message
    return plan


@given(PLANS)
def test_a_plan_taken_apart_is_the_plan_of_its_message(data: bytes) -> None:
    parsed = outcome(lambda: PlanBytes(data).parse(Limits(), lambda: None))
    assert parsed == outcome(lambda: from_proto(plan_pb2.Plan.FromString(data)))
    if isinstance(parsed, Plan):
        assert list(parsed) == list(from_proto(plan_pb2.Plan.FromString(data)))


@pytest.mark.parametrize("twice", [b"\x0a\x01v", b"\x0a\x00"])
def test_a_name_given_twice_counts_the_second_time(twice: bytes) -> None:
    first = field(2, field(1, b"w") + b"\x20\x06")
    second = field(2, field(1, b"x") + b"\x20\x06" + twice)
    plan = PlanBytes(first + second).parse(Limits(), lambda: None)
    assert list(plan) == ["w", twice[2:].decode()]
