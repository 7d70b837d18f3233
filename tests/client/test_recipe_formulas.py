"""Plans by names and shapes alone, against the formulas of sources that do not run here.

Each source was read at the commit that the recipe's page names; the numbers below are its
formulas, written again. x ** 0.5 stands as math.sqrt(x), which rounds correctly everywhere.
"""

from __future__ import annotations

import math

import initclient as ic
import pytest
from initclient import recipes
from initclient._inspect.descriptions import TensorDescription

Names = dict[str, tuple[int, ...]]


def described(names: Names, recipe: str, **arguments: object) -> dict[str, TensorDescription]:
    listed = [(name, shape, "BF16") for name, shape in names.items()]
    plan = recipes.plan(listed, recipe, seed=7, recipe_arguments=arguments)
    assert list(plan) == list(names)
    return {tensor.name: tensor for tensor in ic.describe(plan, target="local").tensors}


TITAN = {
    "attention_norm.weight": (64,),
    "attention.qkv_linear.wq.weight": (64, 64),
    "attention.qkv_linear.wk.weight": (32, 64),
    "attention.qkv_linear.wv.weight": (32, 64),
    "attention.wo.weight": (64, 64),
    "attention.wo.bias": (64,),
    "ffn_norm.weight": (64,),
    "feed_forward.w1.weight": (96, 64),
    "feed_forward.w2.weight": (64, 96),
    "feed_forward.w3.weight": (96, 64),
}
HUGGING_FACE = {  # torchtitan/models/llama3/state_dict_adapter.py, from_hf_map
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "input_layernorm.weight": "attention_norm.weight",
    "self_attn.q_proj.weight": "attention.qkv_linear.wq.weight",
    "self_attn.k_proj.weight": "attention.qkv_linear.wk.weight",
    "self_attn.v_proj.weight": "attention.qkv_linear.wv.weight",
    "self_attn.o_proj.weight": "attention.wo.weight",
    "self_attn.o_proj.bias": "attention.wo.bias",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "feed_forward.w1.weight",
    "mlp.down_proj.weight": "feed_forward.w2.weight",
    "mlp.up_proj.weight": "feed_forward.w3.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "lm_head.weight",
}


def in_layers(count: int, prefix: str, layer: Names) -> Names:
    return {
        f"{prefix}{index}.{name}": shape for index in range(count) for name, shape in layer.items()
    }


@pytest.mark.parametrize("depth_init", [True, False])
@pytest.mark.parametrize("naming", ["torchtitan", "transformers"])
def test_llama_is_torchtitans(depth_init: bool, naming: str) -> None:
    outer = {"tok_embeddings.weight": (200, 64), "norm.weight": (64,), "lm_head.weight": (200, 64)}
    layer, prefix = TITAN, "layers."
    if naming == "transformers":
        shapes = {**TITAN, **outer}
        named = {theirs: shapes[name] for theirs, name in HUGGING_FACE.items()}
        outer = {name: named.pop(name) for name in list(named) if "model" in name or "lm_" in name}
        layer, prefix = named, "model.layers."
    layers = 5
    arguments = {} if depth_init else {"depth": layers}
    found = described({**outer, **in_layers(layers, prefix, layer)}, "llama", **arguments)
    for name, tensor in found.items():
        ours = name.split(".", 2 if prefix == "layers." else 3)[-1] if prefix in name else name
        title = HUGGING_FACE.get(ours, ours)
        if "norm" in title or "bias" in title:
            assert tensor.low == tensor.high == (1.0 if "norm" in title else 0.0)
        elif title == "tok_embeddings.weight":
            assert (tensor.std, tensor.low) == (1.0, None)
        elif title == "lm_head.weight":
            std = 1 / math.sqrt(64)
            assert (tensor.std, tensor.low, tensor.high) == (std, -3 * std, 3 * std)
        else:
            layer_id = int(name.removeprefix(prefix).split(".")[0])
            depth = layer_id + 1 if depth_init else layers
            scaled = title.split(".")[-2] in ("wo", "w2", "w3")
            expected = 0.02 / math.sqrt(2 * depth) if scaled else 0.02
            assert tensor.scheme == "trunc_normal"
            assert (tensor.std, tensor.low, tensor.high) == (expected, -2.0, 2.0), name


def test_vit_is_timms() -> None:
    layer = {
        **{f"norm1.{name}": (48,) for name in ("weight", "bias")},
        **{"attn.qkv.weight": (144, 48), "attn.qkv.bias": (144,), "attn.q_norm.weight": (12,)},
        **{"attn.proj.weight": (48, 48), "attn.proj.bias": (48,), "ls1.gamma": (48,)},
        **{"mlp.fc1.weight": (96, 48), "mlp.fc1.bias": (96,)},
    }
    names = {
        **{"cls_token": (1, 1, 48), "reg_token": (1, 4, 48), "pos_embed": (1, 17, 48)},
        **{"patch_embed.proj.weight": (48, 3, 8, 8), "patch_embed.proj.bias": (48,)},
        **in_layers(2, "blocks.", layer),
        **{"norm.weight": (48,), "norm.bias": (48,), "head.weight": (10, 48), "head.bias": (10,)},
    }
    bound = 1 / math.sqrt(3 * 8 * 8)
    for name, tensor in described(names, "vit", layer_scale=1e-4).items():
        spread = (tensor.std, tensor.low, tensor.high)
        if name in ("cls_token", "reg_token"):
            assert spread == (1e-6, None, None)
        elif name.startswith("patch_embed"):
            assert tensor.high == pytest.approx(bound, rel=3e-16)
            assert tensor.low == -tensor.high
        elif name.endswith(("gamma", "bias")) or "norm" in name:
            expected = {"gamma": 1e-4, "weight": 1.0, "bias": 0.0}[name.rpartition(".")[2]]
            assert spread == (0.0, expected, expected)
        else:
            assert (tensor.scheme, *spread) == ("trunc_normal", 0.02, -2.0, 2.0)


def test_megatron_scales_the_output_layers() -> None:
    """megatron/core/utils.py, scaled_init_method_normal."""
    layer = {
        **{"input_layernorm.weight": (32,), "self_attention.linear_qkv.layer_norm_weight": (32,)},
        **{"self_attention.linear_qkv.layer_norm_bias": (32,)},
        **{"self_attention.linear_qkv.weight": (96, 32), "self_attention.linear_qkv.bias": (96,)},
        **{"self_attention.linear_proj.weight": (32, 32), "self_attention.linear_proj.bias": (32,)},
        **{"mlp.linear_fc1.weight": (64, 32), "mlp.linear_fc2.weight": (32, 64)},
        **{"mlp.router.weight": (4, 32), "mlp.experts.linear_fc1.weight0": (64, 32)},
        **{"mlp.experts.linear_fc2.weight3": (32, 64), "mlp.experts.linear_fc2.bias3": (32,)},
    }
    names = {
        "embedding.word_embeddings.weight": (128, 32),
        "embedding.position_embeddings.weight": (16, 32),
        **in_layers(12, "decoder.layers.", layer),
        "decoder.final_layernorm.weight": (32,),
        "output_layer.weight": (128, 32),
    }
    for name, tensor in described(names, "megatron", std=0.01).items():
        if "norm" in name or "bias" in name:
            assert tensor.low == tensor.high == (0.0 if "bias" in name else 1.0), name
        else:
            scaled = "linear_proj" in name or "linear_fc2" in name
            assert tensor.std == (0.01 / math.sqrt(2.0 * 12) if scaled else 0.01), name
    legacy = in_layers(
        2,
        "language_model.encoder.layers.",
        {"self_attention.query_key_value.weight": (96, 32), "mlp.dense_4h_to_h.weight": (32, 64)},
    )
    scaled = [tensor.std for tensor in described(legacy, "megatron").values()]
    assert scaled == [0.02, 0.02 / math.sqrt(4.0)] * 2


def test_gpt2_in_nanogpts_names() -> None:
    """karpathy/nanoGPT, model.py, GPT.__init__."""
    layer = {
        **{"ln_1.weight": (32,), "attn.c_attn.weight": (96, 32), "attn.c_proj.weight": (32, 32)},
        **{"mlp.c_fc.weight": (128, 32), "mlp.c_proj.weight": (32, 128), "mlp.c_proj.bias": (32,)},
    }
    names = {
        **{"transformer.wte.weight": (200, 32), "transformer.wpe.weight": (16, 32)},
        **in_layers(7, "transformer.h.", layer),
        "lm_head.weight": (200, 32),
    }
    for name, tensor in described(names, "gpt2").items():
        if "ln_" in name or "bias" in name:
            assert tensor.low == tensor.high == (0.0 if "bias" in name else 1.0)
        else:
            assert tensor.std == (0.02 / math.sqrt(2 * 7) if "c_proj" in name else 0.02), name


ATTENTION = {f"self_attn.{name}_proj.weight": (48, 48) for name in ("q", "k", "v", "out")}
BLOCK = {**ATTENTION, "fc1.weight": (96, 48), "fc2.weight": (48, 96)}


def gains(found: dict[str, TensorDescription]) -> dict[str, float]:
    """The ratio of each standard deviation to Glorot's."""
    made = {}
    for name, tensor in found.items():
        assert tensor.std is not None
        made[name] = tensor.std / math.sqrt(2.0 / sum(tensor.shape))
    return made


def test_deepnorm_gains_are_the_papers() -> None:
    """DeepNet (arXiv:2203.00555), figure 2."""
    names = in_layers(100, "decoder.layers.", BLOCK)
    for name, gain in gains(described(names, "deepnorm")).items():
        beta = 1.0 if "q_proj" in name or "k_proj" in name else (8 * 100) ** -0.25
        assert gain == pytest.approx(beta, rel=1e-15), name


def test_deepnorm_gains_differ_in_encoder_and_decoder() -> None:
    """DeepNet (arXiv:2203.00555), figure 2."""
    cross = {f"encoder_attn.{name}_proj.weight": (48, 48) for name in ("q", "k", "v", "out")}
    names = {
        **in_layers(18, "model.encoder.layers.", BLOCK),
        **in_layers(6, "model.decoder.layers.", {**BLOCK, **cross}),
    }
    counts = {"encoder_layers": 18, "decoder_layers": 6}
    for name, gain in gains(described(names, "deepnorm_encoder_decoder", **counts)).items():
        in_encoder = name.startswith("model.encoder")
        beta = 0.87 * (18**4 * 6) ** (-1 / 16) if in_encoder else (12 * 6) ** -0.25
        expected = 1.0 if "q_proj" in name or "k_proj" in name else beta
        assert gain == pytest.approx(expected, rel=1e-15), name
    with pytest.raises(ic.PlanError, match="decoder_layers: is missing; the recipe has no default"):
        described(names, "deepnorm_encoder_decoder", encoder_layers=18)


def test_mup_scales_what_widens_on_both_sides() -> None:
    """microsoft/mup, mup/init.py: constant_std_init_ over mup/infshape.py: InfShape."""
    names = {"embed.weight": (100, 256), "conv.weight": (512, 256, 3, 3), "out.weight": (10, 512)}
    base = {"embed.weight": (100, 64), "conv.weight": (64, 64, 3, 3), "out.weight": (10, 64)}
    found = described(names, "mup", std=0.5, base_shapes=base)
    assert {name: tensor.std for name, tensor in found.items()} == {
        "embed.weight": 0.5,
        "conv.weight": 0.5 * (256 / 64) ** -0.5,
        "out.weight": 0.5,
    }
    base["conv.weight"] = (64, 64)
    with pytest.raises(ic.PlanError, match=r"conv.weight has shape \[64, 64\] in base_shapes"):
        described(names, "mup", base_shapes=base)


def test_a_recipe_that_needs_classes_of_modules_says_so() -> None:
    with pytest.raises(
        ic.PlanError, match=r"resnet: its rules 1, 2, 3 match by the class of a mod"
    ):
        described({"conv1.weight": (64, 3, 7, 7)}, "resnet")


def test_everything_that_no_rule_covers_is_named() -> None:
    names = {"decoder.layers.0.fc1.weight": (8, 8), "a.bias": (3,), "b.bias": (3,)}
    with pytest.raises(ic.PlanError) as caught:
        described(names, "deepnorm")
    assert [v.tensor for v in caught.value.violations] == ["a.bias", "b.bias"]
    assert "no rule of recipe deepnorm covers this tensor, of shape [3]" in str(caught.value)


def test_an_old_causal_mask_is_no_bias() -> None:
    with pytest.raises(ic.PlanError, match=r"'h.0.attn.bias'.*no rule of recipe gpt2 covers this"):
        described({"h.0.attn.bias": (1, 1, 16, 16), "h.0.c_proj.weight": (3, 3)}, "gpt2")


def test_a_name_without_what_a_formula_needs_is_named() -> None:
    with pytest.raises(ic.PlanError) as caught:
        described({"c_proj.weight": (3, 3), "x.c_proj.weight": (3, 3)}, "gpt2")
    text = str(caught.value)
    assert "'x.c_proj.weight': recipe gpt2: rule 1: std: needs layers, but the name" in text
    with pytest.raises(ic.PlanError, match=r"needs fan_in, but this tensor of shape \[3\] has too"):
        described({"patch_embed.proj.bias": (3,)}, "vit")


@pytest.mark.parametrize("wrong", [0, 1.5, True, "2", math.inf])
def test_a_wrong_number_of_layers_is_refused(wrong: object) -> None:
    with pytest.raises(ic.PlanError, match="recipe gpt2: recipe_arguments: layers: is"):
        described({"h.0.c_proj.weight": (3, 3)}, "gpt2", layers=wrong)


def test_base_shapes_are_shapes() -> None:
    names = {"a.weight": (3, 3)}
    for wrong in (3, {"a.weight": "x"}, {"a.weight": 3}):
        with pytest.raises(
            ic.PlanError, match="base_shapes: must be a model, a plan, or a mapping"
        ):
            described(names, "mup", base_shapes=wrong)
    with pytest.raises(
        ic.PlanError, match="recipe bert: recipe_arguments: base_shapes: the recipe"
    ):
        described(names, "bert", base_shapes={})


def test_legacy_megatron_scales_both_output_layers() -> None:
    legacy = in_layers(
        2,
        "language_model.encoder.layers.",
        {
            "self_attention.query_key_value.weight": (96, 32),
            "attention.dense.weight": (32, 32),
            "mlp.dense_4h_to_h.weight": (32, 64),
        },
    )
    scaled = [tensor.std for tensor in described(legacy, "megatron").values()]
    assert scaled == [0.02, 0.02 / math.sqrt(4.0), 0.02 / math.sqrt(4.0)] * 2


def test_llama_knows_the_older_names_of_the_same_layers() -> None:
    names = {
        "output.weight": (200, 64),
        "layers.0.attention.wqkv.weight": (192, 64),
        "layers.0.attention.wo.weight": (64, 64),
    }
    std = 1 / math.sqrt(64)
    found = {n: (t.std, t.low, t.high) for n, t in described(names, "llama").items()}
    assert found["output.weight"] == (std, -3 * std, 3 * std)
    assert found["layers.0.attention.wqkv.weight"] == (0.02, -2.0, 2.0)


def test_deepnorm_knows_the_names_of_torch() -> None:
    layer = {"linear1.weight": (96, 48), "linear2.weight": (48, 96), **BLOCK}
    for name, gain in gains(described(in_layers(4, "layers.", layer), "deepnorm")).items():
        beta = 1.0 if "q_proj" in name or "k_proj" in name else (8 * 4) ** -0.25
        assert gain == pytest.approx(beta, rel=1e-15), name
