"""ic.Model: a plan that a server has by name, wherever a plan is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax.numpy as jnp
import numpy as np
import pytest
import torch.distributed.checkpoint as dcp
from initclient import aio
from initclient._files import Buffer
from initclient._models import named, settled
from initclient._models.answers import read_model
from initclient._plan import lay_out
from initclient._source import Request, service_at
from initclient._transport.receiver import Receiver
from initclient.cli import main
from initcore.wire import to_proto
from initserve.v1 import service_pb2
from initserver import Server, ServerConfig
from torch import nn

PLAN = ict.record(nn.Linear, 40, 30).plan(seed=7)
OTHER = ict.plan(nn.Linear(40, 30), seed=8)
WANT = ic.fetch(PLAN, target="local")
NAME = "acme/small"
MODEL = ic.Model(NAME, digest=PLAN.digest)


def started(folder: Path, plan: ic.Plan) -> Server:
    place = folder / NAME
    place.mkdir(parents=True)
    ic.dump_plan(plan, place / "plan.yaml")
    return Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, models=str(folder)))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), PLAN) as server:
        yield server.address


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), OTHER) as server:
        yield server.address


def same(weights: dict[str, Any]) -> bool:
    return set(weights) == set(WANT) and all(
        np.array_equal(np.asarray(weights[name]), value) for name, value in WANT.items()
    )


@pytest.mark.parametrize("model", [MODEL, ic.Model(NAME)], ids=["digest", "name"])
def test_every_verb_takes_a_model(model: ic.Model, address: str, tmp_path: Path) -> None:
    assert same(ic.fetch(model, target=address, check=2))
    assert same(ic.Client(address).fetch(model))
    assert same(asyncio.run(aio.fetch(model, target=address)))
    path = ic.fetch_file(model, tmp_path / "one.safetensors", target=address)
    assert ic.verify(path, model, target=address)
    folder = ic.fetch_file(model, tmp_path / "parts", target=address, shard_size=4000)
    assert ic.verify(folder, PLAN, target="local")
    assert ic.describe(model, target=address).digest == PLAN.digest
    assert ic.get_plan(model, target=address) == PLAN
    layer = nn.Linear(40, 30)
    ict.init_(layer, model, address)
    assert same(layer.state_dict())
    assert ict.verify(layer, model, target=address)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_frameworks_take_a_model(address: str) -> None:
    layer = nn.Linear(40, 30)
    dcp.load(layer.state_dict(), storage_reader=ict.PlanReader(MODEL, address), no_dist=True)
    assert same(layer.state_dict())
    tree = {"weight": jnp.zeros((30, 40)), "bias": jnp.zeros((30,))}
    assert same(icj.init(tree, MODEL, address))


def test_another_seed_is_another_plan(address: str) -> None:
    weights = ic.fetch(MODEL, target=address, seed=8)
    expected = ic.fetch(OTHER, target="local")
    assert all(np.array_equal(weights[name], value) for name, value in expected.items())


def test_downloads_name_the_model_and_send_no_plan(address: str, tmp_path: Path) -> None:
    request = Request(lay_out(PLAN, None, local=False), service_at(address))
    by_name = named(request, MODEL, None)
    sent = Receiver(by_name, Buffer(request.layout)).request("server")
    assert (sent.model, sent.expected_digest) == (NAME, PLAN.digest)
    assert not sent.HasField("plan")
    # Another plan, or a part, is no model of the server.
    part = by_name.of_plan(PLAN.select(["bias"]))
    for other in (named(request, PLAN, None), named(request, MODEL, 8), part):
        sent = Receiver(other, Buffer(other.layout)).request("server")
        assert not sent.model
        assert sent.HasField("plan")


def test_models_are_listed(address: str) -> None:
    [model] = ic.list_models(target=address)
    size = lay_out(PLAN, None, local=True).size
    assert model == ic.ModelInfo(NAME, PLAN.digest, size, 2)


def test_a_model_s_plan_says_what_it_was_recorded_from(address: str) -> None:
    assert PLAN.provenance["model"] == "torch.nn.modules.linear.Linear"
    assert ic.get_plan(MODEL, target=address).provenance == PLAN.provenance
    assert ic.describe(MODEL, target=address).provenance == PLAN.provenance


def test_another_digest_is_an_error_that_says_both(address: str) -> None:
    with pytest.raises(ic.IntegrityError, match=f"has the plan {PLAN.digest}.*{OTHER.digest}"):
        ic.fetch(ic.Model(NAME, digest=OTHER.digest), target=address)


def test_a_name_that_no_server_has(address: str) -> None:
    with pytest.raises(ic.ServerError, match="no model 'acme/large'") as caught:
        ic.fetch(ic.Model("acme/large"), target=address)
    assert caught.value.reason == "MODEL_UNKNOWN"


def test_a_digest_finds_the_replica_that_has_it(address: str, other: str) -> None:
    for _ in range(4):
        assert same(ic.fetch(MODEL, target=[other, address]))


def test_processes_of_a_job_need_a_digest(address: str) -> None:
    service = service_at(address)
    assert settled(MODEL, service, processes=2) == PLAN
    with pytest.raises(ValueError, match=rf"2 processes .* digest='{PLAN.digest}'"):
        settled(ic.Model(NAME), service, processes=2)


def test_this_process_has_no_models() -> None:
    with pytest.raises(ValueError, match="the model 'acme/small', which only a server has"):
        ic.fetch(MODEL, target="local")
    with pytest.raises(ValueError, match="models are listed, which only a server has"):
        ic.list_models(target="local")
    with pytest.raises(TypeError, match=r"give its plan, as ic\.get_plan"):
        ic.diff(MODEL, PLAN)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((3,), "name is 3"), ((" ",), "is empty"), (("a", "abc"), "64 hexadecimal digits")],
)
def test_wrong_models_are_refused(arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        ic.Model(*arguments)


def test_a_string_stays_the_path_of_a_file(address: str) -> None:
    with pytest.raises(FileNotFoundError):
        ic.fetch(NAME, target=address)


def test_an_answer_with_another_plan_is_refused() -> None:
    info = service_pb2.ModelInfo(name=NAME, plan_digest=PLAN.digest)
    answer = service_pb2.GetModelResponse(info=info, plan=to_proto(OTHER))
    with pytest.raises(ic.IntegrityError, match=f"digest {OTHER.digest} .*the server says"):
        read_model(answer, ic.Model(NAME), "host")
    answer.info.plan_digest = OTHER.digest
    with pytest.raises(ic.IntegrityError, match=f"you expect {PLAN.digest}"):
        read_model(answer, MODEL, "host")


def test_the_command(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("INITSERVE_TARGET", address)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.split()[:4] == [NAME, PLAN.digest, "2", "tensors,"]
    path = str(tmp_path / "a.safetensors")
    assert main(["fetch", f"model:{NAME}@{PLAN.digest}", "--out", path]) == 0
    assert f"model {NAME} has the plan {PLAN.digest}" in capsys.readouterr().err
    assert main(["verify", path, f"model:{NAME}"]) == 0
    assert main(["plot", f"model:{NAME}", "-o", str(tmp_path / "page.html")]) == 0
    assert main(["describe", f"model:{NAME}@{OTHER.digest}"]) == 1
    assert "take the digest that the model has now" in capsys.readouterr().err
    assert main(["describe", f"model:{NAME}@abc"]) == 2
    assert main(["models", "--target", "local"]) == 2
