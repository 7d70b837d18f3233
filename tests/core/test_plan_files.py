"""Plan files, messages and plans say the same thing; what they cannot say is refused clearly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import (
    Plan,
    PlanError,
    constant,
    dump_plan,
    kaiming_normal,
    layout,
    load_plan,
    normal,
    zeros,
)
from initcore.wire.conversion import from_proto, to_proto
from initcore.wire.plan_file import format_plan, parse_plan
from initserve.v1 import plan_pb2

from tests import plans

EXAMPLE = """
seed: 7
tensors:
  - {name: fc.weight, shape: [4096, 1024], dtype: BF16, scheme: KAIMING_NORMAL, mode: FAN_OUT,
     nonlinearity: RELU}
  - {name: fc.bias, shape: [4096], scheme: ZEROS}
"""


def test_a_file_by_hand_equals_the_plan_in_python(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(EXAMPLE)
    weight = kaiming_normal((4096, 1024), mode="fan_out", nonlinearity="relu", dtype="bfloat16")
    in_python = Plan(seed=7, tensors={"fc.weight": weight, "fc.bias": zeros((4096,))})
    assert layout(load_plan(path)).digest == layout(in_python).digest


@settings(max_examples=200, deadline=None)
@given(plans.plans(), st.booleans())
def test_plans_survive_files_and_messages(plan: Plan, as_json: bool) -> None:
    for copy in (
        from_proto(to_proto(plan)),
        from_proto(plan_pb2.Plan.FromString(to_proto(plan).SerializeToString())),
        parse_plan(format_plan(plan, json_form=as_json)),
    ):
        assert copy == plan
        assert layout(copy).digest == layout(plan).digest
        assert layout(copy).header == layout(plan).header


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json", "plan"])
def test_plans_survive_the_disk(tmp_path: Path, name: str) -> None:
    plan = plans.every_scheme()
    dump_plan(plan, tmp_path / name)
    assert load_plan(tmp_path / name) == plan
    if name.endswith(".json"):
        assert json.loads((tmp_path / name).read_text())["seed"] == 7


def test_defaults_written_out_are_the_same_plan() -> None:
    short = parse_plan("tensors: [{name: w, shape: [4, 4], scheme: KAIMING_UNIFORM}]")
    long = parse_plan(
        "seed: 0\ntensors: [{name: w, shape: [4, 4], scheme: KAIMING_UNIFORM, a: 0, dtype: F32, "
        "mode: FAN_IN, nonlinearity: LEAKY_RELU, layout: TORCH, stream: w, seed: 0, "
        "slices: [{start: 0, stop: 4}, {}]}]"
    )
    assert layout(short).digest == layout(long).digest


@pytest.mark.parametrize(
    "change",
    [
        "seed: 8",
        "name: v",
        "shape: [4, 5]",
        "dtype: F16",
        "scheme: UNIFORM",
        "stream: v",
        "std: 0.5",
        "slices: [{start: 1}, {}]",
    ],
)
def test_any_difference_that_matters_changes_the_digest(change: str) -> None:
    fields = {"name": "w", "shape": "[4, 4]", "scheme": "NORMAL"}
    base = ", ".join(f"{k}: {v}" for k, v in fields.items())
    fields.update([change.split(": ", 1)])
    other = ", ".join(f"{k}: {v}" for k, v in fields.items())
    digests = {layout(parse_plan(f"tensors: [{{{item}}}]")).digest for item in (base, other)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "BF16", "bf16", "torch.bfloat16", torch.bfloat16],
)
def test_element_types_go_by_any_common_name(name: object) -> None:
    assert normal((2,), dtype=name).dtype == "BF16"


def test_element_types_of_every_library_are_known() -> None:
    import jax.numpy as jnp
    import ml_dtypes

    assert normal((2,), dtype=np.float16).dtype == "F16"
    assert normal((2,), dtype=np.dtype("float64")).dtype == "F64"
    assert normal((2,), dtype=float).dtype == "F64"
    assert normal((2,), dtype=jnp.bfloat16).dtype == "BF16"
    assert normal((2,), dtype=ml_dtypes.float8_e5m2).dtype == "F8_E5M2"
    assert normal((2,), dtype=torch.float8_e4m3fn).dtype == "F8_E4M3"
    assert zeros((2,), dtype=torch.bool).dtype == "BOOL"
    assert zeros((2,), dtype="half").dtype == "F16"


BAD: list[tuple[str, str, str]] = [
    # the text, the path of the field, what the message must hold
    ("- 1", "file", "holds no mapping"),
    ("{", "file", "neither YAML nor JSON"),
    ("{seed: 7, tensor: []}", "tensor", "did you mean 'tensors'"),
    ("{seed: -1}", "seed", "is -1; it must be an integer within 0..2^64-1"),
    ("{seed: 18446744073709551616}", "seed", "is 18446744073709551616; it must be an integer"),
    ("{seed: many}", "seed", "is 'many'; it must be an integer"),
    ("{seed: 1, seed: 2}", "file", "the key 'seed' is there twice"),
    ('{"seed": 1, "seed": 2}', "file", "the key 'seed' is there twice"),
    ("tensors: [{name: w, scheme: ONES}]", "tensors[0].shape", "[] for a scalar"),
    ("tensors: [{name: w, shape: 5, scheme: ONES}]", "tensors[0].shape", "a list of integers"),
    (
        "tensors: [{name: w, shape: [2], scheme: NORMAL, std: .nan}]",
        "tensors[0].std",
        "a finite number",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: CONSTANT, dtype: I64, val: 9007199254740993}]",
        "tensors[0].val",
        "9007199254740993, which no double holds exactly",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES, slices: [[0, 1]]}]",
        "tensors[0].slices",
        "{start: ..., stop: ...}",
    ),
    ("{tensors: 3}", "tensors", "must be a list"),
    ("{tensors: [3]}", "tensors[0]", "mapping with name, shape and scheme"),
    ("tensors: [{name: w, shap: [2], scheme: ONES}]", "tensors[0].shap", "did you mean 'shape'"),
    (
        "tensors: [{name: w, shape: [2], scheme: KAIMING}]",
        "tensors[0].scheme",
        "KAIMING_NORMAL",
    ),
    ("tensors: [{name: w, shape: [2]}]", "tensors[0].scheme", "missing"),
    ("tensors: [{name: w, shape: [2], scheme: 99}]", "tensors[0].scheme", "number 99"),
    (
        "tensors: [{name: w, shape: [2.5], scheme: ONES}]",
        "tensors[0].shape",
        "is [2.5]; it must be",
    ),
    ("tensors: [{name: w, shape: two, scheme: ONES}]", "tensors[0].shape", "'two'"),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: F31}]", "tensors[0].dtype", "F31"),
    (
        "tensors: [{name: w, shape: [2], scheme: NORMAL, std: big}]",
        "tensors[0].std",
        "is 'big'; it must be a finite number",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES}, {name: w, shape: [2], scheme: ONES}]",
        "tensors[1].name",
        "unique",
    ),
    ("{[seed]: 1}", "file", "unhashable key"),
    ("? {seed: 1}\n: 2", "file", "unhashable key"),
    ("seed: !!bool maybe", "file", "not what its tag says"),
    ("seed: !!timestamp soon", "file", "not what its tag says"),
    (
        "tensors: [{name: w, shape: [2], scheme: CONSTANT, val: 1" + "0" * 400 + "}]",
        "tensors[0].val",
        "which no double holds exactly",
    ),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: true}]", "tensors[0].dtype", "True"),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: 1.5}]", "tensors[0].dtype", "1.5"),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES, zero_rows: [0], zeroRows: [1]}]",
        "tensors[0].zeroRows",
        "is there twice",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), BAD)
def test_wrong_files_are_refused(text: str, path: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert [v.path for v in caught.value.violations] == [path]
    assert message in str(caught.value)


def test_a_file_can_only_hold_data() -> None:
    with pytest.raises(PlanError):
        parse_plan("!!python/object/apply:os.system ['true']")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "none.yaml")


def test_plans_are_values() -> None:
    import copy
    import pickle

    plan = plans.every_scheme()
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan
    assert plan.with_seed(8) != plan
    assert list(plan.select(["normal", "zeros"])) == ["normal", "zeros"]
    error = pickle.loads(pickle.dumps(PlanError(violations=())))
    assert isinstance(error, PlanError)


def test_a_truth_value_is_the_number() -> None:
    truth, number = (Plan({"mask": constant((2,), v, dtype="BOOL")}) for v in (True, 1))
    assert truth == number == from_proto(to_proto(truth))
    assert layout(truth).digest == layout(number).digest
