"""A parameter that has not the shape that its layer of torch.nn says is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

PLAN = ict.plan(nn.Linear(4, 4), seed=7)

LAYERS: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.Linear(4, 6), "out_features=6, in_features=4"),
    (lambda: nn.Bilinear(4, 5, 6), "out_features=6, in1_features=4, in2_features=5"),
    (lambda: nn.Embedding(9, 4), "num_embeddings=9, embedding_dim=4"),
    (lambda: nn.EmbeddingBag(9, 4), "num_embeddings=9, embedding_dim=4"),
    (
        lambda: nn.Conv1d(4, 6, 3, groups=2),
        r"out_channels=6, in_channels=4, kernel_size=\(3,\), groups=2",
    ),
    (
        lambda: nn.Conv2d(4, 6, (3, 5)),
        r"out_channels=6, in_channels=4, kernel_size=\(3, 5\), groups=1",
    ),
    (lambda: nn.Conv3d(4, 6, 2, groups=2), "out_channels=6, in_channels=4, .*groups=2"),
    (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), "out_channels=6, in_channels=4, .*groups=2"),
    (lambda: nn.ConvTranspose2d(4, 6, 3), "out_channels=6, in_channels=4, .*groups=1"),
    (lambda: nn.ConvTranspose3d(4, 6, 2), "out_channels=6, in_channels=4, .*groups=1"),
    (lambda: nn.LayerNorm((3, 4)), r"normalized_shape=\(3, 4\)"),
    (lambda: nn.RMSNorm(4), r"normalized_shape=\(4,\)"),
    (lambda: nn.GroupNorm(2, 4), "num_channels=4"),
    (lambda: nn.BatchNorm1d(4), "num_features=4"),
    (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), "num_features=4"),
    (lambda: nn.SyncBatchNorm(4), "num_features=4"),
    (lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True), "embed_dim=4, kdim=4, vdim=4"),
    (lambda: nn.MultiheadAttention(4, 2, kdim=6, vdim=8), "embed_dim=4, kdim=6, vdim=8"),
    (
        lambda: nn.LSTM(4, 6, num_layers=2, bidirectional=True, proj_size=2),
        "mode=LSTM, input_size=4, hidden_size=6, num_layers=2, bidirectional=True, proj_size=2",
    ),
    (lambda: nn.GRU(4, 6, num_layers=2), "mode=GRU, input_size=4, hidden_size=6, num_layers=2"),
    (lambda: nn.RNN(4, 6), "mode=RNN_TANH, input_size=4, hidden_size=6"),
    (lambda: nn.LSTMCell(4, 6), "input_size=4, hidden_size=6"),
    (lambda: nn.GRUCell(4, 6), "input_size=4, hidden_size=6"),
    (lambda: nn.RNNCell(4, 6), "input_size=4, hidden_size=6"),
    (lambda: nn.PReLU(4), "num_parameters=4"),
]
NAMES = [type(make()).__name__ for make, _ in LAYERS]


@pytest.mark.parametrize(("make", "sizes"), LAYERS, ids=NAMES)
def test_every_axis_of_every_parameter_of_a_layer_counts(
    make: Callable[[], nn.Module], sizes: str
) -> None:
    whole = {**dict(make().named_parameters()), **dict(make().named_buffers())}
    checked = 0
    for name, tensor in whole.items():
        if not tensor.is_floating_point() or name.startswith("out_proj."):
            continue
        for axis, size in enumerate(tensor.shape):
            # As tensor parallelism cuts it, and as concatenation would leave it.
            for other in (max(1, size // 2), size + 1):
                if other == size:
                    continue
                module = make()
                shape = [*tensor.shape[:axis], other, *tensor.shape[axis + 1 :]]
                values = torch.empty(shape)
                is_parameter = name in module._parameters
                setattr(module, name, nn.Parameter(values) if is_parameter else values)
                here = f"is {shape} here, and {type(module).__name__} says {[*tensor.shape]} ("
                text = rf"tensor '{name}': shape: {re.escape(here)}.*{sizes}.*\): .*these attrib"
                with pytest.raises(ic.PlanError, match=text):
                    ict.plan(module)
                checked += 1
    assert checked >= len(whole) - 2


VERBS: list[Callable[[nn.Module], Any]] = [
    ict.plan,
    lambda model: ict.init_(model, PLAN, "local"),
    lambda model: ict.verify(model, PLAN, "local"),
    lambda model: ic.verify(model, PLAN, target="local"),
    lambda model: ict.lsuv(model, PLAN, torch.ones(5, 4)),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("shape", [(2, 4), (4, 2)])
def test_a_local_tensor_is_refused_wherever_a_model_is_taken(
    verb: Callable[[nn.Module], Any], shape: tuple[int, int]
) -> None:
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(shape))
    with pytest.raises(
        ic.PlanError,
        match=rf"'weight': shape: is \[{shape[0]}, {shape[1]}\] here, and Linear says \[4, 4\] "
        r"\(out_features=4, in_features=4\): .*before it is cut.*initserve_layout.*attributes",
    ) as caught:
        verb(model)
    assert len(caught.value.violations) == 1
    assert not model.weight.any()


def test_both_remedies_of_the_refusal_work() -> None:
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(2, 4))
    model.bias = nn.Parameter(torch.zeros(2))
    model.out_features = 2
    assert ict.plan(model) == ict.plan(nn.Linear(4, 2))
    model.out_features = 4
    for parameter in model.parameters():
        parameter.initserve_layout = FirstRows  # type: ignore[attr-defined]
    assert ict.plan(model, seed=7) == PLAN


class FirstRows(ict.Layout):
    """The first half of the rows of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        rows, *rest = self.slot.tensor.shape
        return (2 * rows, *rest)


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 2), "weight", amount=2)  # type: ignore[no-untyped-call, no-any-return]


class Transposed(nn.Linear):
    """As loralib's layers with fan_in_fan_out keep their weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.weight = nn.Parameter(self.weight.detach().T.contiguous())


class WithoutSizes(nn.Linear):
    """A layer of one's own, which is no torch layer but by its base."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(3, 5))
        self.bias = nn.Parameter(torch.zeros(3))


class OtherSizes(nn.Embedding):
    """Sizes in other units, after the layer is made, as people write them."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.embedding_dim = None  # type: ignore[assignment]


def tied() -> nn.Module:
    """A head without the rows that pad the embedding."""
    model = nn.ModuleDict({"wte": nn.Embedding(64, 4), "head": nn.Linear(4, 50, bias=False)})
    model["head"].weight = model["wte"].weight
    return model


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Transformer(4, 2, 1, 1, 8, batch_first=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: parametrizations.weight_norm(nn.Linear(4, 2)),
        lambda: parametrizations.orthogonal(nn.Linear(4, 2)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(4, 2, 3)),
        pruned,
        lambda: Transposed(2, 5),
        WithoutSizes,
        OtherSizes,
        tied,
        on_meta,
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [4, 9]),
        lambda: nn.RNNBase("RNN_RELU", 3, 4),
    ],
)
@pytest.mark.filterwarnings("ignore:no rule has the values of buffer")
def test_layers_that_have_other_shapes_by_right_are_taken(make: Callable[[], nn.Module]) -> None:
    model = make()
    plan = ict.plan(model, [ict.rule("*", ic.zeros)])
    for name, parameter in model.named_parameters():
        assert plan[name].shape == tuple(parameter.shape)


def test_a_part_in_a_layer_of_ones_own_is_refused() -> None:
    model = Transposed(2, 5)
    model.weight = nn.Parameter(torch.zeros(5, 1))
    with pytest.raises(ic.PlanError, match=r"is \[5, 1\] here, and Transposed says \[5, 2\]"):
        ict.plan(model, [ict.rule("*", ic.zeros)])


def test_packed_weights_are_left_to_those_who_keep_them() -> None:
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    plan = ict.plan(model, [ict.rule("weight", ict.keep)])
    assert [*plan.tensors] == ["bias"]


def test_tied_parts_of_which_no_layer_has_the_shape_are_refused() -> None:
    model = tied()
    model["wte"].weight = model["head"].weight = nn.Parameter(torch.zeros(32, 4))
    with pytest.raises(ic.PlanError) as caught:
        ict.plan(model)
    assert [one.tensor for one in caught.value.violations] == ["wte.weight", "head.weight"]
