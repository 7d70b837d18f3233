"""Names do not depend on wrappers, so a model has the same weights in each of them."""

from __future__ import annotations

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.pipelining import SplitPoint, pipeline


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(3, 4)  # a name that wrappers use too
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))


def compiled(model: Net) -> nn.Module:
    # No default backend, which warns about itself on import; nothing runs here.
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def checkpointed(model: Net) -> nn.Module:
    model.blocks[1] = checkpoint_wrapper(model.blocks[1])
    return model


def both(model: Net) -> nn.Module:
    return nn.DataParallel(compiled(checkpointed(model)))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [compiled, checkpointed, nn.DataParallel, both])
def test_a_wrapped_model_has_the_same_plan_and_weights(wrap: object) -> None:
    plain, inner = Net(), Net()
    wrapped = wrap(inner)  # type: ignore[operator]
    plan = ict.plan(plain, seed=5)
    assert list(plan.tensors) == list(plain.state_dict())
    assert ict.plan(wrapped, seed=5) == plan
    ict.init_(plain, plan)
    ict.init_(wrapped, plan)
    for ours, theirs in zip(inner.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_two_tensors_of_one_name_are_refused() -> None:
    model = nn.DataParallel(nn.Linear(2, 2))
    model.register_parameter("weight", nn.Parameter(torch.zeros(2)))
    with pytest.raises(ic.PlanError, match="'weight': name: two tensors of the model have this"):
        ict.plan(model)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.register_buffer("scale", torch.arange(8.0), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x) * self.scale
        return x


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_pipeline_stages_take_their_parts_of_the_full_models_plan() -> None:
    model, tokens = Deep(), torch.arange(11)
    plan = ict.plan(model, seed=5)
    pipe = pipeline(Deep(), mb_args=(tokens,), split_spec={"layers.2": SplitPoint.BEGINNING})
    ict.init_(model, plan)
    filled = [
        ict.init_(pipe.get_stage_module(stage), plan, partial=True).filled for stage in range(2)
    ]
    assert sorted(filled[0] + filled[1]) == sorted(plan.tensors)
    halfway = pipe.get_stage_module(0)(tokens)
    assert torch.equal(pipe.get_stage_module(1)(halfway), model(tokens))
