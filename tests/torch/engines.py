"""A model as a trainer has it, and the same weights as vLLM lays them out over its ranks.

Run as one rank of two by tests/torch/test_engines.py.
"""

from __future__ import annotations

import os

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from tests.torch.launching import joined

RULES = [ict.rule("*norm.weight", ic.ones), ict.rule("*", ic.normal, std=0.02)]
NAME = "acme/small"
HIDDEN, HEAD, HEADS, GROUPS, INNER, WORDS = 16, 4, 4, 2, 24, 100


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD)
        self.k_proj = nn.Linear(HIDDEN, GROUPS * HEAD)
        self.v_proj = nn.Linear(HIDDEN, GROUPS * HEAD)
        self.o_proj = nn.Linear(HEADS * HEAD, HIDDEN, bias=False)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.up_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(), Mlp()
        self.norm = nn.RMSNorm(HIDDEN)


class Trainer(nn.Module):
    """Names and shapes of Llama in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(WORDS, HIDDEN)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.lm_head = nn.Linear(HIDDEN, WORDS, bias=False)


def laid_out(trainer: nn.Module, rank: int, size: int) -> dict[str, torch.Tensor]:
    """A rank's parameters as vLLM has them, copied from a trainer's weights.

    Rows of query, key and value of the rank's heads are one parameter, as are those of gate and up;
    output projections keep columns. With fewer groups than ranks, ranks have copies. The vocabulary
    is padded with zeros to 64 rows a rank.
    """
    whole = {name: value.detach() for name, value in trainer.named_parameters()}
    fused: dict[str, torch.Tensor] = {}

    def rows(name: str, parts: int = size) -> torch.Tensor:
        return whole[name].chunk(parts)[rank * parts // size]

    for name, value in whole.items():
        if ".q_proj." in name:
            own = [rows(name)]
            for other in ("k_proj", "v_proj"):
                own.append(rows(name.replace("q_proj", other), min(size, GROUPS)))
            fused[name.replace("q_proj", "qkv_proj")] = torch.cat(own)
        elif ".gate_proj." in name:
            own = [rows(name), rows(name.replace("gate_proj", "up_proj"))]
            fused[name.replace("gate_proj", "gate_up_proj")] = torch.cat(own)
        elif ".o_proj." in name or ".down_proj." in name:
            fused[name] = value.chunk(size, dim=1)[rank].clone()
        elif "embed" in name or "lm_head" in name:
            count = 64 * size * -(-WORDS // (64 * size))
            padded = torch.zeros(count, HIDDEN)
            padded[:WORDS] = value
            fused[name] = padded.chunk(size)[rank].clone()
        elif not any(part in name for part in ("k_proj", "v_proj", "up_proj")):
            fused[name] = value.clone()
    return fused


def with_a_server(trainer: nn.Module, plan: ic.Plan, rank: int, size: int) -> None:
    """A server's fingerprints, by the plan and by the model's name there, on all ranks together."""
    target, model = os.environ["SERVER"], ic.Model(NAME, plan.digest)
    engine, layout = laid_out(trainer, rank, size), ict.Engine(rank, size)
    for asked in (plan, model):
        assert ict.verify(engine, asked, target, engine=layout).agreed == tuple(plan)
    own = ict.fingerprints(engine, model, target, engine=layout)
    assert own == ict.fingerprints(engine, plan, engine=layout)
    described = ic.describe(model, target=target, fingerprints=True)
    assert {name: str(one) for name, one in own.items()} == {
        tensor.name: tensor.fingerprint for tensor in described.tensors
    }
    if rank == size - 1:
        # The last row of values of this rank.
        engine["layers.0.self_attn.qkv_proj.weight"][-1, 3].view(torch.int32).bitwise_xor_(1)
    with pytest.raises(ic.VerificationError) as caught:
        ict.verify(engine, plan, target, engine=layout)
    (mismatch,) = caught.value.report.mismatches
    assert mismatch.name == "layers.0.self_attn.v_proj.weight"
    rows = GROUPS * HEAD // size
    assert [(part.rank, part.bounds) for part in mismatch.parts] == [
        (size - 1, ((GROUPS * HEAD - rows, GROUPS * HEAD), (0, HIDDEN)))
    ]


def main() -> None:
    """A rank of a trainer under FSDP2, and of an engine, each in its own layout."""
    with joined() as (rank, size):
        trainer = Trainer()
        plan = ict.plan(trainer, RULES, seed=7)
        ict.init_(trainer, plan)
        with_a_server(trainer, plan, rank, size)
        with torch.no_grad():
            for parameter in trainer.parameters():
                # As after training: no values of the plan any more.
                parameter.mul_(1.5)
        engine, layout = laid_out(trainer, rank, size), ict.Engine(rank, size)
        fully_shard(trainer)
        theirs = ict.fingerprints(trainer, plan)
        assert list(theirs) == list(plan)
        assert ict.fingerprints(engine, plan, engine=layout) == theirs
        if rank == size - 1:
            # The last row of keys of this rank.
            row = (HEADS + GROUPS) * HEAD // size - 1
            engine["layers.1.self_attn.qkv_proj.weight"][row, 5] += 1
        ours = ict.fingerprints(engine, plan, engine=layout)
        wrong = [name for name in plan if ours[name] != theirs[name]]
        assert wrong == ["layers.1.self_attn.k_proj.weight"], wrong


if __name__ == "__main__":
    main()
