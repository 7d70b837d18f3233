"""One Llama in every arrangement of its weights: fused or split, grouped or separate, torch or
Flax.

The models are those of transformers: Llama has separate projections, Phi-3 is a Llama with
fused ones, Mixtral has its experts in one tensor.
"""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, Phi3Config

from tests import plans

HIDDEN, HEADS, KV_HEADS, FFN, LAYERS, EXPERTS = 32, 4, 2, 48, 2, 3
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rms_norm_eps": 1e-6,
}
# Xavier, so that a fan taken from the fused tensor would show.
RULES = [
    ict.rule(nn.Linear, ic.xavier_normal),
    ict.rule("*.embed_tokens.weight", ic.normal, std=0.02),
]


def build(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def llama_plan(seed: int = 7) -> ic.Plan:
    model = build(LlamaConfig(**SIZES))
    norms = ict.rule("*norm.weight", ic.ones)
    return ict.plan(model, rules=[norms, *RULES], seed=seed)


def fused(plan: ic.Plan) -> ic.Plan:
    """The same weights under Phi-3's names."""
    tensors = dict(plan.tensors)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        for whole, names in (
            (f"{layer}.self_attn.qkv_proj.weight", "q_proj k_proj v_proj"),
            (f"{layer}.mlp.gate_up_proj.weight", "gate_proj up_proj"),
        ):
            place = whole.rpartition(".")[0].rpartition(".")[0]
            parts = [f"{place}.{name}.weight" for name in names.split()]
            tensors[whole] = ic.concatenate({part: tensors.pop(part) for part in parts})
    return ic.Plan(tensors, plan.seed)


def as_flax(plan: ic.Plan) -> ic.Plan:
    """The same weights as Flax has them: kernels [in, out], queries by head."""
    tensors = {}
    for name, tensor in plan.tensors.items():
        path = name.removesuffix(".weight").replace(".", "/")
        if path.endswith("embed_tokens"):
            tensors[f"{path}/embedding"] = ic.permute({name: tensor}, (0, 1))
        elif len(tensor.shape) == 1:
            tensors[f"{path}/scale"] = ic.reshape(tensor.shape, {name: tensor})
        else:
            kernel = ic.permute({name: tensor}, (1, 0))
            if path.endswith("q_proj"):
                heads = (HIDDEN, HEADS, HIDDEN // HEADS)
                kernel = ic.reshape(heads, [(f"{path}/flat", kernel)])
            tensors[f"{path}/kernel"] = kernel
    return ic.Plan(tensors, plan.seed)


def test_a_fused_model_starts_as_the_split_one() -> None:
    split, joined = build(LlamaConfig(**SIZES)), build(Phi3Config(**SIZES))
    ict.init_(split, llama_plan(), target="local", device="cpu")
    ict.init_(joined, fused(llama_plan()), target="local", device="cpu")
    for i in range(LAYERS):
        a, b = split.model.layers[i], joined.model.layers[i]
        projections = (a.self_attn.q_proj, a.self_attn.k_proj, a.self_attn.v_proj)
        want = torch.cat([projection.weight for projection in projections])
        assert torch.equal(b.self_attn.qkv_proj.weight, want)
        want = torch.cat([a.mlp.gate_proj.weight, a.mlp.up_proj.weight])
        assert torch.equal(b.mlp.gate_up_proj.weight, want)
        assert torch.equal(b.mlp.down_proj.weight, a.mlp.down_proj.weight)
    assert torch.equal(split.lm_head.weight, joined.lm_head.weight)
    # And so they are the same function.
    tokens = torch.arange(20).reshape(2, 10) + 3
    with torch.no_grad():
        assert torch.allclose(split(tokens).logits, joined(tokens).logits, atol=1e-5)


def test_grouped_experts_start_as_separate_ones() -> None:
    model = build(MixtralConfig(**SIZES, num_local_experts=EXPERTS))
    place = "model.layers.{}.mlp.experts"
    separate = {}
    for i in range(LAYERS):
        for e in range(EXPERTS):
            for name, shape in (
                ("gate", (FFN, HIDDEN)),
                ("up", (FFN, HIDDEN)),
                ("down", (HIDDEN, FFN)),
            ):
                separate[f"{place.format(i)}.{e}.{name}_proj.weight"] = ic.xavier_normal(shape)

    def expert(i: int, e: int) -> tuple[str, ic.Tensor]:
        names = [f"{place.format(i)}.{e}.{name}_proj.weight" for name in ("gate", "up")]
        return f"{place.format(i)}.{e}.gate_up", ic.concatenate({n: separate[n] for n in names})

    grouped = {}
    for i in range(LAYERS):
        experts = f"{place.format(i)}"
        grouped[f"{experts}.gate_up_proj"] = ic.stack([expert(i, e) for e in range(EXPERTS)])
        down = [f"{experts}.{e}.down_proj.weight" for e in range(EXPERTS)]
        grouped[f"{experts}.down_proj"] = ic.stack({name: separate[name] for name in down})
    rest = ict.plan(
        model,
        rules=[
            ict.rule("*.experts.*", ic.zeros),
            ict.rule("*norm.weight", ic.ones),
            ict.rule("*.mlp.gate.weight", ic.normal, std=0.02),
            *RULES,
        ],
        seed=7,
    )
    ict.init_(model, ic.Plan({**rest.tensors, **grouped}, 7), target="local", device="cpu")
    want = ic.fetch(separate, seed=7, target="local")
    for i in range(LAYERS):
        experts = model.model.layers[i].mlp.experts
        for e in range(EXPERTS):
            gate, up, down = (
                want[f"{place.format(i)}.{e}.{n}_proj.weight"] for n in ("gate", "up", "down")
            )
            assert np.array_equal(experts.gate_up_proj[e].detach(), np.concatenate([gate, up]))
            assert np.array_equal(experts.down_proj[e].detach(), down)


def test_flax_starts_as_torch() -> None:
    torch_values = ic.fetch(llama_plan(), target="local")
    flax_values = ic.fetch(as_flax(llama_plan()), target="local")
    for name, value in torch_values.items():
        path = name.removesuffix(".weight").replace(".", "/")
        if value.ndim == 1:
            assert np.array_equal(flax_values[f"{path}/scale"], value)
        elif path.endswith("embed_tokens"):
            assert np.array_equal(flax_values[f"{path}/embedding"], value)
        else:
            kernel = flax_values[f"{path}/kernel"]
            assert np.array_equal(
                kernel.reshape(HIDDEN if value.shape[1] == HIDDEN else FFN, -1), value.T
            )


def test_jax_arrays_of_flax_s_layout_come_from_the_same_plan() -> None:
    import initclient.jax as icj
    import jax

    plan = as_flax(llama_plan())
    tree = {name: jax.ShapeDtypeStruct(t.shape, "float32") for name, t in plan.tensors.items()}
    got = icj.init(tree, plan, target="local")
    for name, value in ic.fetch(plan, target="local").items():
        assert np.array_equal(np.asarray(got[name]), value), name


WHOLE = {
    kind: (plan, ic.fetch(plan, target="local"))
    for kind, plan in (("fused", fused(llama_plan())), ("flax", as_flax(llama_plan())))
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shard_of_a_rearranged_weight_is_that_part_of_it(
    kind: str, data: st.DataObject
) -> None:
    plan, whole = WHOLE[kind]
    composed = [name for name in plan if plan.tensors[name].parts]
    name = data.draw(st.sampled_from(composed))
    cut = data.draw(plans.cuts(plan.tensors[name].shape))
    part = ic.fetch(plan.select([name]).shard({name: cut}), target="local")[name]
    assert np.array_equal(part, whole[name][cut])
