"""LSUV returns a plan under which every layer's output has variance one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient._plan.rescaling import scaled
from torch import nn

from tests import plans

DEPTH = 20


def deep(width: int = 48) -> nn.Sequential:
    """Twenty layers, convolutions and matrices."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for _ in range(7):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, width), nn.Tanh()]
    for _ in range(DEPTH - 10):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


RULES = [
    ict.rule((nn.Linear, nn.Conv2d), ic.orthogonal, parameter="weight"),
    ict.rule("*.bias", ic.zeros),
]


def batch() -> torch.Tensor:
    return torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 3 + 1


def variances(model: nn.Module, inputs: torch.Tensor) -> list[float]:
    found = []
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        layer.register_forward_hook(lambda m, i, out: found.append(float(out.var(correction=0))))
    with torch.no_grad():
        model(inputs)
    assert len(found) == len(layers)
    return found


def test_every_layer_of_twenty_has_variance_one_and_the_file_of_the_plan_says_it_all(
    tmp_path: Path,
) -> None:
    model = deep()
    start = ict.plan(model, rules=RULES, seed=3)
    plan = ict.lsuv(model, start, batch())
    measured = variances(model, batch())
    assert len(measured) == DEPTH
    assert all(abs(variance - 1) < 0.05 for variance in measured)
    # A start that needed no change would prove nothing.
    ict.init_(other := deep(), start, target="local")
    assert any(abs(variance - 1) > 0.5 for variance in variances(other, batch()))

    ic.dump_plan(plan, tmp_path / "plan.yaml")
    script = (
        "import sys, torch, initclient.torch as ict, initclient as ic\n"
        "from tests.torch.test_lsuv import deep\n"
        "model = deep()\n"
        "ict.init_(model, ic.load_plan(sys.argv[1]), target='local')\n"
        "torch.save(model.state_dict(), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "plan.yaml", tmp_path / "state.pt"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    again = torch.load(tmp_path / "state.pt")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_the_model_s_buffers_and_torch_s_random_state_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 8))
    plan = ict.plan(model, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ict.lsuv(model, plan, torch.randn(200, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_mean, torch.zeros(8))


def test_a_layer_that_does_not_vary_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Threshold(1e9, 0.0), nn.Linear(4, 4))
    plan = ict.plan(model, rules=[ict.rule("*.bias", ic.zeros)])
    with pytest.raises(ic.PlanError, match=r"tensor '2\.weight'.*variance 0\.0"):
        ict.lsuv(model, plan, torch.randn(10, 4))


def test_layers_that_do_not_run_and_fixed_weights_are_left_alone() -> None:
    model = nn.ModuleDict(
        {"used": nn.Linear(4, 4), "zero": nn.Linear(4, 4), "idle": nn.Linear(4, 4)}
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            used: torch.Tensor = self.layers["used"](x)
            zero: torch.Tensor = self.layers["zero"](used)
            return zero

    net = Net()
    plan = ict.plan(net, rules=[ict.rule("layers.zero.weight", ic.zeros)])
    scaled_plan = ict.lsuv(net, plan, {"x": torch.randn(100, 4)})
    changed = [name for name in plan if plan.tensors[name] != scaled_plan.tensors[name]]
    assert changed == ["layers.used.weight"]


@pytest.mark.parametrize("name", [n for n in plans.CASES if n.partition(".")[0] != "dirac"])
def test_a_scaled_tensor_has_its_values_times_the_factor(name: str) -> None:
    tensor = plans.CASES[name]
    larger = scaled(tensor, 1.75)
    assert larger is not None
    got = ic.fetch({"a": tensor, "b": _named(larger)}, seed=3, target="local")
    assert torch.allclose(torch.from_numpy(got["b"]), torch.from_numpy(got["a"]) * 1.75, rtol=1e-5)


def _named(tensor: ic.Tensor) -> ic.Tensor:
    from dataclasses import replace

    return replace(tensor, stream="a")


@pytest.mark.parametrize("name", ["concatenate", "stack.last", "reshape.nested"])
def test_a_composed_tensor_is_scaled_by_its_parts(name: str) -> None:
    larger = scaled(plans.COMPOSED_CASES[name], 0.5)
    assert larger is not None
    got = ic.fetch({"a": plans.COMPOSED_CASES[name], "b": larger}, seed=3, target="local")
    assert torch.allclose(torch.from_numpy(got["b"]), torch.from_numpy(got["a"]) * 0.5, rtol=1e-5)


@pytest.mark.parametrize("name", [*plans.DERIVED_CASES])
def test_what_is_computed_from_others_is_scaled_any_number_of_times(name: str) -> None:
    tensor = larger = plans.DERIVED_CASES[name]
    for _ in range(12):
        made = scaled(larger, 1.25)
        assert made is not None
        larger = made
    factor = 1.25**12
    got = ic.fetch({"a": tensor, "b": larger}, seed=3, target="local")
    assert torch.allclose(torch.from_numpy(got["b"]), torch.from_numpy(got["a"]) * factor, 1e-5)
    part = {"a": tuple(slice(0, size // 2) for size in tensor.shape)}
    cut = ic.Plan({"a": tensor}, 3).shard(part)["a"]
    once = scaled(cut, 1.25)
    assert once is not None
    got = ic.fetch({"a": cut, "b": once}, seed=3, target="local")
    assert torch.allclose(torch.from_numpy(got["b"]), torch.from_numpy(got["a"]) * 1.25, 1e-5)


def test_what_has_fixed_values_is_not_scaled() -> None:
    fixed = ic.pretrained((2, 2), "a.safetensors")
    assert scaled(ic.dirac((2, 2, 3)), 2.0) is None
    assert scaled(fixed, 2.0) is None
    assert scaled(ic.concatenate({"a": fixed, "b": ic.normal((2, 2))}), 2.0) is None


def test_tied_weights_stay_tied_and_streams_of_others_do_not_matter() -> None:
    tied = nn.Sequential(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24))
    tied[2].weight = tied[0].weight
    halves = {part: ic.normal((12, 24), std=3.0) for part in ("one", "two")}
    tensors = {f"{n}.weight": ic.concatenate(halves) for n in (0, 2)}
    tensors |= {f"{n}.bias": ic.zeros((24,)) for n in (0, 2)}
    inputs = torch.randn(256, 24, generator=torch.Generator().manual_seed(1))
    plan = ict.lsuv(tied, ic.Plan(tensors, 5), inputs)
    assert ict.verify(tied, plan).ok
    assert ict.init_(tied, plan).filled

    # Two parameters in one place of memory are tied, if not for torch.
    both = nn.Sequential(nn.Linear(24, 24, bias=False), nn.Tanh(), nn.Linear(24, 24, bias=False))
    both[2].weight = nn.Parameter(both[0].weight.data)
    one = {f"{n}.weight": ic.normal((24, 24), std=3.0, stream="one") for n in (0, 2)}
    assert ict.verify(both, ict.lsuv(both, ic.Plan(one, 5), inputs)).ok

    # One stream, and two parameters: what is measured is one of them.
    apart = nn.Sequential(nn.Linear(24, 24, bias=False), nn.Tanh(), nn.Linear(24, 24, bias=False))
    same = {f"{n}.weight": ic.normal((24, 24), std=3.0, stream="one") for n in (0, 2)}
    assert ict.verify(apart, ict.lsuv(apart, ic.Plan(same, 5), inputs)).ok


def test_slices_of_a_plan_do_not_matter() -> None:
    model = nn.Sequential(nn.Linear(24, 24, bias=False))
    plan = ic.Plan({"0.weight": ic.normal((24, 24), std=3.0)}, 5)
    inputs = torch.randn(256, 24, generator=torch.Generator().manual_seed(1))
    part = plan.shard({"0.weight": (slice(0, 12), slice(None))})
    assert ict.verify(model, ict.lsuv(model, part, inputs)).ok


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"tolerance": 0.0}, {"tolerance": -1.0}])
def test_what_can_never_end_well_is_refused(wrong: dict[str, float]) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ValueError, match=f"attempts is {wrong.get('attempts', 10)}"):
        ict.lsuv(model, ict.plan(model, seed=1), torch.ones(8, 4), **wrong)  # type: ignore[arg-type]
