"""ic.Model: a plan that a server has by name, wherever a plan is taken."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax.numpy as jnp
import pytest
import torch.distributed.checkpoint as dcp
from initclient import aio
from initclient._fetch_file import fetch_stream
from initclient._files import Buffer
from initclient._models import settled
from initclient._models.answers import read_model
from initclient._models.lookup import named
from initclient._plan import lay_out
from initclient._source import Request, service_at
from initclient._transport.receiver import Receiver
from initclient.cli import main
from initcore.wire import to_proto
from initserve.v1 import service_pb2
from torch import nn

from tests.client.models import NAME, PLAN, are_of, check_verbs, sent_requests, started

OTHER = ict.plan(nn.Linear(40, 30), seed=8)
MODEL = ic.Model(NAME, digest=PLAN.digest)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), PLAN) as server:
        yield server.address


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), OTHER) as server:
        yield server.address


@pytest.mark.parametrize("model", [MODEL, ic.Model(NAME)], ids=["digest", "name"])
def test_every_verb_takes_a_model(model: ic.Model, address: str, tmp_path: Path) -> None:
    check_verbs(model, PLAN, address, tmp_path)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_frameworks_take_a_model(address: str) -> None:
    layer = nn.Linear(40, 30)
    dcp.load(layer.state_dict(), storage_reader=ict.PlanReader(MODEL, address), no_dist=True)
    assert are_of(PLAN, layer.state_dict())
    tree = {"weight": jnp.zeros((30, 40)), "bias": jnp.zeros((30,))}
    assert are_of(PLAN, icj.init(tree, MODEL, address))


def test_downloads_name_the_model_and_send_no_plan(address: str, tmp_path: Path) -> None:
    request = Request(lay_out(PLAN, None, local=False), service_at(address))
    by_name = named(request, MODEL, None)
    sent = Receiver(by_name, Buffer(request.layout)).request("server")
    assert (sent.model, sent.expected_digest) == (NAME, PLAN.digest)
    assert not sent.HasField("plan")
    assert not sent.HasField("seed")
    # Another plan, or a part, is no model of the server.
    part = by_name.of_plan(PLAN.select(["bias"]))
    for other in (named(request, PLAN, None), part):
        sent = Receiver(other, Buffer(other.layout)).request("server")
        assert not sent.model
        assert sent.HasField("plan")


def test_every_download_names_the_model(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_requests(monkeypatch)
    path = tmp_path / "one.safetensors"
    for download in (
        lambda: ic.fetch(MODEL, target=address),
        lambda: ic.fetch_file(MODEL, path, target=address),
        lambda: fetch_stream(MODEL, io.BytesIO(), target=address),
        lambda: asyncio.run(aio.fetch(MODEL, target=address)),
        lambda: asyncio.run(aio.fetch_file(MODEL, path, target=address)),
    ):
        sent.clear()
        download()
        assert sent
        assert all(one.model == NAME and not one.HasField("plan") for one in sent)


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
        assert are_of(PLAN, ic.fetch(MODEL, target=[other, address]))


def test_processes_of_a_job_need_a_digest(address: str) -> None:
    service = service_at(address)
    assert settled(MODEL, service, processes=2) == PLAN
    with pytest.raises(ValueError, match=rf"2 processes .* digest='{PLAN.digest}'"):
        settled(ic.Model(NAME), service, processes=2)


def test_this_process_has_no_models() -> None:
    with pytest.raises(ValueError, match="only a server has the model 'acme/small'"):
        ic.fetch(MODEL, target="local")
    with pytest.raises(ValueError, match="only a server has models"):
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
    assert main(["models", "--json"]) == 0
    (listed,) = ic.list_models(target=address)
    assert json.loads(capsys.readouterr().out) == [dataclasses.asdict(listed)]
    path = str(tmp_path / "a.safetensors")
    assert main(["fetch", f"model:{NAME}@{PLAN.digest}", "--out", path]) == 0
    assert f"model {NAME} has the plan {PLAN.digest}" in capsys.readouterr().err
    assert main(["verify", path, f"model:{NAME}"]) == 0
    assert main(["plot", f"model:{NAME}", "-o", str(tmp_path / "page.html")]) == 0
    assert main(["describe", f"model:{NAME}@{OTHER.digest}"]) == 1
    assert "take the digest that the model has now" in capsys.readouterr().err
    assert main(["describe", f"model:{NAME}@abc"]) == 2
    assert main(["models", "--target", "local"]) == 2
