"""`check=N` finds servers that compute other values than the plan's, which no checksum finds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import initclient as ic
import numpy as np
import pytest
from initclient import aio
from initclient.cli import main
from initcore import layout

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan(
    {
        "embed": ic.normal((40, 30), std=0.02),
        "fused": ic.concatenate({"q": ic.xavier_uniform((20, 30)), "k": ic.uniform((10, 30))}),
        "scale": ic.ones((3,), dtype="bfloat16"),
    },
    seed=3,
)


def _lying(plan: ic.Plan, name: str, share: float) -> Callable[..., list[Response]]:
    """Flips a bit in the first `share` of a tensor's elements, with checksums that fit."""
    (entry,) = [e for e in layout(plan).entries if e.tensor.name == name]
    size = entry.tensor.dtype.itemsize
    end = entry.begin + int(share * entry.tensor.count) * size

    def change(messages: list[Response], context: grpc.ServicerContext) -> list[Response]:
        for message in messages[1:]:
            chunk = message.chunk
            data = bytearray(chunk.data)
            for place in range(len(data)):
                offset = chunk.offset + place
                if entry.begin <= offset < end and (offset - entry.begin) % size == 0:
                    data[place] ^= 1
            chunk.data = bytes(data)
            chunk.crc32c = google_crc32c.value(bytes(data))
        return messages

    return change


def _fetch(address: str, plan: ic.Plan, **options: Any) -> dict[str, Any]:
    return ic.fetch(plan, target=address, **options)


def _fetch_aio(address: str, plan: ic.Plan, **options: Any) -> dict[str, Any]:
    return asyncio.run(aio.fetch(plan, target=address, **options))


def _from_client(address: str, plan: ic.Plan, **options: Any) -> dict[str, Any]:
    with ic.Client(address) as client:
        return client.fetch(plan, **options)


WAYS = [_fetch, _fetch_aio, _from_client]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["embed", "fused", "scale"])
def test_a_tensor_of_wrong_values_is_found_and_named(
    way: Callable[..., dict[str, Any]], name: str
) -> None:
    with serving(Changed(_lying(PLAN, name, 1.0))) as address:
        with pytest.raises(ic.IntegrityError, match=f"(?s){name!r}: element .*{address}"):
            way(address, PLAN, check=1)
        # Without the check, checksums that fit the wrong values say nothing.
        way(address, PLAN)


def _all_lying(messages: list[Response], context: grpc.ServicerContext) -> list[Response]:
    """Flips a bit in every byte behind the header, whatever the plan."""
    begin = 8 + int.from_bytes(messages[1].chunk.data[:8], "little")
    for message in messages[1:]:
        chunk = message.chunk
        data = bytes(b ^ (chunk.offset + i >= begin) for i, b in enumerate(chunk.data))
        chunk.data, chunk.crc32c = data, google_crc32c.value(data)
    return messages


def _file(address: str, path: Path, **options: Any) -> Path:
    return ic.fetch_file(PLAN, path, target=address, **options)


def _file_aio(address: str, path: Path, **options: Any) -> Path:
    return asyncio.run(aio.fetch_file(PLAN, path, target=address, **options))


def _file_from_client(address: str, path: Path, **options: Any) -> Path:
    with ic.Client(address) as client:
        return client.fetch_file(PLAN, path, **options)


@pytest.mark.parametrize("shard_size", [None, 3000])
@pytest.mark.parametrize("way", [_file, _file_aio, _file_from_client])
def test_a_wrong_file_is_neither_published_nor_kept(
    way: Callable[..., Path], shard_size: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    with serving(Changed(_all_lying)) as address:
        with pytest.raises(ic.IntegrityError, match=r"tensor '.*': element") as caught:
            way(address, path, shard_size=shard_size, check=1)
        assert not getattr(caught.value, "__notes__", None)
        assert list(tmp_path.rglob("*")) == []
        way(address, path, shard_size=shard_size)
    with serving(Changed(lambda messages, context: None)) as address:
        way(address, path, shard_size=shard_size, check=1000)
    ic.verify(path, PLAN, target="local")


@pytest.mark.parametrize("way", [_file, _file_aio])
def test_a_file_that_is_cut_before_the_check_is_not_blamed_on_the_server(
    way: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "out"

    def cut(done: int, total: int) -> None:
        if done == total:
            (part,) = tmp_path.glob("*.part")
            os.truncate(part, total - 1)

    with serving(Changed(lambda messages, context: None)) as address:
        with pytest.raises(OSError, match="cut while this fetch wrote it"):
            way(address, path, check=1000, progress=cut)
        assert not path.exists()
        way(address, path, check=1000)
    ic.verify(path, PLAN, target="local")


def test_the_command_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "x.safetensors"
    ic.dump_plan(PLAN, plan)
    arguments = ["fetch", str(plan), "--out", str(out), "--check", "1", "--target"]
    with serving(Changed(_lying(PLAN, "scale", 1.0))) as address:
        assert main([*arguments, address]) == 1
    assert "'scale': element [" in capsys.readouterr().err
    assert not out.exists()


def test_one_wrong_element_is_found_if_all_are_checked() -> None:
    with (
        serving(Changed(_lying(PLAN, "embed", 1.01 / 1200))) as address,
        pytest.raises(ic.IntegrityError, match=r"'embed': element \[0, 0\]"),
    ):
        _fetch(address, PLAN, check=1200)


def test_a_share_of_wrong_elements_is_found_as_often_as_promised() -> None:
    # A tenth of the elements, 4 positions: 1 - 0.9**4 = 0.344. Of 100 fetches, less than 12 or
    # more than 60 are found with a probability of under 1e-6.
    found = 0
    with serving(Changed(_lying(PLAN, "embed", 0.1))) as address, ic.Client(address) as client:
        for _ in range(100):
            try:
                client.fetch(PLAN, check=4)
            except ic.IntegrityError:
                found += 1
    assert 12 <= found <= 60


@pytest.mark.parametrize("way", WAYS)
def test_an_honest_server_passes_and_nothing_changes(way: Callable[..., dict[str, Any]]) -> None:
    with serving(Changed(lambda messages, context: None)) as address:
        weights = way(address, PLAN, check=10_000)
    for name, value in ic.fetch(PLAN, target="local").items():
        assert np.array_equal(weights[name], value)


def test_a_slice_is_checked_at_its_place_in_the_whole_tensor() -> None:
    part = ic.Plan({"w": ic.normal((40, 30))}, seed=3).shard({"w": ((10, 20), (5, 30))})
    with serving(Changed(lambda messages, context: None)) as address:
        _fetch(address, part, check=10_000)
    with (
        serving(Changed(_lying(part, "w", 1.01 / 250))) as address,
        pytest.raises(ic.IntegrityError, match=r"'w': element \[10, 5\]"),
    ):
        _fetch(address, part, check=10_000)


def test_a_warning_names_the_tensors_that_cannot_be_checked() -> None:
    plan = {
        "q": ic.orthogonal((8, 8)),
        "fused": ic.concatenate({"a": ic.orthogonal((2, 8)), "b": ic.zeros((2, 8))}, axis=0),
        "w": ic.normal((4, 8)),
    }
    with serving(Changed(lambda messages, context: None)) as address:
        with pytest.warns(ic.PlanWarning, match=r"check: 2 tensors \('q', 'fused'\) .*verify"):
            ic.fetch(plan, target=address, check=2)
        ic.fetch({"w": plan["w"]}, target=address, check=2)


@pytest.mark.parametrize(
    ("check", "error", "text"),
    [
        (-1, ValueError, "check=-1 is negative"),
        (True, TypeError, "check=True is not a number"),
        (2.5, TypeError, "check=2.5 is not a whole number"),
        ("3", TypeError, "check='3' is not a whole number"),
    ],
)
def test_a_wrong_check_is_refused_before_any_call(
    check: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ic.fetch(PLAN, target="127.0.0.1:1", check=check)
    with pytest.raises(error, match=text):
        asyncio.run(aio.fetch(PLAN, target="127.0.0.1:1", check=check))
