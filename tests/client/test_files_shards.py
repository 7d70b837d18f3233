"""The Hugging Face layout: files of limited size and their index."""

from __future__ import annotations

import itertools
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
import pytest
from huggingface_hub.serialization import split_state_dict_into_shards_factory
from hypothesis import given
from hypothesis import strategies as st
from initclient._files.outputs import JOURNAL, PART
from initcore import layout
from initcore.file import parse_shard_size, split
from safetensors import safe_open
from safetensors.numpy import load_file

PLAN = ic.Plan(
    {
        "embed": ic.normal((100, 64), dtype="bfloat16"),
        "odd": ic.normal((7,), dtype="bfloat16"),
        "counter": ic.zeros((), dtype="int64"),
        "big": ic.normal((300, 64)),
        "norm é": ic.ones((64,)),
        "empty": ic.zeros((0, 4)),
        "head": ic.normal((100, 64), dtype="bfloat16"),
    },
    seed=5,
)
SIZE = 20_000
INDEX = "model.safetensors.index.json"

pytestmark = pytest.mark.filterwarnings("ignore:tensor 'empty':initclient.PlanWarning")


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=30), shard_size=st.integers(1, 400))
def test_tensors_are_cut_as_the_hub_cuts_them(sizes: list[int], shard_size: int) -> None:
    plan = ic.Plan({f"w{n}": ic.zeros((size,), dtype="U8") for n, size in enumerate(sizes)})
    theirs = split_state_dict_into_shards_factory(
        {f"w{n}": size for n, size in enumerate(sizes)},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_size,
    )
    ours = split(layout(plan).entries, shard_size)
    assert [[entry.tensor.name for entry in shard] for shard in ours] == [
        *theirs.filename_to_tensors.values()
    ]


def loaded(folder: Path) -> dict[str, Any]:
    """The bits of the tensors, read by the index."""
    places = json.loads((folder / INDEX).read_text())["weight_map"]
    files = {name: load_file(folder / name) for name in set(places.values())}
    return {name: files[file][name] for name, file in places.items()}


def test_every_tensor_is_where_the_index_says(source: str, tmp_path: Path) -> None:
    folder = ic.fetch_file(PLAN, tmp_path / "model", target=source, shard_size=SIZE)
    index = json.loads((folder / INDEX).read_text())
    expected = ic.fetch(PLAN, target="local")
    assert [*index["weight_map"]] == [*PLAN]
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in expected.values())
    found = loaded(folder)
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape
    names = {f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)}
    assert {path.name for path in folder.iterdir()} == {*names, INDEX}


def test_headers_have_the_format_and_the_plan_and_data_is_aligned(tmp_path: Path) -> None:
    folder = ic.fetch_file(PLAN, tmp_path / "model", shard_size=SIZE)
    for path in folder.glob("*.safetensors"):
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        about = header.pop("__metadata__")
        assert about["format"] == "pt"
        part = PLAN.select(header)
        assert about["initserve.plan_digest"] == ic.describe(part).digest
        assert length % 8 == 0
        # Behind another header, the bytes are those of the part's own file.
        own = ic.fetch_file(part, tmp_path / "own").read_bytes()
        assert raw[8 + length :] == own[layout(part).data_begin :]
        with safe_open(path, framework="numpy") as file:
            assert sorted(file.keys()) == sorted(part)


def test_headers_and_index_say_what_the_plan_came_from(tmp_path: Path) -> None:
    came_from = {"model": "nets.Net", "torch": "2.13.0"}
    plan = ic.Plan(PLAN.tensors, PLAN.seed, provenance=came_from)
    folder = ic.fetch_file(plan, tmp_path / "model", shard_size=SIZE)
    index = json.loads((folder / INDEX).read_text())
    abouts = [index["metadata"]]
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            abouts.append(file.metadata())
    assert len(abouts) > 2
    for about in abouts:
        assert about["initserve.provenance.model"] == "nets.Net"
        assert about["initserve.provenance.torch"] == "2.13.0"
    # The plan's own file is that of all plans of its digest.
    own = ic.fetch_file(plan, tmp_path / "own").read_bytes()
    assert own == ic.fetch_file(PLAN, tmp_path / "other").read_bytes()


def test_one_file_is_enough_for_a_small_model(tmp_path: Path) -> None:
    folder = ic.fetch_file(PLAN, tmp_path / "model", shard_size="5GB")
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"
        assert file.get_tensor("counter") == np.int64(0)


def test_files_lie_beside_others_and_new_weights_replace_old_ones(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    ic.fetch_file(PLAN, folder, shard_size=SIZE)
    ic.fetch_file(PLAN.with_seed(9), folder, shard_size=SIZE)
    expected = ic.fetch(PLAN.with_seed(9))
    assert loaded(folder)["embed"].tobytes() == expected["embed"].tobytes()
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "model-00001-of-00002.safetensors", "model-00004-of-00004.safetensors"],
)
def test_weights_of_another_layout_are_not_mixed_with_these(name: str, tmp_path: Path) -> None:
    """transformers takes model.safetensors before an index; others read every file there is."""
    (tmp_path / name).write_text("trained for months")
    with pytest.raises(FileExistsError, match=name):
        ic.fetch_file(PLAN, tmp_path, shard_size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_index_is_not_left_beside_a_single_file(tmp_path: Path) -> None:
    ic.fetch_file(PLAN, tmp_path, shard_size=SIZE)
    with pytest.raises(FileExistsError, match="model-00001-of-00003"):
        ic.fetch_file(PLAN, tmp_path, shard_size="5GB")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(NotADirectoryError, match="name of a folder"):
        ic.fetch_file(PLAN, tmp_path / "x", shard_size=SIZE)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ic.fetch_file(PLAN, tmp_path / "no" / "x", shard_size=SIZE)


class Crash(BaseException):
    """The end of a process in the middle of `publish`."""


@pytest.mark.parametrize("step", range(12))
def test_a_crash_between_the_final_names_leaves_no_index_over_a_mixture(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files and the index get their names, one after the other; then the journal goes."""
    folder = ic.fetch_file(PLAN, tmp_path / "model", shard_size=SIZE)
    new = PLAN.with_seed(6)
    counter = itertools.count()

    def crashing(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            names = [os.path.basename(os.fspath(one)) for one in arguments]
            ours = any(name.startswith(("model", ".model")) for name in names)
            if ours and next(counter) >= step:
                raise Crash
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(os, name, crashing(getattr(os, name)))
        with suppress(Crash):
            ic.fetch_file(new, folder, shard_size=SIZE)
    if (folder / INDEX).exists():
        bits = loaded(folder)["head"].tobytes(), loaded(folder)["embed"].tobytes()
        whole = [ic.fetch(plan) for plan in (PLAN, new)]
        assert bits in [(one["head"].tobytes(), one["embed"].tobytes()) for one in whole]
    ic.fetch_file(new, folder, shard_size=SIZE)
    assert loaded(folder)["big"].tobytes() == ic.fetch(new)["big"].tobytes()
    names = {path.name for path in folder.iterdir()}
    assert not any(name.endswith((PART, JOURNAL)) for name in names)


@pytest.mark.parametrize(
    ("text", "size"),
    [(5, 5), ("5", 5), ("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("2GiB", 2 << 30), ("7kb", 7000)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_shard_size(text) == size


@pytest.mark.parametrize(
    "text", [0, -1, "", "GB", "5 bananas", "0.1", 1.5, True, "1e9", "-5GB", "9" * 400]
)
def test_what_is_no_size(text: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard_size is"):
        ic.fetch_file(PLAN, tmp_path / "x", shard_size=text)
    assert [*tmp_path.iterdir()] == []


def test_no_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `--out "$OUT"` with OUT unset would fill whatever folder one is in.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="name of the folder is empty"):
        ic.fetch_file(PLAN, "", shard_size="1GB")
    assert [*tmp_path.iterdir()] == []
