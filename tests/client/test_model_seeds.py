"""ic.Model(seed=): the caller chooses the seed of a model that leaves it open."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from functools import partial
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
from initclient._models import settled
from initclient._source import service_at
from initclient.cli import main
from initserve.v1 import service_pb2
from initserver.rpc import handlers
from torch import nn

from tests.client.models import NAME, PLAN, are_of, check_verbs, sent_requests, started

OTHER = PLAN.with_seed(8)
MODEL = ic.Model(NAME, OTHER.digest, seed=8)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), PLAN, "seeds: open\n") as server:
        yield server.address


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("models"), PLAN) as server:
        yield server.address


@pytest.mark.parametrize(
    "model",
    [MODEL, ic.Model(NAME, seed=8), ic.Model(NAME, seed=np.uint64(8))],
    ids=["digest", "name", "numpy"],
)
def test_every_verb_takes_the_seed(model: ic.Model, address: str, tmp_path: Path) -> None:
    check_verbs(model, OTHER, address, tmp_path)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_frameworks_take_the_seed(address: str) -> None:
    layer = nn.Linear(40, 30)
    dcp.load(layer.state_dict(), storage_reader=ict.PlanReader(MODEL, address), no_dist=True)
    assert are_of(OTHER, layer.state_dict())
    tree = {"weight": jnp.zeros((30, 40)), "bias": jnp.zeros((30,))}
    assert are_of(OTHER, icj.init(tree, MODEL, address))
    assert icj.verify(icj.init(tree, MODEL, address), ic.Model(NAME), target=address, seed=8)


@pytest.mark.parametrize("model", [ic.Model(NAME), ic.Model(NAME, OTHER.digest), MODEL])
def test_the_argument_seed_is_the_seed_of_the_model(model: ic.Model, address: str) -> None:
    assert are_of(OTHER, ic.fetch(model, target=address, seed=8))
    layer = nn.Linear(40, 30)
    ict.init_(layer, model, address, seed=8)
    assert are_of(OTHER, layer.state_dict())
    assert ict.verify(layer, model, target=address, seed=8)


def test_the_digest_is_that_of_the_plan_with_the_seed(address: str) -> None:
    with pytest.raises(
        ic.IntegrityError, match=f"with the seed 8 the plan {OTHER.digest}.*expects"
    ):
        ic.fetch(ic.Model(NAME, PLAN.digest, seed=8), target=address)
    with pytest.raises(ic.IntegrityError, match=f"has the plan {PLAN.digest}"):
        ic.fetch(ic.Model(NAME, OTHER.digest), target=address)


def test_downloads_name_the_model_and_the_seed(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_requests(monkeypatch)
    ic.fetch(MODEL, target=address)
    ic.fetch(ic.Model(NAME), target=address, seed=8)
    ic.fetch_file(MODEL, tmp_path / "a.safetensors", target=address)
    assert len(sent) >= 3
    for one in sent:
        assert (one.model, one.seed, one.expected_digest) == (NAME, 8, OTHER.digest)
        assert not one.HasField("plan")


def test_a_seed_of_zero_is_a_seed(address: str) -> None:
    expected = ic.fetch(PLAN, seed=0, target="local")
    weights = ic.fetch(ic.Model(NAME, seed=0), target=address)
    assert all(np.array_equal(weights[name], value) for name, value in expected.items())


def test_a_fixed_seed_is_refused_with_the_remedy(fixed: str) -> None:
    for call in (
        lambda: ic.fetch(ic.Model(NAME, seed=8), target=fixed),
        lambda: ic.fetch(ic.Model(NAME), target=fixed, seed=8),
        lambda: ict.init_(nn.Linear(40, 30), ic.Model(NAME, seed=8), fixed),
    ):
        text = f"seed of the model '{NAME}' is fixed.*`seeds: open` in initserve.yaml"
        with pytest.raises(ic.ServerError, match=text) as caught:
            call()
        assert caught.value.reason == "SEED_FIXED"
    # What the remedy says: the plan is the caller's own.
    assert are_of(OTHER, ic.fetch(ic.get_plan(NAME, target=fixed).with_seed(8), target=fixed))


def test_a_replica_whose_model_leaves_the_seed_open_is_found(address: str, fixed: str) -> None:
    for _ in range(4):
        assert are_of(OTHER, ic.fetch(MODEL, target=[fixed, address]))


def test_two_seeds_are_refused(address: str) -> None:
    with pytest.raises(
        ValueError, match="the seed is 9, and the model 'acme/small' has the seed 8"
    ):
        ic.fetch(MODEL, target=address, seed=9)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7"])
def test_wrong_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"it must be an integer within 0\.\.2\^64-1"):
        ic.Model(NAME, seed=seed)


def test_processes_of_a_job_are_shown_the_seed_too(address: str) -> None:
    with pytest.raises(ValueError, match=rf"digest='{OTHER.digest}', seed=8\)"):
        settled(ic.Model(NAME, seed=8), service_at(address), processes=2)


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in whose wire contract the seed is an unknown field, which it passes over."""
    for name, kind in (
        ("read_get_model", service_pb2.GetModelRequest),
        ("read_fetch", service_pb2.FetchRequest),
    ):
        read = getattr(handlers, name)
        monkeypatch.setattr(handlers, name, partial(read_without_seed, read, kind))
    with started(tmp_path / "older", PLAN, "seeds: open\n") as server:
        yield server.address


def read_without_seed(read: Callable[[bytes], Any], kind: type[Any], data: bytes) -> Any:
    """How a server reads a request if its wire contract has no seed in it."""
    message = kind.FromString(data)
    message.ClearField("seed")
    return read(message.SerializeToString())


def calls_of(model: ic.Model, address: str, folder: Path) -> dict[str, Callable[[], object]]:
    """A call of every kind that gives values of a model, or says something of them."""
    layer, state = nn.Linear(40, 30), nn.Linear(40, 30).state_dict()
    tree = {"weight": jnp.zeros((30, 40)), "bias": jnp.zeros((30,))}
    return {
        "fetch": lambda: ic.fetch(model, target=address),
        "client": lambda: ic.Client(address).fetch(model),
        "asyncio": lambda: asyncio.run(aio.fetch(model, target=address)),
        "file": lambda: ic.fetch_file(model, folder / "a.safetensors", target=address),
        "shards": lambda: ic.fetch_file(model, folder / "a", target=address, shard_size=4000),
        "describe": lambda: ic.describe(model, target=address),
        "plan": lambda: ic.get_plan(model, target=address),
        "torch": lambda: ict.init_(layer, model, address),
        "verify": lambda: ict.verify(layer, model, target=address),
        "reader": lambda: dcp.load(
            state, storage_reader=ict.PlanReader(model, address), no_dist=True
        ),
        "jax": lambda: icj.init(tree, model, address),
    }


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("digest", [None, OTHER.digest], ids=["name", "digest"])
def test_an_older_server_gives_no_other_values(
    digest: str | None, older: str, tmp_path: Path
) -> None:
    """Never those of another seed: the error names the version that has seeds of models."""
    calls = calls_of(ic.Model(NAME, digest, seed=8), older, tmp_path)
    for name, call in calls.items():
        with pytest.raises(
            Exception, match=r"knows no seeds of models.*initserve 0\.3\.0"
        ) as caught:
            call()
        errors = [
            caught.value,
            caught.value.__cause__,
            *getattr(caught.value, "failures", {}).values(),
        ]
        assert any(isinstance(one, ic.IntegrityError) for one in errors), name
    assert list(tmp_path.glob("a*")) == []
    # Its own seed is no other one.
    assert are_of(PLAN, ic.fetch(ic.Model(NAME, seed=PLAN.seed), target=older))


def test_a_server_that_knows_seeds_is_not_called_older(address: str) -> None:
    with pytest.raises(ic.IntegrityError) as caught:
        ic.fetch(ic.Model(NAME, PLAN.digest, seed=8), target=address)
    assert "knows no seeds" not in str(caught.value)


def test_a_newer_server_is_found_beside_an_older_one(address: str, older: str) -> None:
    for _ in range(4):
        assert are_of(OTHER, ic.fetch(MODEL, target=[older, address]))


@pytest.mark.parametrize("fetch", ["fetch", "asyncio"])
def test_a_download_that_moves_to_an_older_server_ends_clearly(
    fetch: str, address: str, older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan came from a newer one; the older one would send the values of its own seed."""
    plan = ic.get_plan(MODEL, target=address)
    monkeypatch.setattr("initclient._models.lookup.call_get_model", lambda request, model: plan)
    with pytest.raises(ic.IntegrityError, match=f"expects {OTHER.digest}.*knows no seeds"):
        calls_of(MODEL, older, tmp_path)[fetch]()


def test_the_command(
    address: str, fixed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.safetensors")
    for plan in (f"model:{NAME}", f"model:{NAME}@{OTHER.digest}"):
        assert main(["fetch", plan, "--seed", "8", "--target", address, "--out", path]) == 0
        assert f"model {NAME} has the plan {OTHER.digest}" in capsys.readouterr().err
        assert main(["verify", path, plan, "--seed", "8", "--target", address]) == 0
        assert ic.verify(path, OTHER)
    for target, digest in itertools.product((fixed, address), (PLAN.digest, "")):
        plan = f"model:{NAME}@{digest}".removesuffix("@")
        status = main(["fetch", plan, "--seed", "8", "--target", target, "--out", path])
        error = capsys.readouterr().err
        if target == fixed:
            assert (status, "is fixed here" in error) == (1, True)
        elif digest:
            assert (status, f"with the seed 8 the plan {OTHER.digest}" in error) == (1, True)
