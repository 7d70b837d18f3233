"""describe resolves a plan, with the same result in this process and from a server."""

from __future__ import annotations

import json
import math

import initclient as ic
import pytest
from initclient._inspect.descriptions import agreed
from initclient._source import make_request, source_of
from initclient._transport import blocking
from initcore import layout
from initcore.show import from_layout
from initcore.show.table import shape_text, values_text
from initcore.show.text import size_text
from initserve.v1 import plan_pb2, service_pb2

from tests import plans


def test_it_is_the_same_from_a_server(target: str) -> None:
    for dtype in ("F32", "BF16"):
        plan = plans.every_scheme(dtype=dtype)
        assert ic.describe(plan, target=target) == ic.describe(plan)
    empty = {"w": ic.normal((0, 3))}
    assert ic.describe(empty, target=target, seed=5) == ic.describe(empty, seed=5)
    assert ic.describe(empty).warnings


def test_it_holds_digest_places_and_parameters(source: str) -> None:
    plan = ic.Plan(
        {"w": ic.kaiming_normal((512, 256), nonlinearity="relu"), "n": ic.zeros((), dtype="I64")}
    ).shard({"w": slice(0, 100)})
    found = ic.describe(plan, target=source)
    file = layout(plan)
    assert (found.digest, found.size, found.stream_version) == (file.digest, file.size, 1)
    w, n = found.tensors
    assert (w.name, w.dtype, w.scheme) == ("w", "F32", "kaiming_normal")
    assert (w.shape, w.shard_shape, w.nbytes) == ((512, 256), (100, 256), 102_400)
    assert (w.fan_in, w.fan_out) == (256.0, 512.0)
    assert w.std == pytest.approx(math.sqrt(2 / 256))
    assert (n.shape, n.low, n.high, n.fan_in) == ((), 0.0, 0.0, None)


def test_it_becomes_json(source: str) -> None:
    found = ic.describe(plans.every_scheme(), target=source)
    form = json.loads(json.dumps(found.to_dict()))
    assert form["digest"] == found.digest
    assert [tensor["name"] for tensor in form["tensors"]] == list(plans.every_scheme())
    assert form["tensors"][0]["shape"] == [7, 5, 3]


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (ic.zeros((2,)), "0"),
        (ic.constant((2,), 0.125), "0.125"),
        (ic.normal((2,), std=0.02), "std 0.02"),
        (ic.normal((2,), mean=1.0), "mean 1, std 1"),
        (ic.uniform((2,), -0.5, 1.0), "-0.5 .. 1"),
        (ic.xavier_uniform((3, 3)), "-1 .. 1"),
        (ic.trunc_normal((2,), std=0.5, a=-1.0, b=1.0), "std 0.5, cut to -1 .. 1"),
        (ic.eye((2, 2)), "0 .. 1"),
        (ic.normal((0,)), "std 1"),
    ],
)
def test_values_are_said_in_a_few_words(tensor: ic.Tensor, text: str) -> None:
    assert values_text(ic.describe({"w": tensor}).tensors[0]) == text


def test_sizes_and_shapes_are_said_for_people() -> None:
    sizes = [0, 1023, 1024, 1536, 1 << 20, 1 << 40, 1 << 62]
    said = [size_text(size) for size in sizes]
    assert said == ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 TiB", "4096.0 PiB"]
    plan = ic.Plan({"w": ic.zeros((4, 3)), "s": ic.zeros(())}).shard({"w": slice(1, 3)})
    shapes = [shape_text(tensor) for tensor in ic.describe(plan).tensors]
    assert shapes == ["2 x 3 of 4 x 3", "scalar"]


def test_a_server_that_resolves_any_field_otherwise_is_refused(target: str) -> None:
    plan = ic.Plan({"w": ic.kaiming_normal((6, 4)), "b": ic.uniform((3,))})
    request = make_request(plan, None, source_of(target))
    here, right = from_layout(request.layout), blocking.describe(request)
    assert agreed(here, right) == here
    for name, value in (
        ("name", "v"),
        ("std", 0.5),
        ("fan_in", 5.0),
        ("begin", 8),
        ("end", 9),
        ("dtype", plan_pb2.F16),
        ("scheme", plan_pb2.NORMAL),
    ):
        wrong = service_pb2.DescribeResponse.FromString(right.SerializeToString())
        setattr(wrong.tensors[0], name, value)
        with pytest.raises(ic.IntegrityError, match="resolves the plan's tensors differently"):
            agreed(here, wrong)
    wrong = service_pb2.DescribeResponse.FromString(right.SerializeToString())
    wrong.tensors[0].ClearField("std")
    with pytest.raises(ic.IntegrityError, match="differently"):
        agreed(here, wrong)
    # What only one side knows is not compared.
    right.tensors[0].fingerprint = bytes(16)
    assert agreed(here, right) == here


def test_it_says_what_the_plan_came_from(source: str) -> None:
    came_from = {"model": "nets.<Net>", "torch": "2.13.0\x1b"}
    described = ic.describe(
        ic.Plan({"fc.bias": ic.zeros((4,))}, 7, provenance=came_from), target=source
    )
    assert described.provenance == came_from
    assert json.loads(json.dumps(described.to_dict()))["provenance"] == came_from
    assert "recorded from model nets.<Net>, torch 2.13.0\\x1b" in str(described)
    assert "recorded from model nets.&lt;Net&gt;" in described._repr_html_()
    plain = ic.describe(ic.Plan({"fc.bias": ic.zeros((4,))}, 7), target=source)
    assert plain.digest == described.digest
    assert "recorded from" not in str(plain)
