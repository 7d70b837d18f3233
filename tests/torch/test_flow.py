"""flow: how signals and gradients spread through a model, compared with theory."""

from __future__ import annotations

import copy
import doctest
import hashlib
import math
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient.cli import main
from initclient.torch import _flow
from torch import nn

WIDTH, DEPTH = 256, 10


class Net(nn.Module):
    """Linear layers with a ReLU that works in place, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH))
        self.layers = nn.ModuleList(layers)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(self.act(x))
        return x


def batch(rows: int = 256) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))


def plans(model: nn.Module) -> dict[str, ic.Plan]:
    def plan(gain: float) -> ic.Plan:
        rule = ict.rule("*", ic.normal, std=gain / math.sqrt(WIDTH))
        return ict.plan(model, [rule], seed=1)

    return {"he": plan(math.sqrt(2.0)), "half": plan(math.sqrt(2.0) / 2)}


def test_signals_travel_as_the_theory_of_he_says() -> None:
    # He et al. 2015: with ReLU, std sqrt(2 / n) keeps both variances, and half of it halves
    # the standard deviation in each layer.
    model = Net()
    found = ict.flow(model, plans(model), batch())
    assert list(found) == ["he", "half"]
    for label, factor in (("he", 1.0), ("half", 0.5)):
        layers = found[label].layers
        assert [layer.name for layer in layers] == [f"layers.{i}" for i in range(DEPTH)]
        assert {layer.kind for layer in layers} == {"Linear"}
        for i, layer in enumerate(layers):
            assert layer.std == pytest.approx(factor ** (i + 1), rel=0.25)
            assert layer.grad_std == pytest.approx(factor ** (DEPTH - 1 - i), rel=0.25)
            assert abs(layer.mean) < 0.3 * layer.std


def test_numbers_are_those_of_the_tensors_themselves() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    plan = ict.plan(model, seed=4)
    x = torch.randn(7, 6)
    (found,) = ict.flow(model, plan, x, loss=lambda y: (y**2).sum()).values()
    ict.init_(model, plan)
    first = model[0](x)
    first.retain_grad()
    last = model[2](torch.tanh(first))
    last.retain_grad()
    (last**2).sum().backward()
    for layer, output in zip(found.layers, (first, last), strict=True):
        assert output.grad is not None
        assert layer.mean == pytest.approx(float(output.detach().mean()), rel=1e-5, abs=1e-7)
        assert layer.std == pytest.approx(float(output.detach().std(correction=0)), rel=1e-5)
        assert layer.grad_mean == pytest.approx(float(output.grad.mean()), rel=1e-5, abs=1e-7)
        assert layer.grad_std == pytest.approx(float(output.grad.std(correction=0)), rel=1e-5)


def test_the_model_and_the_random_state_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    first, second = (ict.flow(model, ict.plan(model, seed=1), torch.ones(4, 8)) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_on_the_meta_device_gives_the_same_and_stays_there() -> None:
    with torch.device("meta"):
        model = Net()
    here = Net()
    assert ict.flow(model, plans(model), batch(32)) == ict.flow(here, plans(here), batch(32))
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:recipe gpt2 repeats what:FutureWarning")
def test_a_whole_transformer_in_several_recipes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=32, n_layer=3, n_head=2, use_cache=False
    )
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.arange(32).reshape(2, 16)
    recipes = {"gpt2": ict.plan(model, recipe="gpt2", seed=1)}
    recipes["large"] = ict.plan(model, recipe="gpt2", recipe_arguments={"std": 0.2}, seed=1)
    found = ict.flow(model, recipes, {"input_ids": ids, "labels": ids})
    blocks = {
        name: [x for x in flow.layers if x.kind == "GPT2Block"] for name, flow in found.items()
    }
    assert [layer.name for layer in blocks["gpt2"]] == [f"transformer.h.{i}" for i in range(3)]
    for small, large in zip(blocks["gpt2"], blocks["large"], strict=True):
        assert 5 * small.std < large.std
        assert small.grad_std > 0.0
    page = ic.plot(recipes["gpt2"], tmp_path / "report.html", flows=found).read_text()
    assert "transformer.h.2" in page
    assert "large: gradient std" in page


def test_layers_are_chosen_by_name_and_calls_are_counted() -> None:
    model = Net()
    (found,) = ict.flow(model, plans(model)["he"], batch(16), layers=["act", "layers.3"]).values()
    names = [layer.name for layer in found.layers]
    assert names[:3] == ["act", "act (2)", "act (3)"]
    assert len(names) == DEPTH + 1
    assert "layers.3" in str(found)
    with pytest.raises(ValueError, match="layers='nothing'"):
        ict.flow(model, plans(model)["he"], batch(16), layers="nothing")


def test_what_cannot_be_measured_is_refused() -> None:
    model = nn.Linear(4, 2)
    plan = ict.plan(model)
    with pytest.raises(ValueError, match="a tensor of one element"):
        ict.flow(model, plan, torch.ones(3, 4), loss=lambda y: y)
    with pytest.raises(ValueError, match="give loss="):
        ict.flow(Silent(), {"a": ict.plan(Silent())}, torch.ones(3, 4))
    with pytest.raises(ic.PlanError, match="shape"):
        ict.flow(model, ict.plan(nn.Linear(4, 3)), torch.ones(3, 4))


class Silent(nn.Linear):
    """Returns an output without gradients."""

    def __init__(self) -> None:
        super().__init__(4, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).argmax(-1)


def test_the_command_shows_recipes_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_a_test.py").write_text(
        "import torch\n"
        "def make(): return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))\n"
        "def batch(): return torch.ones(4, 8)\n"
    )
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    ic.dump_plan(ict.plan(model, seed=3), "plan.yaml")
    made = ["--model", "nets_of_a_test:make", "--batch", "nets_of_a_test:batch"]
    assert main(["plot", "plan.yaml", "-o", "r.html", *made, "--recipe", "he"]) == 0
    page = Path("r.html").read_text()
    assert "plan: gradient std" in page
    assert "he: gradient std" in page
    for wrong in ("nets_of_a_test", "nets_of_a_test:none", "no_such_module:x"):
        arguments = ["plot", "plan.yaml", "-o", "x.html", *made[:2], "--batch", wrong]
        assert main(arguments) == 2
        assert "--batch" in capsys.readouterr().err
    assert not Path("x.html").exists()


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(_flow).failed == 0


def test_values_of_checkpoints_flow_too(tmp_path: Path) -> None:
    ic.fetch_file({"w": ic.normal((8, 8), std=3.0)}, tmp_path / "a.safetensors", target="local")
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    sha256 = hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    plan = ic.Plan({"0.weight": ic.pretrained((8, 8), "a.safetensors", "w", sha256=sha256)})
    found = ict.flow(model, plan, torch.ones(4, 8), target="local", checkpoints=tmp_path)
    weight = ic.fetch(plan, target="local", checkpoints=tmp_path)["0.weight"]
    expected = torch.from_numpy(weight).sum(dim=1).repeat(4, 1)
    (layer,) = found["plan"].layers
    assert layer.std == pytest.approx(float(expected.std(correction=0)), rel=1e-5)
