"""Seeds of models over gRPC: open or fixed, as initserve.yaml in the folder says now."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from initcore import Plan
from initcore.wire import to_proto
from initserve.v1 import service_pb2
from initserve.v1.service_pb2_grpc import InitServiceStub as Stub
from initserver.config import Limits
from initserver.wire import PlanBytes, Refusal, read_fetch

from tests.server.hub import ask, serving
from tests.server.processes import wait_for
from tests.server.test_models import (  # noqa: F401 - folder and stub are fixtures
    OTHER,
    SMALL,
    digest_of,
    fetched,
    folder,
    put,
    refused,
    stub,
)

NAME = "acme/small"


def settings(folder: Path, text: str) -> None:  # noqa: F811 - the fixture
    (folder / NAME / "initserve.yaml").write_text(text)


def get(stub: Stub, seed: int | None, digest: str = "") -> service_pb2.GetModelResponse:  # noqa: F811
    request = service_pb2.GetModelRequest(name=NAME, expected_digest=digest, seed=seed)
    return stub.GetModel(request, timeout=30)


def test_an_open_seed_gives_the_plan_with_that_seed(stub: Stub, folder: Path) -> None:  # noqa: F811
    settings(folder, "seeds: open\n")
    found = get(stub, 8)
    assert (found.info.name, found.info.plan_digest) == (NAME, OTHER.digest)
    assert found.plan == to_proto(OTHER)
    assert [file.name for file in found.files] == ["config.json", "initserve.yaml"]
    assert get(stub, 8, OTHER.digest) == found
    assert get(stub, 7).info.plan_digest == get(stub, None).info.plan_digest == SMALL.digest
    zero = get(stub, 0)
    assert (zero.plan.seed, zero.info.plan_digest) == (0, SMALL.with_seed(0).digest)
    digest, data = fetched(stub, model=NAME, seed=8, expected_digest=OTHER.digest)
    assert (digest, data) == fetched(stub, plan=to_proto(OTHER))
    assert found.info.total_size == len(data)
    part = fetched(
        stub, model=NAME, seed=8, expected_digest=OTHER.digest, read_offset=9, read_limit=70
    )
    assert part == (OTHER.digest, data[9:79])


def test_the_digest_must_be_that_of_the_plan_with_the_seed(stub: Stub, folder: Path) -> None:  # noqa: F811
    settings(folder, "seeds: open\n")
    for call in (
        lambda: get(stub, 8, SMALL.digest),
        lambda: fetched(stub, model=NAME, seed=8, expected_digest=SMALL.digest),
    ):
        code, text = refused(call)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert f"with the seed 8 the plan {OTHER.digest}" in text
    code, text = refused(lambda: fetched(stub, model=NAME, expected_digest=OTHER.digest))
    assert (code, SMALL.digest in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "`seeds: open` in initserve.yaml beside its plan opens it"),
        ("seeds: fixed\n", "`seeds: open` in initserve.yaml beside its plan opens it"),
        ("seeds: maybe\n", "seeds is 'maybe' in initserve.yaml; it must be fixed or open"),
        ("x" * 70_000, "initserve.yaml has 70000 bytes"),
    ],
)
def test_a_fixed_seed_is_refused(
    text: str | None,
    message: str,
    stub: Stub,  # noqa: F811
    folder: Path,  # noqa: F811
) -> None:
    if text is not None:
        settings(folder, text)
    for call in (
        lambda: get(stub, 8),
        # Also the seed that the plan has: whether it may be chosen does not depend on it.
        lambda: get(stub, 7),
        lambda: fetched(stub, model=NAME, seed=8, expected_digest=OTHER.digest),
    ):
        code, said = refused(call)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "the seed of the model 'acme/small' is fixed here" in said
        assert message in said
    assert get(stub, None).info.plan_digest == SMALL.digest


def test_settings_outside_the_folder_open_nothing(stub: Stub, folder: Path) -> None:  # noqa: F811
    outside = folder.parent / "outside.yaml"
    outside.write_text("seeds: open\n")
    (folder / NAME / "initserve.yaml").symlink_to(outside)
    assert "is fixed" in refused(lambda: get(stub, 8))[1]


def test_the_version_before_has_its_seeds_too(stub: Stub, folder: Path) -> None:  # noqa: F811
    settings(folder, "seeds: open\n")
    before = fetched(stub, model=NAME, seed=8, expected_digest=OTHER.digest)
    new = Plan(dict(list(SMALL.tensors.items())[:1]), seed=7)
    put(folder / NAME, new)
    wait_for(lambda: digest_of(stub, NAME) == new.digest)
    assert get(stub, 8).info.plan_digest == new.with_seed(8).digest
    assert get(stub, 8, OTHER.digest).plan == to_proto(OTHER)
    assert fetched(stub, model=NAME, seed=8, expected_digest=OTHER.digest) == before


def test_an_unknown_name_is_unknown_with_a_seed_too(stub: Stub) -> None:  # noqa: F811
    request = service_pb2.GetModelRequest(name="acme/large", seed=8)
    assert refused(lambda: stub.GetModel(request, timeout=30))[0] == grpc.StatusCode.NOT_FOUND


def test_a_seed_beside_a_plan_is_malformed(stub: Stub) -> None:  # noqa: F811
    code, text = refused(lambda: fetched(stub, plan=to_proto(SMALL), seed=8))
    assert (code, "has a seed beside a plan" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_the_last_seed_of_a_message_counts() -> None:
    plain = PlanBytes(to_proto(SMALL).SerializeToString())
    for seed in (0, 1, 8, 2**64 - 1):
        twice = plain.with_seed(3).with_seed(seed)
        assert twice.parse(Limits(), lambda: None) == SMALL.with_seed(seed)
    request = service_pb2.FetchRequest(model="a", seed=0, expected_digest="x")
    found = read_fetch(request.SerializeToString())
    assert (found.seed, found.problem) == (0, None)
    request = service_pb2.FetchRequest(seed=1)
    assert isinstance(read_fetch(request.SerializeToString()).problem, Refusal)


def test_both_ports_have_the_same_values(folder: Path) -> None:  # noqa: F811
    settings(folder, "seeds: open\n")
    with serving(folder) as server, grpc.insecure_channel(server.address) as channel:
        reply = ask(server, f"/{NAME}/resolve/seed-8/model.safetensors")
        _, data = fetched(Stub(channel), model=NAME, seed=8, expected_digest=OTHER.digest)
        # Only the headers differ: transformers wants one field more.
        assert reply.status == 200
        assert reply.body[-4 * 1205 :] == data[-4 * 1205 :]
