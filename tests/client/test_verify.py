"""verify accepts right weights, names wrong ones, and gets fingerprints from servers."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from initclient import aio
from initclient._plan import Region
from initclient.cli import main
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Limits, Server, ServerConfig
from safetensors.numpy import save_file

from tests import plans
from tests.client.servers import Changed

Capture = pytest.CaptureFixture[str]

SHARDED = plans.every_scheme(dtype="BF16").shard({"normal": (slice(2, 5), slice(3, 7))})
PLAN = ic.Plan(
    seed=7,
    tensors={
        "embed": ic.normal((40, 6)),
        "fc.weight": ic.kaiming_normal((8, 6), dtype="bfloat16"),
        "fc.bias": ic.zeros((8,)),
        "steps": ic.zeros((), dtype="I64"),
    },
)


def weights() -> dict[str, Any]:
    return ic.fetch(PLAN, target="local")


@pytest.mark.parametrize("end", [".", "/"])
def test_names_below_a_prefix_end_it_with_a_dot_or_a_slash(end: str) -> None:
    below = {f"model{end}{name}": value for name, value in weights().items()}
    below["optim.step"] = np.zeros(())
    for prefix in ("model", f"model{end}"):
        assert ic.verify(below, PLAN, target="local", prefix=prefix).agreed == tuple(PLAN)
    with pytest.raises(ValueError, match=r"the prefix 'mod'; .* model, optim"):
        ic.verify(below, PLAN, target="local", prefix="mod")


def wrong(what: Any, plan: Any, target: str, **options: Any) -> ic.Verification:
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(what, plan, target=target, **options)
    assert str(caught.value) == str(caught.value.report)
    return caught.value.report


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A server that fingerprints a thousand bytes at a time."""
    limits = Limits(max_fingerprint_bytes=1000)
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5, limits=limits)
    with Server(config) as server:
        yield server.address


def test_files_and_arrays_of_every_scheme_agree(source: str, tmp_path: Path) -> None:
    path = ic.fetch_file(SHARDED, tmp_path / "init.safetensors", target="local")
    arrays = ic.fetch(SHARDED, target="local")
    for what in (arrays, path, str(path)):
        report = ic.verify(what, SHARDED, target=source)
        assert report.agreed == tuple(SHARDED.tensors)
        assert report.ok
        assert report.plan_digest == ic.describe(SHARDED, target="local").digest
        assert {n: str(f) for n, f in report.fingerprints.items()} == {
            t.name: t.fingerprint
            for t in ic.describe(SHARDED, target=source, fingerprints=True).tensors
        }


def test_one_flipped_bit_is_found_and_named(source: str) -> None:
    for name in ("embed", "fc.weight", "fc.bias", "steps"):
        held = weights()
        held[name].view(f"u{held[name].itemsize}").reshape(-1)[-1:] ^= 1
        report = wrong(held, PLAN, source)
        (mismatch,) = report.mismatches
        assert (mismatch.name, mismatch.kind) == (name, "values")
        assert report.agreed == tuple(n for n in PLAN.tensors if n != name)
        if source == "local":
            (part,) = mismatch.parts
            last = tuple(size - 1 for size in held[name].shape)
            assert (part.rank, part.elements, part.first) == (None, 1, last)
            assert f"1 of {held[name].size} elements differ" in str(report)


def test_exchanged_tensors_are_found(source: str) -> None:
    plan = ic.Plan({"a": ic.normal((3, 4)), "b": ic.normal((3, 4))})
    held = ic.fetch(plan, target="local")
    report = wrong({"a": held["b"], "b": held["a"]}, plan, source)
    assert [mismatch.name for mismatch in report.mismatches] == ["a", "b"]


def test_everything_that_is_wrong_is_in_one_report(source: str) -> None:
    held = weights()
    held["embed"] = held["embed"][:39]
    held["fc.weight"] = held["fc.weight"].astype(np.float32)
    del held["fc.bias"]
    held["fc.extra"] = np.zeros(3)
    report = wrong(held, PLAN, source)
    assert [(m.name, m.kind) for m in report.mismatches] == [
        ("embed", "shape"),
        ("fc.weight", "dtype"),
        ("fc.bias", "missing"),
        ("fc.extra", "unexpected"),
    ]
    assert report.agreed == ("steps",)
    text = str(report)
    assert "4 of 5 tensors differ" in text
    assert "embed: has the shape [39, 6], and [40, 6] in the plan" in text
    assert "fc.weight: has elements of type F32, and BF16 in the plan" in text


def test_what_may_be_missing_or_ignored_is_left_out(source: str) -> None:
    held = weights()
    del held["embed"]
    held["rope.inv_freq"] = np.zeros(3)
    report = ic.verify(held, PLAN, target=source, partial=True, ignore="*.inv_freq")
    assert report.left_out == ("rope.inv_freq", "embed")
    assert ic.verify(held, PLAN, target=source, ignore=["embed", "rope.*"]).ok
    assert [m.name for m in wrong(held, PLAN, source).mismatches] == ["embed", "rope.inv_freq"]


def test_a_report_travels_between_processes() -> None:
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify({}, PLAN, target="local")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.report == caught.value.report
    assert isinstance(again, ic.InitserveError)


def test_arrays_of_other_libraries_will_do() -> None:
    plan = ic.Plan({"w": ic.normal((4, 3)), "b": ic.ones((3,), dtype="bfloat16")})
    held = ic.fetch(plan, target="local")
    assert ic.verify({n: jnp.asarray(v) for n, v in held.items()}, plan, target="local").ok
    order = {"w": np.asfortranarray(held["w"]), "b": held["b"]}
    assert ic.verify(order, plan, target="local").ok
    assert held["b"].dtype == ml_dtypes.bfloat16


def test_checkpoints_of_several_files_agree(source: str, tmp_path: Path) -> None:
    halves = [["embed", "steps"], ["fc.weight", "fc.bias"]]
    places = {}
    for number, names in enumerate(halves):
        file = f"model-{number}.safetensors"
        ic.fetch_file(PLAN.select(names), tmp_path / file, target="local")
        places |= dict.fromkeys(names, file)
    assert ic.verify(tmp_path, PLAN, target=source).ok
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for what in (index, tmp_path):
        assert ic.verify(what, PLAN, target=source).agreed == tuple(PLAN.tensors)
    index.write_text(json.dumps({"weight_map": places | {"fc.extra": "model-0.safetensors"}}))
    with pytest.raises(ValueError, match=r"places 'fc\.extra' in model-0"):
        ic.verify(index, PLAN, target=source)
    index.write_text("[]")
    with pytest.raises(ValueError, match="is not an index"):
        ic.verify(tmp_path, PLAN, target=source)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError):
        ic.verify(text, PLAN, target="local")
    with pytest.raises(ValueError, match="holds no safetensors file"):
        ic.verify(tmp_path, PLAN, target="local")
    text.write_text("seed: 7")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        ic.verify(text, PLAN, target="local")
    ic.fetch_file(PLAN, text, target="local")
    text.write_bytes(text.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        ic.verify(text, PLAN, target="local")
    ic.fetch_file(PLAN, text, target="local")
    ic.fetch_file(PLAN.select(["embed"]), tmp_path / "b.safetensors", target="local")
    with pytest.raises(ValueError, match=r"'embed' is in .*a\.safetensors and in .*b\.saf"):
        ic.verify(tmp_path, PLAN, target="local")
    with pytest.raises(TypeError, match="cannot verify 3"):
        ic.verify(3, PLAN, target="local")


def test_a_large_plan_is_asked_for_in_parts(small: str) -> None:
    seen: list[tuple[int, int]] = []
    whole = {name: value.nbytes for name, value in weights().items()}
    assert max(whole.values()) < 1000 < sum(whole.values())
    here = ic.describe(PLAN, target="local", fingerprints=True)
    there = ic.describe(
        PLAN, target=small, fingerprints=True, progress=lambda *now: seen.append(now)
    )
    assert here == there
    assert len(seen) > 1
    assert seen[-1] == (sum(whole.values()), sum(whole.values()))


def test_a_tensor_above_the_limit_is_asked_for_in_parts(small: str) -> None:
    plan = ic.Plan({"w": ic.normal((3, 200, 5)), "q": ic.orthogonal((20, 30))})
    plan = plan.shard({"w": (slice(0, 2), slice(7, 190))})
    here, there = (
        ic.describe(plan, target=target, fingerprints=True) for target in ("local", small)
    )
    assert here == there
    assert ic.verify(ic.fetch(plan, target="local"), plan, target=small).ok


def test_halves_make_up_the_part() -> None:
    part = Region("w", ((5, 6), (2, 9), (0, 4)))
    first, second = part.halves()
    assert (first.bounds, second.bounds) == (
        ((5, 6), (2, 5), (0, 4)),
        ((5, 6), (5, 9), (0, 4)),
    )
    assert first.count + second.count == part.count == math.prod((1, 7, 4))


def test_asyncio_gives_the_same_description(source: str) -> None:
    expected = ic.describe(PLAN, target=source, fingerprints=True)
    assert asyncio.run(aio.describe(PLAN, target=source, fingerprints=True)) == expected
    assert all(tensor.fingerprint for tensor in expected.tensors)
    assert asyncio.run(aio.describe(PLAN, target=source)).tensors[0].fingerprint is None


def test_the_limit_is_shown_and_has_its_reason(small: str) -> None:
    from initcore.wire.conversion import to_proto

    with grpc.insecure_channel(small) as channel:
        stub = service_pb2_grpc.InitServiceStub(channel)
        shown = stub.GetServerInfo(service_pb2.GetServerInfoRequest(), timeout=10).limits
        assert shown.max_fingerprint_bytes == 1000
        plan = to_proto(ic.Plan({"w": ic.normal((251,))}))
        with pytest.raises(grpc.RpcError, match="fingerprints at most 1000") as caught:
            stub.Describe(service_pb2.DescribeRequest(plan=plan, fingerprints=True), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        plain = stub.Describe(service_pb2.DescribeRequest(plan=plan), timeout=10)
        assert plain.tensors[0].fingerprint == b""


def test_a_server_without_fingerprints_is_told_apart() -> None:
    from concurrent.futures import ThreadPoolExecutor

    class Old(Changed):
        """Answers as servers of versions before fingerprints did."""

        def Describe(  # noqa: N802
            self, request: service_pb2.DescribeRequest, context: grpc.ServicerContext
        ) -> service_pb2.DescribeResponse:
            from initcore import layout
            from initcore.wire.conversion import from_proto
            from initserver.rpc.service import _add_tensor, file_info

            file = layout(from_proto(request.plan))
            response = service_pb2.DescribeResponse(info=file_info(file), header=file.header)
            for entry in file.entries:
                _add_tensor(response, entry)
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_InitServiceServicer_to_server(Old(lambda *_: None), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(ic.ServerError, match="computes no fingerprints"):
            ic.verify(weights(), PLAN, target=f"127.0.0.1:{port}")
    finally:
        server.stop(0).wait()


def test_a_timeout_ends_the_questions() -> None:
    with pytest.raises(ic.TransportError):
        ic.verify(weights(), PLAN, target="127.0.0.1:1", timeout=0.2)


def test_progress_tells_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    held = weights()
    ic.verify(held, PLAN, target="local", progress=lambda *now: seen.append(now))
    total = sum(value.nbytes for value in held.values())
    assert seen[-1] == (total, total)


def test_the_command_says_whether_a_file_agrees(
    source: str, tmp_path: Path, capsys: Capture
) -> None:
    plan, file = str(tmp_path / "plan.yaml"), tmp_path / "init.safetensors"
    ic.dump_plan(PLAN, plan)
    ic.fetch_file(PLAN, file, target="local")
    command = ["verify", str(file), plan, "--target", source]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("4 tensors agree with plan ")
    data = bytearray(file.read_bytes())
    data[-1] ^= 0x40
    file.write_bytes(data)
    with pytest.raises(SystemExit, match="1"):
        main([*command, "--json"])
    told = capsys.readouterr()
    assert told.err == ""
    form = json.loads(told.out)
    assert [(one["name"], one["kind"]) for one in form["mismatches"]] == [("fc.weight", "values")]
    assert main([*command, "--ignore", "fc.*"]) == 0
    assert main([*command, "--seed", "8"]) == 1
    told = capsys.readouterr()
    assert "embed: has the fingerprint" in told.err
    assert "\n  the file says seed 7, the plan 8\n" in told.err


def test_the_command_refuses_what_is_no_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    for file in (tmp_path / "nothing.safetensors", tmp_path / "plan.yaml", tmp_path):
        assert main(["verify", str(file), plan, "--target", "local"]) == 2
        assert "initclient: error: " in capsys.readouterr().err


def test_describe_shows_fingerprints_on_request(
    source: str, tmp_path: Path, capsys: Capture
) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    assert main(["describe", plan, "--fingerprints", "--target", source]) == 0
    found = ic.describe(PLAN, target="local", fingerprints=True)
    told = capsys.readouterr().out
    for tensor in found.tensors:
        assert tensor.fingerprint is not None
        assert tensor.fingerprint in told
    assert main(["describe", plan, "--target", source]) == 0
    assert "fingerprint" not in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1 << 20, (1 << 20) + (1 << 18), -1])
def test_a_flipped_bit_is_found_wherever_it_is_in_a_large_tensor(
    place: int, source: str, tmp_path: Path
) -> None:
    """Files are read 4 MiB at a time, and arrays a million elements."""
    shape = (3, 700_001)
    plan = ic.Plan({"w": ic.uniform(shape), "b": ic.zeros((5,))}, seed=2)
    held = ic.fetch(plan, target="local")
    assert ic.verify(held, plan, target=source).ok
    held["w"].view("u4").reshape(-1)[place] ^= 1
    save_file(held, tmp_path / "spoiled.safetensors")
    for what in (held, tmp_path / "spoiled.safetensors"):
        (mismatch,) = wrong(what, plan, source).mismatches
        assert mismatch.name == "w"
        if source == "local":
            (part,) = mismatch.parts
            assert part.first == tuple(map(int, np.unravel_index(place % (3 * 700_001), shape)))


def test_the_command_takes_a_part_of_a_plan_where_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, file = str(tmp_path / "plan.yaml"), str(tmp_path / "part.safetensors")
    ic.dump_plan(PLAN, plan)
    ic.fetch_file(PLAN.select(["embed", "steps"]), file, target="local")
    command = ["verify", file, plan, "--target", "local"]
    assert main(command) == 1
    assert "fc.bias: is in the plan and not there" in capsys.readouterr().err
    assert main([*command, "--partial", "--backend", "numpy"]) == 0
    monkey = [*command, "--partial", "--backend", "abacus"]
    with pytest.raises(SystemExit, match="2"):
        main(monkey)
