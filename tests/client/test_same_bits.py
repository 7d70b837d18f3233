"""A plan has the same bits in this process, from a server, and in a file from either."""

from __future__ import annotations

from pathlib import Path

import initclient as ic
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests import plans
from tests.client import servers


@pytest.mark.parametrize("dtype", plans.FLOATS)
def test_every_scheme_and_type(dtype: str, target: str) -> None:
    plan = plans.every_scheme(dtype=dtype)
    here, there = ic.fetch(plan), ic.fetch(plan, target=target)
    assert list(here) == list(there) == list(plan)
    for name in plan:
        assert here[name].dtype == there[name].dtype
        assert here[name].shape == there[name].shape == plan.tensors[name].shape
        assert here[name].tobytes() == there[name].tobytes(), name


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans.plans())
def test_any_plan(plan: ic.Plan, target: str) -> None:
    here, there = ic.fetch(plan), ic.fetch(plan, target=target)
    assert [(n, a.dtype, a.shape, a.tobytes()) for n, a in here.items()] == [
        (n, a.dtype, a.shape, a.tobytes()) for n, a in there.items()
    ]


def test_files_are_equal_and_open_with_the_stock_library(target: str, tmp_path: Path) -> None:
    plan = ic.Plan({"big": ic.normal((3000, 1000)), **plans.every_scheme().tensors}, seed=5)
    here = ic.fetch_file(plan, tmp_path / "here")
    there = ic.fetch_file(plan, tmp_path / "there", target=target)
    assert here.read_bytes() == there.read_bytes()
    arrays = ic.fetch(plan)
    with safe_open(there, framework="np") as file:
        assert set(file.keys()) == set(plan)
        assert file.metadata()["initserve.plan_digest"] == ic.describe(plan).digest
        for name in plan:
            np.testing.assert_array_equal(file.get_tensor(name), arrays[name])


def test_a_shard_is_that_slice_of_the_whole(source: str) -> None:
    plan = ic.Plan({"w": ic.xavier_uniform((300, 70), dtype="bfloat16"), "b": ic.ones((9,))})
    whole = ic.fetch(plan, target=source)
    cut = ic.fetch(plan.shard({"w": (slice(100, 200), slice(7, None))}), target=source)
    np.testing.assert_array_equal(cut["w"], whole["w"][100:200, 7:])
    np.testing.assert_array_equal(cut["b"], whole["b"])


def test_arrays_are_writable_aligned_and_of_their_own_type(source: str) -> None:
    names = ("U8", "BF16", "F64", "F32", "BOOL", "I16")
    plan = ic.Plan({name: ic.ones((3,), dtype=name) for name in names})
    arrays = ic.fetch(plan, target=source)
    assert arrays["BF16"].dtype == ml_dtypes.bfloat16
    for name, array in arrays.items():
        assert array.flags.writeable, name
        assert array.flags.aligned, name
        assert array.flags.c_contiguous, name
        array[...] = 0
    assert not any(array.any() for array in arrays.values())


def test_a_plan_without_tensors_has_no_arrays(source: str) -> None:
    assert ic.fetch({}, target=source) == {}


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=20, deadline=None)
def test_any_seed_survives_the_way(seed: int, target: str) -> None:
    plan = {"w": ic.uniform((5,))}
    here = ic.fetch(plan, seed=seed)["w"]
    np.testing.assert_array_equal(ic.fetch(plan, seed=seed, target=target)["w"], here)


@pytest.mark.parametrize("streams", [None, 1, 2, 5])
def test_any_number_of_streams(streams: int | None, target: str, tmp_path: Path) -> None:
    plan = ic.Plan({"a": ic.zeros((3,), dtype="U8"), "w": ic.uniform((9000, 1000))}, seed=6)
    here = ic.fetch(plan)
    there = ic.fetch(plan, target=target, streams=streams)
    assert [a.tobytes() for a in here.values()] == [a.tobytes() for a in there.values()]
    file = ic.fetch_file(plan, tmp_path / "there", target=target, streams=streams)
    assert file.read_bytes() == ic.fetch_file(plan, tmp_path / "here").read_bytes()


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_as_many_calls_are_made_as_streams_are_asked_for(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PIECE", 1 << 20)
    server = servers.Changed(lambda messages, context: None)
    with servers.serving(server) as target:
        ic.fetch({"w": ic.zeros((30 << 20,), dtype="U8")}, target=target, streams=streams)
    assert len(server.requests) == streams
