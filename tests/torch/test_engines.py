"""An engine's fused and sharded weights are verified against the tensors of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initserver import Server, ServerConfig
from torch import nn

from tests.torch.engines import NAME, RULES, Trainer, laid_out
from tests.torch.launching import run_ranks


@pytest.fixture(scope="module")
def plan() -> ic.Plan:
    return ict.plan(Trainer(), RULES, seed=7)


@pytest.fixture(scope="module")
def trainer(plan: ic.Plan) -> nn.Module:
    model = Trainer()
    ict.init_(model, plan)
    return model


@pytest.fixture(scope="module")
def server(plan: ic.Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has the plan as a model, too."""
    folder = tmp_path_factory.mktemp("models")
    (folder / NAME).mkdir(parents=True)
    ic.dump_plan(plan, folder / NAME / "plan.yaml")
    settings = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, models=str(folder))
    with Server(settings) as running:
        yield running.address


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_rank_of_an_engine_has_the_plans_tensors(
    trainer: nn.Module, plan: ic.Plan, size: int
) -> None:
    for rank in range(size):
        engine = laid_out(trainer, rank, size)
        report = ict.verify(engine, plan, "local", engine=ict.Engine(rank, size), local=True)
        assert report.agreed == tuple(plan)


@pytest.mark.parametrize(
    ("size", "parameter", "row", "expected"),
    [
        (1, "layers.0.self_attn.qkv_proj.weight", 17, r"k_proj\.weight: .* first at \[1, 3\]"),
        (2, "layers.0.self_attn.qkv_proj.weight", 9, r"k_proj\.weight: .* first at \[5, 3\]"),
        (2, "layers.0.self_attn.qkv_proj.bias", 15, r"v_proj\.bias: .* first at \[7\]"),
        (2, "layers.1.mlp.gate_up_proj.weight", 23, r"up_proj\.weight: .* first at \[23, 3\]"),
        (2, "layers.1.mlp.down_proj.weight", 2, r"down_proj\.weight: .* first at \[2, 15\]"),
        (2, "lm_head.weight", 4, r"lm_head\.weight: .* first at \[68, 3\]"),
        # Three ranks of two groups would not do; four have copies.
        (4, "layers.0.self_attn.qkv_proj.weight", 11, r"v_proj\.weight: .* first at \[7, 3\]"),
    ],
)
def test_a_flipped_bit_has_its_name_and_place_in_the_plan(
    trainer: nn.Module, plan: ic.Plan, size: int, parameter: str, row: int, expected: str
) -> None:
    engine = laid_out(trainer, size - 1, size)
    flat = engine[parameter][row]
    (flat if not flat.dim() else flat[3]).view(torch.int32).bitwise_xor_(1)
    layout = ict.Engine(size - 1, size)
    with pytest.raises(ic.VerificationError, match=expected) as caught:
        ict.verify(engine, plan, "local", engine=layout, local=True)
    assert len(caught.value.report.mismatches) == 1


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (ict.Engine(), r"qkv_proj\.weight.*is \[16, 16\] here.*on 1 ranks make \[32, 16\]"),
        (ict.Engine(0, 4), r"qkv_proj\.weight.*on 4 ranks make \[8, 16\]"),
        (ict.Engine(0, 3), r"o_proj\.weight.*is \[16, 8\] here.*neither the plan's \[16, 16\]"),
        (ict.Engine(0, 2, fused={"qkv_proj": ("q_proj", "kv_proj")}), "has no .*kv_proj"),
    ],
)
def test_another_layout_is_refused_by_name(
    trainer: nn.Module, plan: ic.Plan, layout: ict.Engine, message: str
) -> None:
    engine = laid_out(trainer, 0, 2)
    with pytest.raises(ic.PlanError, match=message):
        ict.verify(engine, plan, "local", engine=layout, local=True)


def test_weights_that_the_engine_has_packed_are_refused_by_name(
    trainer: nn.Module, plan: ic.Plan
) -> None:
    name = "layers.1.self_attn.qkv_proj.weight"
    engine = {**laid_out(trainer, 0, 1), name: torch.empty(0)}
    with pytest.raises(ic.PlanError, match=rf"{re.escape(name)}.*no elements here.*another form"):
        ict.verify(engine, plan, "local", engine=ict.Engine(), local=True)


def test_exchanged_and_wrong_ranks_differ(trainer: nn.Module, plan: ic.Plan) -> None:
    exchanged = {
        "qkv_proj": ("q_proj", "v_proj", "k_proj"),
        "gate_up_proj": ("gate_proj", "up_proj"),
    }
    for layout in (ict.Engine(0, 2, exchanged), ict.Engine(1, 2)):
        with pytest.raises(ic.VerificationError, match=r"k_proj\.weight"):
            ict.verify(laid_out(trainer, 0, 2), plan, "local", engine=layout, local=True)


def test_rows_of_padding_are_zero(trainer: nn.Module, plan: ic.Plan) -> None:
    engine = laid_out(trainer, 1, 2)
    engine["embed_tokens.weight"][-1, 0] = 1
    with pytest.raises(ic.VerificationError, match=r"embed_tokens\.weight.*rows past the 100"):
        ict.verify(engine, plan, "local", engine=ict.Engine(1, 2), local=True)


def test_a_model_says_itself_what_is_fused_and_names_may_have_another_beginning(
    trainer: nn.Module, plan: ic.Plan
) -> None:
    model = nn.ParameterDict()
    for name, value in laid_out(trainer, 0, 1).items():
        model["model/" + name.replace(".", "/")] = nn.Parameter(value)
    model.packed_modules_mapping = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }
    layout = ict.Engine(name=lambda name: name.removeprefix("model/").replace("/", "."))
    assert ict.verify(model, plan, "local", engine=layout).agreed == tuple(plan)


def test_a_trainer_and_an_engine_compare_fingerprints_of_trained_weights(
    tmp_path: Path, server: str
) -> None:
    for status, text in run_ranks("tests.torch.engines", 2, tmp_path / "r", SERVER=server):
        assert status == 0, text


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_server_knows_the_part_of_each_rank_of_an_engine(
    trainer: nn.Module, plan: ic.Plan, server: str, size: int
) -> None:
    for rank in range(size):
        engine, layout = laid_out(trainer, rank, size), ict.Engine(rank, size)
        report = ict.verify(engine, plan, server, engine=layout, local=True)
        assert report.agreed == tuple(plan)
        engine["layers.1.mlp.gate_up_proj.weight"][0, 0].view(torch.int32).bitwise_xor_(1)
        with pytest.raises(ic.VerificationError, match=r"gate_proj\.weight: has the fingerprint"):
            ict.verify(engine, plan, server, engine=layout, local=True)


def test_fingerprints_are_those_of_the_plan(trainer: nn.Module, plan: ic.Plan) -> None:
    planned = ic.describe(plan, target="local", fingerprints=True)
    found = ict.fingerprints(trainer, plan)
    assert {name: str(one) for name, one in found.items()} == {
        tensor.name: tensor.fingerprint for tensor in planned.tensors
    }
    with pytest.raises(ic.PlanError, match=r"lm_head\.weight.*is F64 here and F32"):
        ict.fingerprints(Trainer().double(), plan)
    half = laid_out(trainer, 0, 2)
    with pytest.raises(ic.InitserveError, match="no whole number of copies"):
        ict.fingerprints(half, plan, engine=ict.Engine(0, 2), local=True)


def test_ranks_are_below_their_number() -> None:
    with pytest.raises(ValueError, match="rank is 2 and size 2"):
        ict.Engine(2, 2)
