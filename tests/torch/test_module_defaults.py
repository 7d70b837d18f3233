"""A plan without rules draws as each module of torch draws itself."""

from __future__ import annotations

import copy
from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn

from tests.torch.draws import recorded, resolved, same_distribution

MODULES: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(96, 80),
    "Linear without bias": lambda: nn.Linear(96, 80, bias=False),
    "Linear without inputs": lambda: nn.Linear(0, 8),
    "Conv1d": lambda: nn.Conv1d(16, 48, 5),
    "Conv2d": lambda: nn.Conv2d(12, 64, 3),
    "Conv2d of groups": lambda: nn.Conv2d(16, 64, 3, groups=4),
    "Conv2d depthwise": lambda: nn.Conv2d(128, 128, 7, groups=128),
    "Conv3d": lambda: nn.Conv3d(4, 32, (2, 3, 5)),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(32, 24, 4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(32, 16, 3),
    "ConvTranspose2d of groups": lambda: nn.ConvTranspose2d(32, 16, 3, groups=4),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(16, 8, 3),
    "Bilinear": lambda: nn.Bilinear(20, 16, 24),
    "Embedding": lambda: nn.Embedding(200, 32),
    "EmbeddingBag": lambda: nn.EmbeddingBag(200, 32),
    "BatchNorm1d": lambda: nn.BatchNorm1d(16),
    "BatchNorm2d": lambda: nn.BatchNorm2d(16),
    "BatchNorm2d without statistics": lambda: nn.BatchNorm2d(16, track_running_stats=False),
    "BatchNorm3d": lambda: nn.BatchNorm3d(16, affine=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(16),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(16),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(16, affine=True, track_running_stats=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(16, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(4, 16),
    "LayerNorm": lambda: nn.LayerNorm((4, 16)),
    "LayerNorm without bias": lambda: nn.LayerNorm(16, bias=False),
    "RMSNorm": lambda: nn.RMSNorm(16),
    "PReLU": lambda: nn.PReLU(8, init=0.125),
    "MultiheadAttention": lambda: nn.MultiheadAttention(64, 4),
    "MultiheadAttention with added keys": lambda: nn.MultiheadAttention(128, 4, add_bias_kv=True),
    "MultiheadAttention of other sizes": lambda: nn.MultiheadAttention(64, 4, kdim=48, vdim=40),
    "MultiheadAttention without bias": lambda: nn.MultiheadAttention(64, 4, bias=False),
    "RNN": lambda: nn.RNN(24, 32, num_layers=2),
    "LSTM": lambda: nn.LSTM(24, 32, num_layers=2, bidirectional=True),
    "LSTM with projections": lambda: nn.LSTM(24, 32, proj_size=16),
    "GRU": lambda: nn.GRU(24, 32, bias=False),
    "RNNCell": lambda: nn.RNNCell(24, 48),
    "LSTMCell": lambda: nn.LSTMCell(24, 48),
    "GRUCell": lambda: nn.GRUCell(24, 48),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(48, 4, 64, batch_first=True),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(48, 4, 64, batch_first=True),
    "Transformer": lambda: nn.Transformer(48, 4, 1, 1, 64, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(64, 200, [50, 100]),
}

# Linear without inputs, in torch and here.
NO_OP = "ignore:.*Initializing zero-element tensors is a no-op"

pytestmark = [
    pytest.mark.filterwarnings(NO_OP),
    # torch's own Transformer, deep within, on the nested tensors that it uses.
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
]


@pytest.fixture(params=MODULES, ids=lambda name: name.replace(" ", "-"))
def build(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    torch.manual_seed(1)
    return MODULES[request.param]


def test_the_bounds_are_the_doubles_that_torch_passes(build: Callable[[], nn.Module]) -> None:
    module, theirs = recorded(build)
    ours = resolved(ict.plan(module))
    assert {name: ours[name] for name in set(ours) & set(theirs)} == {
        name: theirs[name] for name in set(ours) & set(theirs)
    }
    for name in set(theirs) - set(ours):
        # Drawn first and then set, as attention does with a bias; or without elements.
        assert _is_constant(module.get_parameter(name)), name
    if not isinstance(module, nn.Transformer):
        # Which copies layers, so that not every value comes from a draw of its own.
        assert set(ours) <= set(theirs)


def test_the_values_pass_for_torchs(build: Callable[[], nn.Module]) -> None:
    theirs = build()
    ours = copy.deepcopy(theirs)
    plan = ict.plan(ours, seed=3)
    assert list(plan.tensors) == list(theirs.state_dict())
    ict.init_(ours, plan)
    expected = theirs.state_dict()
    for name, values in ours.state_dict().items():
        assert same_distribution(values, expected[name]), name
        assert values.dtype == expected[name].dtype


def _is_constant(parameter: torch.Tensor) -> bool:
    return parameter.unique().numel() <= 1


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("rules", [[], [ict.rule("weight", ic.orthogonal)]])
def test_a_padding_row_is_zero_in_the_model_and_in_the_plans_file(
    kind: type[nn.Embedding], rules: list[ict.Rule]
) -> None:
    module = kind(50, 16, padding_idx=-3)
    plan = ict.plan(module, rules, seed=3)
    assert plan.tensors["weight"].zero_rows == (47,)
    ict.init_(module, plan)
    weights = ic.fetch(plan)["weight"]
    assert np.array_equal(module.weight.detach().numpy(), weights)
    assert not weights[47].any()
    for start, stop in ((0, 47), (47, 48), (40, 50)):
        part = plan.shard({"weight": (slice(start, stop), slice(3, 9))})
        assert np.array_equal(ic.fetch(part)["weight"], weights[start:stop, 3:9])

    drawn = ict.plan(module, rules, seed=3, zero_padding=False)
    ict.init_(module, drawn)
    assert module.weight[47].any()
    rest = np.arange(50) != 47
    assert np.array_equal(module.weight.detach().numpy()[rest], weights[rest])


def test_a_tied_weight_has_its_padding_row_whichever_name_comes_first() -> None:
    model = nn.Sequential(nn.Linear(4, 9, bias=False), nn.Embedding(9, 4, padding_idx=1))
    model[1].weight = model[0].weight
    plan = ict.plan(model)
    assert [tensor.zero_rows for tensor in plan.tensors.values()] == [(1,), (1,)]
    ict.init_(model, plan)
    assert not model[0].weight[1].any()


def test_a_class_with_a_reset_of_its_own_is_not_taken_for_torchs() -> None:
    class Scaled(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.normal_(self.weight, std=0.1)

    with pytest.raises(ic.PlanError, match=r"'weight': .*no rule covers this parameter of Scaled"):
        ict.plan(Scaled(4, 4, bias=False))


def test_parameters_beside_torchs_own_are_not_guessed() -> None:
    class Adapted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.lora_a = nn.Parameter(torch.zeros(2, 4))

    with pytest.raises(ic.PlanError) as caught:
        ict.plan(Adapted())
    assert [violation.tensor for violation in caught.value.violations] == ["lora_a"]
