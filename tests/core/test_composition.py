"""Tensors made of others have the values of their parts, whole and in any part."""

from __future__ import annotations

from typing import Any

import initcore as ic
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, VirtualFile, layout
from initcore.backends import load
from initcore.resolve.composition import boxes
from initcore.wire.conversion import from_proto, to_proto
from initcore.wire.plan_file import format_plan, parse_plan
from numpy.typing import NDArray

from tests import plans


def arrays(tensors: dict[str, Tensor] | Plan, backend: str = "numpy") -> dict[str, NDArray[Any]]:
    plan = tensors if isinstance(tensors, Plan) else Plan(tensors, 7)
    file = VirtualFile(layout(plan), load(backend))
    return {entry.tensor.name: file.array(entry) for entry in file.layout.entries}


QKV = {
    "q.weight": ic.xavier_uniform((8, 6)),
    "k.weight": ic.xavier_uniform((4, 6)),
    "v.weight": ic.orthogonal((4, 6)),
}


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_fused_projection_equals_its_parts(backend: str) -> None:
    got = arrays({**QKV, "qkv.weight": ic.concatenate(QKV)}, backend)
    assert np.array_equal(got["qkv.weight"], np.concatenate([got[name] for name in QKV]))


def test_stacked_experts_equal_separate_ones() -> None:
    experts = {f"experts.{i}.w1": ic.kaiming_normal((6, 4)) for i in range(5)}
    for axis in (0, 1, 2, -1):
        got = arrays({**experts, "experts": ic.stack(experts, axis)})
        assert np.array_equal(got["experts"], np.stack([got[n] for n in experts], axis))


def test_a_flax_kernel_equals_the_transposed_torch_weight() -> None:
    weight, kernel = ic.kaiming_uniform((8, 6)), ic.kaiming_normal((8, 3, 5, 4))
    got = arrays(
        {
            "fc.weight": weight,
            "conv.weight": kernel,
            "Dense_0.kernel": ic.permute({"fc.weight": weight}, (1, 0)),
            "Conv_0.kernel": ic.permute({"conv.weight": kernel}, (2, 3, 1, 0)),
            "heads.kernel": ic.reshape((6, 2, 4), {"t": ic.permute({"fc.weight": weight}, (1, 0))}),
        }
    )
    assert np.array_equal(got["Dense_0.kernel"], got["fc.weight"].T)
    assert np.array_equal(got["Conv_0.kernel"], got["conv.weight"].transpose(2, 3, 1, 0))
    assert np.array_equal(got["heads.kernel"], got["fc.weight"].T.reshape(6, 2, 4))


def test_large_pieces_are_put_together_from_several_blocks() -> None:
    weight = ic.normal((1500, 1100))
    got = arrays({"w": weight, "t": ic.permute({"w": weight}, (1, 0))}, "native")
    assert np.array_equal(got["t"], got["w"].T)


@settings(max_examples=100, deadline=None)
@given(st.data(), plans.composed())
def test_any_part_of_a_composed_tensor_is_that_part_of_the_whole(
    data: st.DataObject, tensor: Tensor
) -> None:
    cut = data.draw(plans.cuts(tensor.shape))
    plan = Plan({"t": tensor}, 3)
    whole, part = arrays(plan)["t"], arrays(plan.shard({"t": cut}))["t"]
    assert part.tobytes() == whole[cut].tobytes()


@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_boxes_hold_each_element_of_a_range_once_and_in_order(
    sizes: list[int], data: st.DataObject
) -> None:
    numbers = np.arange(int(np.prod(sizes))).reshape(sizes)
    first = data.draw(st.integers(0, numbers.size))
    count = data.draw(st.integers(0, numbers.size - first))
    found = [
        number
        for box in boxes(sizes, first, count)
        for number in numbers[tuple(slice(*pair) for pair in box)].reshape(-1)
    ]
    assert found == list(range(first, first + count))
    assert len(list(boxes(sizes, first, count))) <= max(2 * len(sizes) - 1, 1)


def test_zero_rows_are_zero_and_nothing_else_changes() -> None:
    plain, padded = ic.normal((9, 4)), ic.normal((9, 4), zero_rows=[3, 8, 3])
    assert layout(Plan({"e": padded})).digest != layout(Plan({"e": plain})).digest
    want = arrays({"e": plain})["e"]
    want[[3, 8]] = 0
    assert np.array_equal(arrays({"e": padded})["e"], want)
    part = Plan({"e": padded}, 7).shard({"e": (slice(2, 5), slice(1, 3))})
    assert np.array_equal(arrays(part)["e"], want[2:5, 1:3])


def test_the_dtype_given_to_a_composed_tensor_is_that_of_all_parts() -> None:
    whole = ic.concatenate(
        {"a": ic.stack({"x": ic.ones((2,))}), "b": ic.zeros((1, 2))}, dtype="bf16"
    )
    (_, a), (_, b) = whole.parts or ()
    assert whole.dtype == a.dtype == b.dtype == (a.parts or ())[0][1].dtype == "BF16"


def test_a_seed_of_a_composed_tensor_is_that_of_parts_without_one() -> None:
    parts = {"a": ic.normal((4,)), "b": ic.normal((4,), seed=9)}
    got = arrays(
        {
            "a": ic.normal((4,), seed=5),
            "b": ic.normal((4,), seed=9),
            "both": ic.concatenate(parts, seed=5),
        }
    )
    assert np.array_equal(got["both"], np.concatenate([got["a"], got["b"]]))


@given(plans.composed())
def test_composed_plans_survive_files_and_messages(tensor: Tensor) -> None:
    plan = Plan({"t": tensor}, 1)
    for again in (
        from_proto(to_proto(plan)),
        parse_plan(format_plan(plan)),
        parse_plan(format_plan(plan, json_form=True)),
    ):
        assert again.tensors["t"].parts == tensor.parts
        assert layout(again).digest == layout(plan).digest


def test_a_plan_file_need_not_repeat_what_the_parts_say() -> None:
    text = """
    seed: 7
    tensors:
      - name: qkv
        dtype: BF16
        scheme: CONCATENATE
        parts:
          - {name: q, shape: [4, 6], scheme: NORMAL}
          - {name: k, shape: [2, 6], scheme: NORMAL}
      - {name: t, scheme: PERMUTE, axes: [1, 0], parts: [{name: q, shape: [4, 6], scheme: ONES}]}
    """
    qkv, t = parse_plan(text).tensors.values()
    assert (qkv.shape, qkv.dtype) == ((6, 6), "BF16")
    assert (t.shape, t.dtype) == ((6, 4), "F32")


N = ic.normal((4, 6))
WRONG: list[tuple[Tensor, str, str]] = [
    (ic.concatenate({"a": N, "b": ic.normal((4, 5))}), "parts[1].shape", "along axis 0"),
    (ic.concatenate({"a": N}, axis=2), "axis", "outside the 2 dimensions"),
    (ic.concatenate({"a": ic.normal(())}), "axis", "outside the 0 dimensions"),
    (ic.concatenate({}), "parts", "is missing"),
    (ic.concatenate({"a": N, "b": ic.normal((4, 6), dtype="bf16")}), "parts[1].dtype", "BF16"),
    (ic.concatenate({"a": ic.normal((4, 6), std=-1.0)}), "parts[0].std", "std -1.0"),
    (ic.concatenate({"": N}), "parts[0].name", "is empty"),
    (ic.concatenate({"a": "N"}), "parts[0].scheme", "builder"),  # type: ignore[dict-item]
    (ic.concatenate({"a": N}, stream="a"), "stream", "no stream of its own"),
    (ic.concatenate({"a": N}, zero_rows=[4]), "zero_rows", "outside the 4 rows"),
    (ic.stack({"a": N, "b": ic.normal((4, 5))}), "parts[1].shape", "the first one's"),
    (ic.stack({"a": N}, axis=3), "axis", "outside the 3 dimensions"),
    (Tensor(scheme="stack", shape=(), parts=(("a", N),), axis=0.5), "axis", "integers"),
    (ic.permute({"a": N}, (0, 0)), "axes", "once"),
    (ic.permute({"a": N, "b": N}, (0, 1)), "parts", "exactly one"),
    (ic.reshape((5, 5), {"a": N}), "shape", "24 elements"),
    (Tensor(scheme="stack", shape=(2, 2), parts=(("a", N),)), "shape", "leave it out"),
    (Tensor(scheme="normal", shape=(4,), parts=(("a", N),)), "parts", "does not take it"),
    (
        ic.concatenate({"a": Plan({"a": N}).shard({"a": slice(0, 2)}).tensors["a"]}),
        "parts[0].slices",
        "parts are whole",
    ),
    (ic.zeros((), zero_rows=[0]), "zero_rows", "scalar"),
]


@pytest.mark.parametrize(("tensor", "field", "text"), WRONG)
def test_what_no_parts_make_is_refused(tensor: Tensor, field: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        layout(Plan({"t": tensor}))
    (violation,) = caught.value.violations
    assert violation.tensor == "t"
    assert violation.field == field
    assert text in violation.message


def test_parts_are_nested_eight_deep_and_no_more() -> None:
    tensor = N
    for _ in range(8):
        tensor = ic.stack({"inner": tensor})
    assert arrays({"t": tensor})["t"].shape == (1,) * 8 + (4, 6)
    with pytest.raises(PlanError, match="8 deep"):
        layout(Plan({"t": ic.stack({"inner": tensor})}))


@pytest.mark.parametrize("parts", [[ic.zeros((2,))], ic.zeros((2,)), (2,), None, "ab", [("a",)]])
@pytest.mark.parametrize("scheme", ["concatenate", "stack", "permute", "reshape"])
def test_parts_without_names_are_refused_where_they_are_given(scheme: str, parts: Any) -> None:
    make = {
        "concatenate": ic.concatenate,
        "stack": ic.stack,
        "permute": lambda parts: ic.permute(parts, (0,)),
        "reshape": lambda parts: ic.reshape((2,), parts),
    }
    with pytest.raises(TypeError, match=f"among the parts of {scheme} is .* dict from their names"):
        make[scheme](parts)


@pytest.mark.parametrize(
    "tensor",
    [
        ic.normal((9, 4), zero_rows=[0, 3, 8]),
        ic.permute({"a": ic.normal((4, 9))}, (1, 0), zero_rows=[0, 3, 8]),
    ],
    ids=["plain", "composed"],
)
def test_zero_rows_are_zero_in_every_cut(tensor: Any) -> None:
    plan = Plan({"e": tensor}, 7)
    whole = arrays(plan)["e"]
    assert [row for row in range(9) if not whole[row].any()] == [0, 3, 8]
    for start in range(10):
        for stop in range(start, 10):
            part = arrays(plan.shard({"e": (slice(start, stop), slice(1, 3))}))["e"]
            assert part.tobytes() == whole[start:stop, 1:3].tobytes(), (start, stop)
