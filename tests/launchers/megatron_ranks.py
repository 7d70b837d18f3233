"""One rank of Megatron-Core on CPUs: a GPT in many layouts, filled from one plan.

Run by tests/launchers/test_megatron.py, once for each number of ranks. A rank prints a line of JSON
for each layout: the hash of the gathered weights, the losses of two steps, the bytes made.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import torch.distributed as dist
from initclient.torch._layouts import padding
from initclient.torch._model import members
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn

from tests.launchers.gathering import gathered, made_by
from tests.launchers.megatron_on_cpu import parallel_state as state
from tests.torch.launching import joined
from tests.torch.verified import one_bit

LENGTH, HIDDEN, LAYERS, EXPERTS = 16, 64, 4, 4
TOKENS = torch.arange(LENGTH)[None] * 7 % 125
MASK = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).triu(1)


@dataclass(frozen=True)
class Case:
    """A layout: sizes of Megatron's groups, and the model."""

    kind: str = "dense"
    tp: int = 1
    pp: int = 1
    vpp: int = 1
    ep: int = 1
    meta: bool = False
    on_cpu: bool = True
    half: bool = False

    @property
    def vocab(self) -> int:
        """The vocabulary; in the padded case no multiple of any tensor parallel size."""
        return 125 if self.kind == "padded" else 128


CASES = {
    1: [Case(kind) for kind in ("dense", "padded", "tied", "experts")],
    2: [
        Case(tp=2),
        Case(tp=2, on_cpu=False),
        Case(tp=2, meta=True),
        Case(pp=2),
        Case(pp=2, vpp=2),
        Case("padded", tp=2),
        Case("tied", tp=2),
        Case("tied", pp=2),
        Case("experts", ep=2),
        Case("experts", tp=2),
    ],
    4: [
        Case(tp=4),
        Case(tp=2, pp=2),
        Case("padded", tp=4),
        Case("padded", tp=2, pp=2),
        Case("experts", ep=2, pp=2),
        Case("experts", tp=2, ep=2),
    ],
}


def chunks_of(case: Case) -> list[Any]:
    """The model's chunks of this rank: one for each virtual stage."""
    experts: dict[str, Any] = {}
    if case.kind == "experts":
        experts = {
            "num_moe_experts": EXPERTS,
            "moe_ffn_hidden_size": 96,
            "moe_router_topk": 2,
            "moe_grouped_gemm": False,
            "expert_model_parallel_size": case.ep,
            "moe_token_dispatcher_type": "allgather",
        }
    virtual = case.vpp if case.vpp > 1 else None
    dtype = torch.bfloat16 if case.half else torch.float32
    config = TransformerConfig(
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        num_attention_heads=8,
        num_query_groups=4,
        ffn_hidden_size=2 * HIDDEN,
        use_cpu_initialization=case.on_cpu,
        perform_initialization=case.on_cpu,
        tensor_model_parallel_size=case.tp,
        pipeline_model_parallel_size=case.pp,
        virtual_pipeline_model_parallel_size=virtual,
        bf16=case.half,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        gated_linear_unit=True,
        activation_func=nn.functional.silu,
        add_bias_linear=False,
        add_qkv_bias=True,
        gradient_accumulation_fusion=False,
        **experts,
    )
    spec = get_gpt_layer_local_spec(num_experts=EXPERTS if experts else None)
    chunks = []
    with torch.device("meta" if case.meta else "cpu"):
        for stage in range(case.vpp):
            at = {"vp_stage": stage} if virtual else {}
            chunks.append(
                GPTModel(
                    config,
                    spec,
                    vocab_size=-(-case.vocab // case.tp) * case.tp,
                    max_sequence_length=2 * LENGTH,
                    pre_process=state.is_pipeline_first_stage(ignore_virtual=False, **at),
                    post_process=state.is_pipeline_last_stage(ignore_virtual=False, **at),
                    share_embeddings_and_output_weights=case.kind == "tied",
                    position_embedding_type="rope",
                    **at,
                )
            )
    return chunks


RULES = [
    ict.rule("*layernorm*.weight", ic.ones),
    ict.rule("*layernorm*.bias", ic.zeros),
    ict.rule("*.bias", ic.normal, std=0.1),
    ict.rule("*embeddings.weight", ic.normal, std=0.3),
    ict.rule("*router.weight", ic.normal, std=0.3),
    ict.rule("*", ic.xavier_normal),
]


def rules_of(case: Case) -> list[ict.Rule]:
    """Those that this kind of model has parameters for."""
    return [one for one in RULES if case.kind == "experts" or "router" not in str(one)]


def losses(case: Case, chunks: list[Any]) -> list[float]:
    """The losses of two steps of SGD, the same on every rank."""
    if case.kind == "experts" and case.tp > 1:
        # Their training wants sequence parallelism, which torch's norms do not have in Megatron.
        (model,) = chunks
        model.eval()
        with torch.no_grad():
            return [float(model(TOKENS, TOKENS, MASK, labels=TOKENS).mean())]
    # A weight that is used twice has a larger gradient.
    rate = 0.01 if case.kind == "tied" else 0.1
    optimizer = torch.optim.SGD([one for chunk in chunks for one in chunk.parameters()], lr=rate)
    found = []
    for _ in range(2):
        loss = step(case, chunks)
        together(case, chunks)
        optimizer.step()
        optimizer.zero_grad()
        every: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(every, loss)
        found.append(next(one for one in every if one is not None))
    return found


def step(case: Case, chunks: list[Any]) -> float | None:
    """Forward and backward through all stages, virtual ones too; the loss, on the last stage.

    Chunk v of rank r is stage v * pp + r, so that a batch goes around the ranks vpp times.
    """
    own, last = state.get_pipeline_model_parallel_rank(), case.pp * case.vpp - 1
    stages = [(chunk * case.pp + own, model) for chunk, model in enumerate(chunks)]
    passed = []
    for stage, model in stages:
        before = torch.empty(LENGTH, 1, HIDDEN, requires_grad=True)
        if stage:
            dist.recv(before.data, state.get_pipeline_model_parallel_prev_rank())
            model.set_input_tensor(before)
        out = model(TOKENS, TOKENS, MASK, labels=TOKENS if stage == last else None)
        if stage < last:
            dist.send(out.detach().contiguous(), state.get_pipeline_model_parallel_next_rank())
        passed.append((stage, before, out))
    loss = None
    for stage, before, out in reversed(passed):
        if stage == last:
            mean = out.mean()
            mean.backward()
            loss = float(mean.detach())
        else:
            gradient = torch.empty_like(out)
            dist.recv(gradient, state.get_pipeline_model_parallel_next_rank())
            out.backward(gradient)
        if stage:
            assert before.grad is not None
            dist.send(before.grad, state.get_pipeline_model_parallel_prev_rank())
    return loss


def together(case: Case, chunks: list[Any]) -> None:
    """What Megatron's own reduction of gradients does, for equal batches on all ranks."""
    for chunk in chunks:
        for parameter in chunk.parameters():
            if parameter.grad is not None and not getattr(parameter, "allreduce", True):
                parameter.grad /= case.ep
    if case.kind == "tied" and case.pp > 1:
        # The first and the last stage each have a copy of the shared weight.
        weight = chunks[0].shared_embedding_or_output_weight()
        dist.all_reduce(weight.grad, group=state.get_embedding_group())


def run(case: Case) -> dict[str, Any]:
    """Fills, gathers, verifies and trains one layout."""
    state.initialize_model_parallel(
        tensor_model_parallel_size=case.tp,
        pipeline_model_parallel_size=case.pp,
        virtual_pipeline_model_parallel_size=case.vpp if case.vpp > 1 else None,
        expert_model_parallel_size=case.ep,
        expert_tensor_parallel_size=case.tp if case.ep == 1 else 1,
    )
    torch.manual_seed(dist.get_rank())
    chunks = chunks_of(case)
    model = chunks[0] if case.vpp == 1 else nn.ModuleList(chunks)
    path = os.path.join(os.environ["PLANS"], f"{case.kind}.yaml")
    if dist.get_world_size() == 1:
        # Made once, in one process without parallelism.
        plan = ict.plan(model, rules_of(case), seed=7)
        ic.dump_plan(plan, path)
    plan = ic.load_plan(path)
    joined_is_the_same(case, model, plan)
    partial = case.pp > 1 or case.ep > 1
    made = made_by(lambda: ict.init_(model, plan, "local", device="cpu", partial=partial))
    share = sum(
        piece.values.numel() * piece.values.element_size()
        for member in members(model)
        if member.name in plan.tensors
        for piece in member.layout.pieces()
    )
    whole = gathered(model, plan)
    digest = hashlib.sha256()
    for name, values in whole.items():
        digest.update(name.encode() + values.numpy().tobytes())
    expected = ic.fetch(plan, target="local", framework="torch")
    same = all(torch.equal(whole[name], expected[name]) for name in plan.tensors)
    assert ict.verify(model, plan, "local").agreed == tuple(plan.tensors)
    if dist.get_world_size() > 1:
        one_bit(model, plan, "local", dist.get_world_size() - 1)
    padding_is_checked(model, plan)
    shapes = {name: list(tensor.shape) for name, tensor in plan.tensors.items()}
    padded = [
        float(member.tensor[-1].detach().abs().sum())
        for member in members(model)
        if member.layout.is_padded and member.layout.shape != plan.tensors[member.name].shape
        for piece in member.layout.pieces()
        if piece.bounds[0][1] == member.layout.shape[0]
    ]
    # Megatron does not promise one loss for several paddings: a row of padding is a logit.
    trained = case.kind != "padded"
    result = {
        **asdict(case),
        "tensors": len(shapes),
        "hash": digest.hexdigest(),
        "same": same and set(whole) == set(plan.tensors),
        "padding": padded,
        "bytes": made / share,
        "losses": losses(case, chunks) if trained else None,
    }
    state.destroy_model_parallel()
    return result


def joined_is_the_same(case: Case, model: nn.Module, plan: ic.Plan) -> None:
    """All ranks together make the plan, and the file, of one process without parallelism."""

    def embedding(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        # The true vocabulary, whatever padding this layout has.
        return ic.normal((case.vocab, *shape[1:]), std=0.3, dtype=dtype)

    def output(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        return ic.xavier_normal((case.vocab, *shape[1:]), dtype=dtype)

    rules = rules_of(case)
    if case.kind == "padded":
        rules = [r for r in rules if "embeddings" not in str(r)]
        rules = [ict.rule("*embeddings.weight", embedding), *rules]
        rules = [ict.rule("output_layer.weight", output), *rules]
    with warnings.catch_warnings():
        # Each rule has an effect on one of the ranks.
        warnings.simplefilter("error", ic.PlanWarning)
        joined = ict.plan(model, rules, seed=7, join=True)
    assert joined == plan, case
    assert joined.digest == plan.digest
    assert joined.to_yaml() == plan.to_yaml()


def padding_is_checked(model: nn.Module, plan: ic.Plan) -> None:
    """A number in a row of padding, on one rank, is found on all."""
    own = [
        (member, rows)
        for member in members(model)
        if member.name in plan.tensors
        for rows in padding(member.layout, plan.tensors[member.name].shape)
    ]
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, [member.name for member, _ in own])
    if not any(every):
        return
    for _, rows in own:
        rows.detach()[-1, -1] = 1.0
    with pytest.raises(
        ic.VerificationError, match="rows past the 125 of the plan, and they are no"
    ):
        ict.verify(model, plan, "local")
    for _, rows in own:
        rows.detach()[-1, -1] = 0.0


def main() -> None:
    with joined() as (_, world):
        for case in CASES[world]:
            print("RESULT", json.dumps(run(case)), flush=True)
        if world == 2:
            refused()


def refused() -> None:
    """A parameter that Megatron's checkpoints do not have is refused by name."""
    state.initialize_model_parallel(tensor_model_parallel_size=2)
    (model,) = chunks_of(Case(tp=2))
    plan = ict.plan(model, RULES)
    model.decoder.layers[0].mlp.linear_fc1.sharded_state_dict = lambda *a, **k: {}
    for act in (ict.plan, lambda model: ict.init_(model, plan, "local")):
        with pytest.raises(
            ic.PlanError, match=r"decoder\.layers\.0\.mlp\.linear_fc1\.weight.*does"
        ):
            act(model)
    print("REFUSED", flush=True)


if __name__ == "__main__":
    sys.exit(main())
