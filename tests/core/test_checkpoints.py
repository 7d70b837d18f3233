"""Values from checkpoints: the file's own, by range, and never from outside the folder."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import initcore as ic
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import CheckpointError, Checkpoints, Plan, PlanError, Tensor, VirtualFile, layout
from initcore.backends import load
from initcore.generate import checkpoints
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests import plans

VALUES = {
    "backbone.weight": np.arange(5000, dtype=np.float32).reshape(50, 100) / 7,
    "backbone.bias": np.arange(50).astype(ml_dtypes.bfloat16),
    "steps": np.array(17, dtype=np.int64),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    (folder / "resnet").mkdir(parents=True)
    save_file(VALUES, folder / "resnet" / "model.safetensors")
    return folder


MODEL = "resnet/model.safetensors"


def read(plan: Plan, folder: Path) -> dict[str, NDArray[Any]]:
    checkpoints = Checkpoints(folder)
    laid_out = layout(plan)
    checkpoints.check([entry.tensor for entry in laid_out.entries])
    file = VirtualFile(laid_out, load("numpy"), checkpoints=checkpoints)
    return {entry.tensor.name: file.array(entry) for entry in laid_out.entries}


def violations(tensor: Tensor, folder: Path) -> list[tuple[str, str]]:
    with pytest.raises(PlanError) as caught:
        read(Plan({"backbone.weight": tensor}), folder)
    return [(v.field, v.message) for v in caught.value.violations]


def test_a_backbone_from_a_checkpoint_and_a_head_from_a_seed(folder: Path) -> None:
    head = ic.kaiming_normal((10, 50))
    got = read(
        Plan(
            {
                "backbone.weight": ic.pretrained((50, 100), MODEL),
                "body.bias": ic.pretrained((50,), MODEL, "backbone.bias", dtype="bf16"),
                "steps": ic.pretrained((), MODEL, dtype="I64"),
                "head.weight": head,
            },
            7,
        ),
        folder,
    )
    assert np.array_equal(got["backbone.weight"], VALUES["backbone.weight"])
    assert np.array_equal(got["body.bias"], VALUES["backbone.bias"])
    assert got["steps"] == 17
    assert np.array_equal(
        got["head.weight"], read(Plan({"head.weight": head}, 7), folder)["head.weight"]
    )


@settings(max_examples=50, deadline=None)
@given(cut=plans.cuts((50, 100)))
def test_any_slice_is_that_slice(cut: tuple[slice, ...], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "slices"
    folder.mkdir(exist_ok=True)
    if not (folder / "m.safetensors").exists():
        save_file(VALUES, folder / "m.safetensors")
    name = "backbone.weight"
    plan = Plan({name: ic.pretrained((50, 100), "m.safetensors")}).shard({name: cut})
    assert np.array_equal(read(plan, folder)[name], VALUES[name][cut])


def test_rows_far_apart_are_read_one_by_one(tmp_path: Path) -> None:
    values = np.arange(12 << 17, dtype=np.float32).reshape(12, 1 << 17)
    save_file({"w": values}, tmp_path / "m.safetensors")
    for cut in ((slice(0, 12, None), slice(5, 6)), (slice(1, 11), slice(7, 3000))):
        plan = Plan({"w": ic.pretrained(values.shape, "m.safetensors")}).shard({"w": cut})
        assert np.array_equal(read(plan, tmp_path)["w"], values[cut])


def test_parts_may_come_from_checkpoints(folder: Path) -> None:
    tensor = ic.permute({"backbone.weight": ic.pretrained((50, 100), MODEL)}, (1, 0))
    got = read(Plan({"kernel": tensor}), folder)
    assert np.array_equal(got["kernel"], VALUES["backbone.weight"].T)


def test_several_files_with_an_index(folder: Path) -> None:
    save_file({"a": np.ones(3, np.float32)}, folder / "one.safetensors")
    save_file({"b": np.zeros(2, np.float32)}, folder / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "all.safetensors.index.json").write_text(json.dumps(index))
    name = "all.safetensors.index.json"
    got = read(Plan({"a": ic.pretrained((3,), name), "b": ic.pretrained((2,), name)}), folder)
    assert got["a"].tolist() == [1, 1, 1]
    assert got["b"].tolist() == [0, 0]
    index["weight_map"]["a"] = "../outside.safetensors"
    (folder / "evil.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": np.ones(3, np.float32)}, folder.parent / "outside.safetensors")
    with pytest.raises(PlanError, match=r"without '\.\.'"):
        read(Plan({"a": ic.pretrained((3,), "evil.safetensors.index.json")}), folder)


def test_the_sha256_is_checked(folder: Path) -> None:
    right = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    read(Plan({"steps": ic.pretrained((), MODEL, sha256=right.upper(), dtype="I64")}), folder)
    wrong = ic.pretrained((50, 100), MODEL, sha256="0" * 64)
    assert violations(wrong, folder) == [("sha256", f"is {'0' * 64}; the file {MODEL} has {right}")]


def test_a_sha256_has_64_digits() -> None:
    with pytest.raises(PlanError, match="64 hexadecimal digits"):
        layout(Plan({"w": ic.pretrained((2,), MODEL, sha256="12")}))


WRONG = [
    (ic.pretrained((50, 101), MODEL), "shape", "has [50, 100]"),
    (ic.pretrained((50, 100), MODEL, dtype="f16"), "dtype", "are not converted"),
    (ic.pretrained((50, 100), MODEL, "backbone.wieght"), "source", "'backbone.weight'"),
    (ic.pretrained((50, 100), "resnet/modle.safetensors"), "checkpoint", "no such file"),
    (ic.pretrained((50, 100), "resnet"), "checkpoint", "must end in"),
]


@pytest.mark.parametrize(("tensor", "field", "text"), WRONG)
def test_what_the_checkpoint_does_not_have_is_refused(
    tensor: Tensor, field: str, text: str, folder: Path
) -> None:
    ((found, message),) = violations(tensor, folder)
    assert found == field
    assert text in message


@pytest.mark.parametrize("how", ["..", "absolute", "link", "folder link", "null"])
def test_no_name_leads_out_of_the_folder(how: str, folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    save_file(VALUES, outside / "model.safetensors")
    (folder / "link.safetensors").symlink_to(outside / "model.safetensors")
    (folder / "elsewhere").symlink_to(outside)
    name = {
        "..": "../outside/model.safetensors",
        "absolute": str(outside / "model.safetensors"),
        "link": "link.safetensors",
        "folder link": "elsewhere/model.safetensors",
        "null": "model\0.safetensors",
    }[how]
    ((field, message),) = violations(ic.pretrained((50, 100), name), folder)
    assert field == "checkpoint"
    assert "no such file" in message or "below the folder" in message


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "latest.safetensors").symlink_to(folder / MODEL)
    name = "backbone.weight"
    got = read(Plan({name: ic.pretrained((50, 100), "latest.safetensors")}), folder)
    assert np.array_equal(got[name], VALUES[name])


HEADERS = [
    b"",
    b"\xff" * 8,
    (2**40).to_bytes(8, "little") + b"{}",
    (2).to_bytes(8, "little") + b"[]",
    (2).to_bytes(8, "little") + b"x}",
    *(
        len(text).to_bytes(8, "little") + text + b"\0" * 64
        for text in (
            b'{"backbone.weight":{"dtype":"F32","shape":[50,100],"data_offsets":[0,20000]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":null}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,Infinity]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[2],"data_offsets":[0.9,8.9]}}',
            b'{"backbone.weight":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"\\ud800":{}}',
            b'{"backbone.weight":{"dtype":"\\ud800","shape":[],"data_offsets":[0,4]}}',
            b'{"backbone.weight":' + b"[" * 100_000,
        )
    ),
]


@pytest.mark.parametrize("content", HEADERS, ids=lambda content: content[8:50])
def test_a_file_that_cannot_be_right_is_refused(content: bytes, folder: Path) -> None:
    (folder / "bad.safetensors").write_bytes(content)
    ((field, message),) = violations(ic.pretrained((50, 100), "bad.safetensors"), folder)
    assert field == "checkpoint"
    assert "not a safetensors file" in message


@pytest.mark.parametrize("shape", [[10**300] * 200, [1] * 65])
def test_a_shape_that_nobody_can_have_takes_no_time(shape: list[int], folder: Path) -> None:
    # Multiplied, the first would take minutes, in every process that is asked for it.
    entry = {"dtype": "F32", "shape": shape * 200, "data_offsets": [0, 4]}
    text = json.dumps({"backbone.weight": entry}).encode()
    (folder / "bad.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    ((_, message),) = violations(ic.pretrained((50, 100), "bad.safetensors"), folder)
    assert len(message) < 400
    assert "which is not a safetensors file" in message or "has [1, 1, 1, 1" in message


def test_an_index_of_names_that_no_file_has_is_refused(folder: Path) -> None:
    (folder / "bad.safetensors.index.json").write_text(
        '{"weight_map": {"backbone.weight": "\\ud800.safetensors"}}'
    )
    ((_, message),) = violations(ic.pretrained((50, 100), "bad.safetensors.index.json"), folder)
    assert "not an index" in message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_it(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.safetensors").write_bytes(content)
        with pytest.raises(PlanError):
            read(Plan({"w": ic.pretrained((2,), "x.safetensors")}), Path(folder))


@pytest.mark.parametrize("change", ["cut", "rewritten", "removed"])
def test_a_file_that_changes_is_an_error_and_not_other_bytes(change: str, folder: Path) -> None:
    plan = Plan({"w": ic.pretrained((50, 100), MODEL, "backbone.weight")})
    laid_out = layout(plan)
    checkpoints = Checkpoints(folder)
    checkpoints.check([entry.tensor for entry in laid_out.entries])
    file = VirtualFile(laid_out, load("numpy"), checkpoints=checkpoints)
    path = folder / MODEL
    if change == "cut":
        os.truncate(path, 100)
    elif change == "rewritten":
        save_file({"backbone.weight": VALUES["backbone.weight"] + 1}, path)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        file.array(laid_out.entries[0])


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="/nowhere, does not exist"):
        Checkpoints("/nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file, is not a folder"):
        Checkpoints(tmp_path / "file")
    file = VirtualFile(layout(Plan({"w": ic.pretrained((2,), MODEL)})), load("numpy"))
    with pytest.raises(CheckpointError, match="folder of checkpoints"):
        file.array(file.layout.entries[0])


def test_a_plan_without_sha256_says_that_its_bits_are_not_fixed() -> None:
    assert any(
        "SHA-256" in text for text in layout(Plan({"w": ic.pretrained((2,), MODEL)})).warnings
    )
    sure = ic.pretrained((2,), MODEL, sha256="0" * 64)
    assert not layout(Plan({"w": sure})).warnings


def test_a_whole_tensor_is_read_piece_by_piece(tmp_path: Path, monkeypatch: Any) -> None:
    values = np.arange(3_000_001, dtype=np.float32)
    save_file({"w": values}, tmp_path / "a.safetensors")
    counts = []
    read_runs = Checkpoints.read

    def counted(self: Checkpoints, content: Any, runs: Any, itemsize: int) -> Any:
        counts.append(runs.count)
        return read_runs(self, content, runs, itemsize)

    monkeypatch.setattr(Checkpoints, "read", counted)
    got = read(Plan({"w": ic.pretrained(values.shape, "a.safetensors")}), tmp_path)
    assert np.array_equal(got["w"], values)
    assert sum(counts) == values.size
    assert max(counts) <= 1 << 20, "memory for one piece, and not for the tensor once more"


def test_no_error_tells_where_the_folder_lies(folder: Path, monkeypatch: Any) -> None:
    plan = Plan({"backbone.weight": ic.pretrained((50, 100), MODEL)})
    laid_out = layout(plan)
    checkpoints = Checkpoints(folder)
    checkpoints.check([entry.tensor for entry in laid_out.entries])
    file = VirtualFile(laid_out, load("numpy"), checkpoints=checkpoints)

    def refuse(path: Any, *rest: Any) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError) as caught:
        file.array(laid_out.entries[0])
    assert str(caught.value) == f"checkpoint {MODEL}: Permission denied"


def test_a_file_that_changes_while_it_is_read_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan({"w": ic.pretrained((50, 100), MODEL, "backbone.weight")})
    laid_out = layout(plan)
    files = Checkpoints(folder)
    files.check([entry.tensor for entry in laid_out.entries])
    read = checkpoints._read

    def meanwhile(*arguments: Any) -> Any:
        found = read(*arguments)
        os.utime(folder / MODEL, ns=(0, 0))
        return found

    monkeypatch.setattr(checkpoints, "_read", meanwhile)
    file = VirtualFile(laid_out, load("numpy"), checkpoints=files)
    with pytest.raises(CheckpointError, match="has changed"):
        file.array(laid_out.entries[0])


def test_a_file_that_is_half_written_at_first_is_taken_when_it_is_whole(folder: Path) -> None:
    plan = Plan({"w": ic.pretrained((50, 100), MODEL, "backbone.weight")})
    tensors = [entry.tensor for entry in layout(plan).entries]
    content = (folder / MODEL).read_bytes()
    files = Checkpoints(folder)
    for length in (0, 7, 200, len(content) - 1):
        (folder / MODEL).write_bytes(content[:length])
        with pytest.raises(PlanError, match="is not a safetensors file"):
            files.check(tensors)
    (folder / MODEL).write_bytes(content)
    files.check(tensors)


def test_a_file_of_the_same_size_and_time_has_changed(folder: Path) -> None:
    """Written in place, by a program that keeps the older time; or where clocks are coarse."""
    plan = Plan({"w": ic.pretrained((50, 100), MODEL, "backbone.weight")})
    laid_out = layout(plan)
    files = Checkpoints(folder)
    files.check([entry.tensor for entry in laid_out.entries])
    found = (folder / MODEL).stat()
    content = (folder / MODEL).read_bytes()
    time.sleep(0.05)
    (folder / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(folder / MODEL, ns=(found.st_atime_ns, found.st_mtime_ns))
    file = VirtualFile(laid_out, load("numpy"), checkpoints=files)
    with pytest.raises(CheckpointError, match="has changed"):
        file.array(laid_out.entries[0])


def test_a_digest_is_that_of_the_file_that_was_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file may have the name while the first one is hashed, and give it back."""
    right = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    other = folder / "other"
    other.write_bytes((folder / MODEL).read_bytes()[::-1])
    wrong = hashlib.sha256(other.read_bytes()).hexdigest()
    files = Checkpoints(folder)
    find = Checkpoints._find

    def swapping(self: Checkpoints, content: Any) -> Any:
        found = find(self, content)
        os.rename(folder / MODEL, folder / "first")
        os.rename(other, folder / MODEL)
        return found

    def check(sha256: str) -> None:
        plan = Plan({"w": ic.pretrained((50, 100), MODEL, "backbone.weight", sha256=sha256)})
        files.check([entry.tensor for entry in layout(plan).entries])

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_find", swapping)
        with pytest.raises(PlanError, match="has changed"):
            check(wrong)
    os.rename(folder / MODEL, other)
    os.rename(folder / "first", folder / MODEL)
    files = Checkpoints(folder)
    check(right)


def test_what_with_pretrained_takes_keeps_its_part_and_its_digest() -> None:
    plan = Plan({"a": ic.zeros((4, 3)), "b": ic.zeros((2,))}).shard({"a": (slice(1, 3),)})
    got = ic.with_pretrained(plan, "x.safetensors", "a", sha256="ab" * 32)
    assert got.tensors["a"].sha256 == "ab" * 32
    assert got.tensors["a"].slices == plan.tensors["a"].slices
    assert got.tensors["b"] == plan.tensors["b"]
