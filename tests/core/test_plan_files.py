"""Plan files, messages and plans say the same thing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
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
    ["bfloat16", "BF16", "bf16", "torch.bfloat16", "jnp.bfloat16", torch.bfloat16],
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


# Files of this process may have 1 MiB: the write ends as on a full disk.
FULL = """
import resource, sys
from initcore import Plan, dump_plan, ones
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
tensors = {f"a.tensor.with.a.long.name.{i}": ones((3,)) for i in range(30_000)}
try:
    dump_plan(Plan(tensors), sys.argv[1])
except OSError as error:
    print(error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_a_write_that_fails_leaves_the_old_plan_and_names_the_file(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    dump_plan(Plan({"w": zeros((2,))}, 7), path)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{path}\n", "")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_plan_is_written_through_a_link_and_has_the_permissions_of_a_new_file(
    tmp_path: Path,
) -> None:
    fresh, target, link = tmp_path / "fresh", tmp_path / "real.yaml", tmp_path / "link.yaml"
    fresh.touch()
    target.write_text("old")
    link.symlink_to(target)
    plan = Plan({"w": zeros((2,))}, 7)
    dump_plan(plan, link)
    assert link.is_symlink()
    assert load_plan(target) == plan
    assert stat.S_IMODE(os.stat(target).st_mode) == stat.S_IMODE(os.stat(fresh).st_mode)


def test_an_open_reader_of_the_old_plan_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    dump_plan(Plan({"w": zeros((2,))}, 7), path)
    before = path.read_bytes()
    with open(path, "rb") as reader:
        dump_plan(Plan({}, 8), path)
        assert reader.read() == before


def test_a_pipe_takes_a_plan_as_it_is() -> None:
    script = "import initcore; initcore.dump_plan(initcore.Plan({}, 7), '/dev/stdout')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == Plan({}, 7).to_yaml()


def test_a_plan_that_cannot_be_written_there_names_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "plan.yaml", tmp_path):
        with pytest.raises(OSError, match=str(path)) as caught:
            dump_plan(Plan({}), path)
        assert caught.value.filename == str(path)


def test_a_dict_of_tensors_is_written_as_a_plan_and_anything_else_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plan.yaml"
    dump_plan({"w": zeros((2,))}, path)
    assert load_plan(path) == Plan({"w": zeros((2,))})
    with pytest.raises(TypeError, match=r"the plan is 'plan.yaml'; give a Plan, or a dict"):
        dump_plan("plan.yaml", path)  # type: ignore[arg-type]
