"""A recipe for a library's models says which classes it is for, and reads the model's config."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import transformers
from initclient import recipes
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.torch.draws import DEPRECATED, recorded

pytestmark = DEPRECATED

# The kinds, as transformers names them in configs, that the recipe llama_transformers is for.
KINDS = [
    "arcee",
    "bitnet",
    "cohere",
    "cohere2",
    "cwm",
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone4",
    "flex_olmo",
    "glm",
    "glm4",
    "glm4_moe",
    "gpt_neox",
    "granite",
    "granitemoe",
    "granitemoeshared",
    "helium",
    "jetmoe",
    "lfm2",
    "llama",
    "longcat_flash",
    "minimax",
    "ministral3",
    "mistral",
    "mixtral",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
]

SIZES = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "head_dim": 8},
    **{"ffn_hidden_size": 64, "num_layers": 2, "kv_lora_rank": 8, "q_lora_rank": 8},
    **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 1},
    **{"topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}


def config_of(kind: str, **more: Any) -> Any:
    config = transformers.CONFIG_MAPPING[kind]
    default = config()
    known = {key: value for key, value in SIZES.items() if hasattr(default, key)}
    if getattr(default, "head_dim", None) is None:
        known.pop("head_dim", None)
    tokens = {key: SIZES[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return config(**{**known, **tokens, **more})


def model_class(kind: str) -> Any:
    return getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])


def test_the_recipe_lists_the_classes_that_are_compared_here() -> None:
    listed = recipes.load("llama_transformers").models["PreTrainedModel"]
    bases = [{one.__name__ for one in model_class(kind).__mro__} for kind in KINDS]
    assert len(listed) == len(KINDS)
    assert all(base in classes for base, classes in zip(listed, bases, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_draws_what_each_class_that_it_lists_draws(kind: str) -> None:
    config = config_of(kind, initializer_range=0.03)
    theirs, draws = recorded(lambda: model_class(kind)(config))
    with torch.device("meta"):
        ours = model_class(kind)(config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "recipe .* takes std=0.03 from", ic.PlanWarning)
        # Olmo's norms have no weights.
        warnings.filterwarnings("ignore", "recipe .* matches no parameter", ic.PlanWarning)
        warnings.filterwarnings("ignore", "no rule has the values of buffer", ic.PlanWarning)
        plan = ict.plan(ours, recipe="llama_transformers")
        # And the recording of the class, to the bit.
        values = ic.fetch(ict.record(model_class(kind), config).plan(), target="local")
    for name, made in ic.fetch(plan, target="local").items():
        assert made.tobytes() == values[name].tobytes(), name
    constants = {t.name: t.low for t in ic.describe(plan, target="local").tensors}
    assert len(draws) > 4
    for name, parameter in theirs.named_parameters():
        if (parameter == parameter.flatten()[0]).all():
            assert (parameter == constants[name]).all(), name
        else:
            assert draws[name] == ("normal_", 0.0, plan.tensors[name].std), name


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        *((kind, "llama_transformers") for kind in ("bloom", "gemma", "gemma2", "mamba", "bert")),
        ("mistral", "gpt2"),
        ("gpt2", "bert"),
        ("bert", "vit_transformers"),
    ],
)
def test_another_class_of_the_library_is_refused(kind: str, recipe: str) -> None:
    with torch.device("meta"):
        model = model_class(kind)(config_of(kind))
    text = rf"recipe {recipe}: is not for {type(model).__name__}: .* recipes {recipe} --yaml"
    with pytest.raises(ic.PlanError, match=text):
        ict.plan(nn.ModuleDict({"inner": model}), recipe=recipe)


@pytest.mark.parametrize(
    "name",
    [
        "FalconForCausalLM",
        "T5ForConditionalGeneration",
        "WhisperForConditionalGeneration",
        "CLIPModel",
        "SwinModel",
        "ConvNextModel",
    ],
)
def test_models_of_other_kinds_are_refused(name: str) -> None:
    kind = getattr(transformers, name)
    with torch.device("meta"):
        model = kind(kind.config_class())
    for recipe in ("llama_transformers", "gpt2", "bert"):
        with pytest.raises(ic.PlanError, match=f"recipe {recipe}: is not for {name}: "):
            ict.plan(model, recipe=recipe)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        *(("llama", kind) for kind in ("llama", "mistral", "qwen2", "qwen3", "smollm3")),
        *(("mup", kind) for kind in ("bert", "gpt2", "llama", "mistral", "qwen2", "qwen3")),
        ("megatron", "gpt_neox"),
    ],
)
def test_a_recipe_of_another_source_has_the_constants_of_the_classes_that_it_lists(
    recipe: str, kind: str
) -> None:
    """Norms and biases start where the model's own code starts them, and rules decide the rest."""
    recording = ict.record(model_class(kind), config_of(kind))
    arguments = {"base_shapes": recording.model} if recipe == "mup" else {}
    plan = ict.plan(recording.model, recipe=recipe, recipe_arguments=arguments)
    own = recording.plan()
    for name, parameter in recording.model.named_parameters(remove_duplicate=False):
        if parameter.dim() == 1:
            assert plan[name].scheme == own[name].scheme, name
        assert plan[name].scheme != "kaiming_uniform", name


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [("llama", "gemma"), ("vit", "bert"), ("megatron", "llama"), ("mup", "gemma2")],
)
def test_a_recipe_of_another_source_refuses_other_classes(recipe: str, kind: str) -> None:
    with torch.device("meta"):
        model = model_class(kind)(config_of(kind))
    arguments = {"base_shapes": model} if recipe == "mup" else {}
    with pytest.raises(ic.PlanError, match=f"recipe {recipe}: is not for {type(model).__name__}"):
        ict.plan(model, recipe=recipe, recipe_arguments=arguments)


def test_a_package_counts_where_its_outermost_class_is_listed(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "summary: ours\nsource: a test\nmodels: {transformers: [LlamaForCausalLM]}\n"
        "rules:\n  - {name: '*', scheme: zeros}\n"
    )
    with torch.device("meta"):
        llama, gemma = (model_class(kind)(config_of(kind)) for kind in ("llama", "gemma"))
    assert ict.plan(nn.ModuleDict({"inner": llama}), recipe=recipe)["inner.lm_head.weight"]
    assert ict.plan(nn.Linear(2, 2), recipe=recipe)["weight"].scheme == "zeros"
    with pytest.raises(ic.PlanError, match="is not for GemmaForCausalLM"):
        ict.plan(nn.ModuleDict({"one": llama, "other": gemma}), recipe=recipe)


def test_a_recipe_that_repeats_one_library_is_for_no_class_of_another() -> None:
    swin = type("SwinTransformer", (nn.Sequential,), {"__module__": "timm.models.swin"})
    model = nn.ModuleDict({"inner": swin(nn.Linear(4, 4), nn.LayerNorm(4))})
    for name in ("bert", "gpt2", "llama", "llama_transformers", "megatron", "vit"):
        with pytest.raises(ic.PlanError, match=f"recipe {name}: is not for SwinTransformer"):
            ict.plan(model, recipe=name)
    assert ict.plan(model, recipe="xavier")["inner.0.weight"].scheme == "xavier_uniform"
    vit = type("VisionTransformer", (nn.Sequential,), {"__module__": "timm.models.vit"})
    with pytest.warns(ic.PlanWarning, match=r"recipe vit: rule 3 .* matches no parameter"):
        assert ict.plan(vit(nn.Linear(4, 4)), recipe="vit")["0.weight"].scheme == "trunc_normal"


class OwnGPT(nn.Module):
    """A model of no library, with names as the recipe has them."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(8, 4)
        self.h = nn.ModuleList([nn.ModuleDict({"c_proj": nn.Linear(4, 4)})])


def test_models_of_no_library_are_taken_by_their_names() -> None:
    assert ict.plan(OwnGPT(None), recipe="gpt2").tensors["wte.weight"].std == 0.02


def test_arguments_come_from_the_config_unless_they_are_given() -> None:
    config = config_of("llama", initializer_range=0.05)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    with pytest.warns(
        ic.PlanWarning, match=r"takes std=0\.05 .*\(initializer_range\) since 0\.3\.0"
    ):
        plan = ict.plan(model, recipe="llama_transformers")
    assert plan.tensors["lm_head.weight"].std == 0.05
    given = ict.plan(model, recipe="llama_transformers", recipe_arguments={"std": 0.01})
    assert given.tensors["lm_head.weight"].std == 0.01


def test_a_recipe_of_ones_own_says_its_models_and_reads_a_config(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "summary: ours\nsource: a test\nmodels: {Module: ['Own*']}\narguments: {std: 0.5}\n"
        "config: {std: width}\nrules:\n  - {name: '*', scheme: normal, std: std}\n"
    )
    with pytest.raises(ic.PlanError, match="is not for Linear"):
        ict.plan(nn.Linear(2, 2), recipe=recipe)
    loaded = recipes.load(recipe)
    assert loaded.is_for(["OwnGPT", "Module", "object"])
    assert not loaded.is_for(["Linear", "Module", "object"])
    assert "for these classes of Module:\n  Own*" in str(loaded)
    assert "std  0.5; or the model's config.width" in str(loaded)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("models: [GPT]", r"models: is \['GPT'\]; give a mapping from a base class"),
        ("models: {PreTrainedModel: 3}", "PreTrainedModel: is 3; it must be text, or a list"),
        ("repeats: torch", "repeats: is 'torch'; give a mapping from a library to what takes"),
        ("repeats: {a: b, c: d}", "repeats: is {'a': 'b', 'c': 'd'}; give a mapping"),
        ("config: [std]", r"config: is \['std'\]; give a mapping from arguments"),
        ("config: {std: 3}", r"config: is {'std': 3}; give a mapping from arguments"),
        ("config: {scale: width}", "config: scale: is not an argument of this recipe"),
    ],
)
def test_what_a_recipe_says_of_models_is_checked(field: str, text: str, tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        f"summary: ours\nsource: a test\n{field}\narguments: {{std: 1}}\n"
        "rules:\n  - {name: '*', scheme: zeros}\n"
    )
    with pytest.raises(ic.PlanError, match=text):
        recipes.load(recipe)
