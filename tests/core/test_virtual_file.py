"""The virtual file: any byte range equals that range of the whole, and stock readers open it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, PlanError, VirtualFile, constant, layout, normal, ones, zeros
from initcore.backends import load

from tests import plans


def file_of(plan: Plan) -> VirtualFile:
    return VirtualFile(layout(plan), load("numpy"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_byte_range_equals_that_range_of_the_whole(data: st.DataObject) -> None:
    file = file_of(data.draw(plans.plans()))
    whole = bytes(file.read(0, file.size))
    assert len(whole) == file.size
    offset = data.draw(st.integers(0, file.size))
    length = data.draw(st.integers(0, file.size))
    assert bytes(file.read(offset, length)) == whole[offset : offset + length]
    piece = data.draw(st.integers(1, 97))
    joined = b"".join(bytes(part) for _, part in file.pieces(offset, length, piece))
    assert joined == whole[offset : offset + length]


@settings(max_examples=100, deadline=None)
@given(plans.plans())
def test_arrays_equal_the_file(plan: Plan) -> None:
    file = file_of(plan)
    for entry in file.layout.entries:
        array = file.array(entry)
        assert array.shape == entry.tensor.shard_shape
        assert array.tobytes() == bytes(file.read(entry.begin, entry.end - entry.begin))


@settings(max_examples=50, deadline=None)
@given(plans.plans())
def test_the_stock_library_reads_every_plan(plan: Plan) -> None:
    file = file_of(plan)
    content = bytes(file.read(0, file.size))
    tensors = dict(safetensors.deserialize(content))
    assert set(tensors) == set(plan.tensors)
    for entry in file.layout.entries:
        found = tensors[entry.tensor.name]
        assert found["dtype"] == entry.tensor.dtype.name
        assert tuple(found["shape"]) == entry.tensor.shard_shape
        assert bytes(found["data"]) == file.array(entry).tobytes()


@pytest.mark.parametrize("dtype", plans.FLOATS)
def test_a_file_on_disk_opens_in_torch_and_numpy(tmp_path: Path, dtype: str) -> None:
    plan = plans.every_scheme(dtype=dtype)
    file = file_of(plan)
    path = tmp_path / "init.safetensors"
    path.write_bytes(file.read(0, file.size))
    in_torch = safetensors.torch.load_file(path)
    for entry in file.layout.entries:
        ours = file.array(entry)
        theirs = in_torch[entry.tensor.name]
        assert tuple(theirs.shape) == ours.shape
        assert theirs.reshape(-1).view(torch.uint8).numpy().tobytes() == ours.tobytes()
        # torch maps the file: an unaligned tensor would be slow at best.
        assert theirs.data_ptr() % theirs.element_size() == 0
    with safetensors.safe_open(path, "np") as opened:
        metadata = opened.metadata()
    assert metadata == {
        "initserve.plan_digest": file.layout.digest,
        "initserve.seed": "7",
        "initserve.stream_version": "1",
    }


def test_the_header_lists_tensors_in_the_plans_order_and_data_starts_aligned() -> None:
    plan = Plan({"flags": ones((3,), dtype="BOOL"), "w": normal((5,)), "n": zeros((), dtype="I64")})
    header = layout(plan).header
    assert len(header) % 8 == 0
    listed = json.loads(header[8:])
    assert list(listed) == ["__metadata__", "flags", "w", "n"]
    assert listed["n"]["data_offsets"] == [0, 8]
    assert listed["w"]["data_offsets"] == [8, 28]
    assert listed["flags"]["data_offsets"] == [28, 31]


def test_an_empty_plan_is_a_valid_file() -> None:
    file = file_of(Plan({}))
    assert safetensors.numpy.load(bytes(file.read(0, file.size))) == {}


def test_zero_element_tensors_are_empty_and_warned_about() -> None:
    plan = Plan({"none": normal((0, 4)), "some": constant((2,), 1.0), "last": zeros((3, 0))})
    file = file_of(plan)
    assert len(file.layout.warnings) == 2
    assert "zero-element tensors is a no-op" in file.layout.warnings[0]
    read = safetensors.numpy.load(bytes(file.read(0, file.size)))
    assert read["none"].shape == (0, 4)
    assert read["some"].tolist() == [1.0, 1.0]


def test_a_petabyte_plan_is_laid_out_at_once_and_read_anywhere() -> None:
    plan = Plan({f"layer.{i}": normal((2**20, 2**18)) for i in range(1024)})
    file = file_of(plan)
    assert file.size > 2**48
    middle = bytes(file.read(file.size // 2, 64))
    assert bytes(file.read(file.size // 2 + 3, 10)) == middle[3:13]


def test_ranges_outside_the_file_are_refused() -> None:
    file = file_of(Plan({"w": ones((2,))}))
    for offset, length in ((-1, 4), (0, -1), (file.size + 1, 0)):
        with pytest.raises(ValueError, match="outside the file"):
            file.read(offset, length)
    assert bytes(file.read(file.size, 10)) == b""
    assert len(file.read(file.size - 4, 100)) == 4


def test_a_plan_too_large_for_a_file_is_refused() -> None:
    plan = Plan({str(i): normal((2**31, 2**29), dtype="F64") for i in range(2)})
    with pytest.raises(PlanError, match="2\\^63-1"):
        layout(plan)


def test_all_element_types_keep_their_bits() -> None:
    values = dict.fromkeys(plans.FLOATS + plans.INTEGERS, 1.0)
    plan = Plan({name: constant((3,), value, dtype=name) for name, value in values.items()})
    file = file_of(plan)
    for entry in file.layout.entries:
        assert (file.array(entry).astype(np.float64) == 1.0).all()


def test_memory_that_is_not_for_a_range_is_refused() -> None:
    file = file_of(Plan({"w": normal((1000,))}))
    memory = np.zeros(4096 + 8, np.uint8)
    with pytest.raises(ValueError, match=r"range 200\+4096 lies outside the file of \d+ bytes"):
        file.read_into(200, memory[:4096])
    with pytest.raises(ValueError, match=r"range -1\+8 lies outside"):
        file.read_into(-1, memory[:8])
    others = memory[:16].view(np.int8), memory[1:9], memory[:16:2], memory[:16].reshape(2, 8)
    for other in others:
        with pytest.raises(ValueError, match="give contiguous, writable unsigned bytes"):
            file.read_into(0, other)
    memory.flags.writeable = False
    with pytest.raises(ValueError, match="give contiguous, writable unsigned bytes"):
        file.read_into(0, memory[:8])
