"""Whole models of transformers, from their configs: rules repeat what each one draws itself.

Nothing is downloaded. Each model is built twice, on the CPU, where it initializes itself,
and on the meta device, where the plan fills it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import transformers
from torch import nn

from tests.torch.draws import same_distribution

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
TOKENS = {"vocab_size": 200, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> nn.Module:
    sizes = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **TOKENS))


def llama() -> nn.Module:
    config = transformers.LlamaConfig(num_key_value_heads=2, **SIZES, **TOKENS)
    return transformers.LlamaForCausalLM(config)


def mixtral() -> nn.Module:
    experts = {"num_local_experts": 4, "num_key_value_heads": 2}
    config = transformers.MixtralConfig(**experts, **SIZES, **TOKENS)
    return transformers.MixtralForCausalLM(config)


def bert() -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, **TOKENS))


def vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=32, patch_size=8, **SIZES)
    return transformers.ViTForImageClassification(config)


def resnet() -> nn.Module:
    sizes = {"embedding_size": 16, "hidden_sizes": [32, 48], "depths": [1, 1]}
    config = transformers.ResNetConfig(layer_type="basic", **sizes)
    return transformers.ResNetForImageClassification(config)


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[1, 1])
    return transformers.ConvNextForImageClassification(config)


def whisper() -> nn.Module:
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 96))
    }
    positions = {"max_source_positions": 20, "max_target_positions": 20}
    config = transformers.WhisperConfig(
        d_model=64, num_mel_bins=16, decoder_start_token_id=1, **sides, **positions, **TOKENS
    )
    return transformers.WhisperForConditionalGeneration(config)


NORMS = ict.rule("*norm*.weight", ic.ones)
BIASES = ict.rule("*.bias", ic.zeros)
NORMAL = ict.rule("*", ic.normal, std=0.02)

MODELS: dict[Callable[[], nn.Module], list[ict.Rule]] = {
    gpt2: [
        BIASES,
        ict.rule(nn.LayerNorm, ic.ones),
        ict.rule("*.c_proj.weight", ic.normal, std=0.02 / math.sqrt(2 * 2)),
        NORMAL,
    ],
    llama: [NORMS, NORMAL],
    mixtral: [NORMS, NORMAL],
    bert: [BIASES, ict.rule("*.LayerNorm.weight", ic.ones), NORMAL],
    vit: [
        BIASES,
        NORMS,
        ict.rule("*.position_embeddings", ic.trunc_normal, std=0.02),
        ict.rule("*.cls_token", ic.trunc_normal, std=0.02),
        NORMAL,
    ],
    resnet: [
        ict.rule(nn.Conv2d, ic.kaiming_normal, mode="fan_out", nonlinearity="relu"),
        # Its classifier has torch's default.
        ict.rule("classifier.1.weight", ic.kaiming_uniform, a=math.sqrt(5)),
        ict.rule("classifier.1.bias", ic.uniform, a=-1 / math.sqrt(48), b=1 / math.sqrt(48)),
    ],
    convnext: [
        BIASES,
        NORMS,
        ict.rule("*.downsampling_layer.0.weight", ic.ones),  # a norm by another name
        ict.rule("*.layer_scale_parameter", ic.constant, val=1e-6),
        NORMAL,
    ],
    whisper: [
        BIASES,
        NORMS,
        ict.rule("model.encoder.embed_positions.weight", ict.given),
        NORMAL,
    ],
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_a_model_on_meta_gets_what_it_would_draw_itself(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    theirs = build()
    with torch.device("meta"):
        ours = build()
    plan = ict.plan(ours, MODELS[build], seed=3)
    assert plan == ict.plan(theirs, MODELS[build], seed=3)
    expected = theirs.state_dict()
    missing = {name: expected[name] for name in expected if name not in plan.tensors}
    assert set(missing) <= {"model.encoder.embed_positions.weight"}

    ict.init_(ours, plan, values=missing)
    assert list(ours.state_dict()) == list(expected)
    for name, values in ours.state_dict().items():
        assert same_distribution(values, expected[name]), name
    for (name, values), (_, wanted) in zip(
        ours.named_buffers(), theirs.named_buffers(), strict=True
    ):
        assert torch.equal(values, wanted), name
    for module in ours.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            assert not module.weight[module.padding_idx].any()


def test_what_default_rules_cannot_know_is_said() -> None:
    with pytest.raises(ic.PlanError, match=r"no rule covers this parameter of LlamaRMSNorm"):
        ict.plan(llama())
    text = r"LlamaForCausalLM \(_init_weights\) initializes its weights itself"
    with pytest.raises(ic.PlanError, match=text):
        ict.plan(llama(), [NORMS])
