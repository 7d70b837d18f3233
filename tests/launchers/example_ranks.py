"""One rank of an example: runs it as it is written, then checks its model on all ranks together.

    torchrun --nproc-per-node 2 -m tests.launchers.example_ranks PROGRAM

Run by tests/launchers/test_trainers.py. A rank writes a file of JSON: the plans that the example
builds, hashes of the gathered weights and of one process's, the number of tensors that stayed as
they were, and, where one process can repeat the steps without the launcher, its losses.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import torch
import torch.distributed as dist
from initclient._plan import kept
from initclient.torch._model import members
from torch import nn

from tests import digests
from tests.launchers.gathering import gathered, made_by
from tests.torch.verified import one_bit


def small_net(names: Mapping[str, Any]) -> tuple[nn.Module, Callable[[nn.Module], torch.Tensor]]:
    """The model of Lightning's and Accelerate's examples, and the loss of a batch."""
    model = nn.Sequential(nn.Linear(64, 101), nn.ReLU(), nn.Linear(101, 10))
    return model, lambda model: model(torch.ones(4, 64)).square().mean()


def llama(names: Mapping[str, Any]) -> tuple[nn.Module, Callable[[nn.Module], torch.Tensor]]:
    """The base with adapters, and the loss of a batch."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(1)
    model = names["adapted"](LlamaForCausalLM(names["config"]))
    tokens = torch.arange(32)[None]
    return model, lambda model: model(input_ids=tokens, labels=tokens).loss


ALONE = {
    "accelerate_ddp": small_net,
    "accelerate_fsdp2": small_net,
    "lightning_fabric": small_net,
    "lightning_trainer": small_net,
    "peft_lora": llama,
}


def alone(names: Mapping[str, Any], build: Any) -> tuple[nn.Module, list[float]]:
    """One process without the launcher: its model before, and the losses of two steps."""
    model, loss_of = build(names)
    ict.init_(model, names["plan"], "local", agree=False)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    losses = []
    for _ in range(2):
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.load_state_dict(weights)
    return model, losses


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """A hash of names and values."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def share(model: nn.Module, plan: ic.Plan) -> int:
    """The bytes of the plan's values that this process holds, tied ones once."""
    return sum(
        piece.values.numel() * piece.values.element_size()
        for member in {id(one.tensor): one for one in members(model)}.values()
        if member.name in plan.tensors
        for piece in member.layout.pieces()
    )


def found_in(model: nn.Module, plan: ic.Plan) -> dict[str, Any]:
    """Fills the model again; its hash, that of one process, and how much this rank made.

    verify agrees, and finds one flipped bit on the last rank.
    """
    world = dist.get_world_size()
    # Training has changed the weights.
    made = made_by(lambda: ict.init_(model, plan, "local"))
    weights = gathered(model, plan)
    result = {
        "world": world,
        "hash": digest(weights),
        "one process": digest(ic.fetch(plan, target="local", framework="torch")),
        "sharded": sum(one.layout.local().shape != one.layout.shape for one in members(model)),
        "bytes": made / share(model, plan),
    }
    assert ict.verify(model, plan, "local").agreed == tuple(plan.tensors)
    if world > 1:
        one_bit(model, plan, "local", world - 1)
    return result


def main() -> None:
    path = Path(sys.argv[1])
    if path.stem in ("transformers_trainer", "accelerate_fsdp2"):
        import tests.launchers.accelerate_on_cpu  # noqa: F401
    names, built = digests.run(path)
    model, plan = names["model"], names["plan"]
    result = found_in(model, plan) | {"built": built}
    if build := ALONE.get(path.stem):
        whole, result["losses"] = alone(names, build)
        expected = whole.state_dict()
        base = {m.name: m for m in members(model) if m.name in kept(plan)}
        result["kept"] = len(base)
        for name, member in base.items():
            for piece in member.layout.pieces() if name in expected else ():
                place = tuple(slice(*bounds) for bounds in piece.bounds)
                same = torch.equal(piece.values, expected[name][place])
                # Training has not touched what is frozen, nor has init_.
                assert same or member.tensor.requires_grad, name
    Path(f"rank{dist.get_rank()}.json").write_text(json.dumps(result))
    dist.barrier()
    # A process that ends while gloo's threads are at work aborts now and then.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
