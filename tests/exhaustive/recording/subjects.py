"""The models: of each library all names, and a function that builds one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import torch
from torch import nn

Maker = Callable[[], nn.Module]

# Fields of configurations: what makes a model deep, wide, and long in its tables.
_LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
)
_TABLES = ("vocab_size", "text_vocab_size", "vocab_size_per_layer_input")
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_WIDTHS = (
    "hidden_size",
    "d_model",
    "dim",
    "embed_dim",
    "n_embd",
    "intermediate_size",
    "ffn_dim",
    "d_ff",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "moe_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_expert_intermediate_size",
)
_FEW_TOKENS = 2048


class TooLargeError(Exception):
    """No smaller form of the model is small enough."""


def names(library: str) -> list[str]:
    """The names of a library's models."""
    return sorted(LIBRARIES[library][0]())


def maker(library: str, name: str) -> Maker:
    """A function that builds a model in its default configuration."""
    return LIBRARIES[library][1](name)


def small_makers(library: str, name: str) -> Iterator[Maker]:
    """Functions that build ever less reduced forms of a model; some of them may fail."""
    if library != "transformers":
        yield maker(library, name)
        return
    for steps in ((_shallow, _short, _narrow), (_shallow, _short), (_shallow,), ()):
        yield _transformer(name, steps)


def _transformers() -> Iterable[str]:
    # Here, before the processes of its types begin.
    import transformers.models.llama.modeling_llama
    import transformers.models.wav2vec2.modeling_wav2vec2  # noqa: F401
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return CONFIG_MAPPING_NAMES


def _transformer(name: str, steps: Iterable[Callable[[Any], None]] = ()) -> Maker:
    from transformers import AutoConfig

    config = AutoConfig.for_model(name)
    for one in _configs(config):
        for step in steps:
            step(one)
    kind = model_class(config)
    return lambda: kind(config)


def model_class(config: Any) -> Any:
    """The class that trains a type of model: with a head if there is one."""
    from transformers.models.auto import modeling_auto as auto

    for name in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "IMAGE_CLASSIFICATION", ""):
        mapping = getattr(auto, f"MODEL_FOR_{name}_MAPPING" if name else "MODEL_MAPPING")
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple | list) else found
    return _class_by_module(config)


def _class_by_module(config: Any) -> Any:
    """The last class of the config's own module that takes such a config."""
    import transformers

    name = type(config).__module__.replace(".configuration_", ".modeling_")
    for found in reversed(list(vars(importlib.import_module(name)).values())):
        is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
        if is_model and found.config_class is type(config) and "PreTrained" not in found.__name__:
            return found
    raise LookupError("no class of its module takes this config")


def _configs(config: Any) -> Iterator[Any]:
    """A config and those within it."""
    from transformers import PretrainedConfig

    yield config
    for one in vars(config).values():
        if isinstance(one, PretrainedConfig):
            yield from _configs(one)


def _shallow(config: Any) -> None:
    """Two layers, or one of each kind."""
    kinds = getattr(config, "layer_types", None)
    count = 2
    if isinstance(kinds, list) and kinds:
        kept = list(dict.fromkeys(kinds))
        kept += kinds[: max(0, 2 - len(kept))]
        with suppress(AttributeError):
            # Some compute it.
            config.layer_types, count = kept, len(kept)
    for name in _LAYERS:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, min(count, getattr(config, name)))
    if isinstance(getattr(config, "depths", None), list | tuple):
        config.depths = [1 for _ in config.depths]


def _short(config: Any) -> None:
    """Tables of few tokens, and few experts."""
    for names, most in ((_TABLES, _FEW_TOKENS), (_EXPERTS, 8)):
        for name in names:
            size = getattr(config, name, None)
            if isinstance(size, int):
                setattr(config, name, min(size, most))
    for name in list(vars(config)):
        token = getattr(config, name)
        if name.endswith("token_id") and isinstance(token, int) and token >= _FEW_TOKENS:
            setattr(config, name, 0)


def _narrow(config: Any) -> None:
    for name in _WIDTHS:
        size = getattr(config, name, None)
        if isinstance(size, int) and size % 32 == 0 and size > 256:
            setattr(config, name, size // 4)


def _timm() -> Iterable[str]:
    import timm

    return timm.list_models()[::10]


def _timm_maker(name: str) -> Maker:
    import timm

    return lambda: timm.create_model(name, pretrained=False)


def _diffusers() -> Iterable[str]:
    import diffusers
    from diffusers.models.modeling_utils import ModelMixin

    for name in dir(diffusers):
        try:
            found = getattr(diffusers, name)
        except Exception:
            # It asks for a package that is not here.
            continue
        if isinstance(found, type) and issubclass(found, ModelMixin) and found is not ModelMixin:
            yield name


def _diffusers_maker(name: str) -> Maker:
    import diffusers

    return getattr(diffusers, name)


def _modules() -> Iterable[str]:
    from tests.torch.small_models import MODULES

    return MODULES


def _modules_maker(name: str) -> Maker:
    from tests.torch.small_models import MODULES

    return MODULES[name]


_TITANS = ("llama3", "deepseek_v3", "qwen3", "gpt_oss", "kimi_k2_7")


def _torchtitan() -> Iterable[str]:
    for family in _TITANS:
        module = importlib.import_module(f"torchtitan.models.{family}")
        [configs] = [name for name in vars(module) if name.endswith("_configs")]
        yield from (f"{family} {flavor}" for flavor in getattr(module, configs))


def _torchtitan_maker(name: str) -> Maker:
    family, flavor = name.split()
    module = importlib.import_module(f"torchtitan.models.{family}")
    config = module.model_registry(flavor).model

    def make() -> nn.Module:
        model = config.build()
        with torch.no_grad():
            model.init_weights()
        return cast(nn.Module, model)

    return make


_MEGATRON: dict[str, dict[str, Any]] = {
    "gpt": {},
    "gpt, scaled embeddings": {"embedding_init_method_std": 0.1, "init_method_std": 0.006},
    "gpt, RMSNorm and SwiGLU": {
        "normalization": "RMSNorm",
        "gated_linear_unit": True,
        "add_bias_linear": False,
        "num_query_groups": 2,
        "qk_layernorm": True,
    },
    "gpt, experts": {"num_moe_experts": 4, "moe_router_topk": 2, "add_bias_linear": False},
    "bert": {},
    "t5": {},
}


def _megatron_maker(name: str) -> Maker:
    import torch.distributed as dist
    from megatron.core import parallel_state
    from megatron.core.transformer.transformer_config import TransformerConfig

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel(1, 1)
    sizes = {"num_layers": 2, "hidden_size": 128, "num_attention_heads": 4}
    config = TransformerConfig(**sizes, use_cpu_initialization=True, **_MEGATRON[name])
    tables = {"vocab_size": 1000, "max_sequence_length": 64}
    if name == "bert":
        from megatron.core.models.bert.bert_layer_specs import bert_layer_local_spec
        from megatron.core.models.bert.bert_model import BertModel

        return lambda: BertModel(config, 2, bert_layer_local_spec, **tables)
    if name == "t5":
        from megatron.core.models.T5 import t5_spec
        from megatron.core.models.T5.t5_model import T5Model

        layers = (t5_spec.get_t5_encoder_with_local_block_spec(2),)
        layers += (t5_spec.get_t5_decoder_with_local_block_spec(2),)
        return lambda: T5Model(config, config, *layers, **tables)
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel

    layer = get_gpt_layer_local_spec(
        num_experts=config.num_moe_experts,
        qk_layernorm=config.qk_layernorm,
        normalization=config.normalization,
    )
    return lambda: GPTModel(config, layer, **tables)


LIBRARIES: dict[str, tuple[Callable[[], Iterable[str]], Callable[[str], Maker]]] = {
    "torch.nn": (_modules, _modules_maker),
    "transformers": (_transformers, _transformer),
    "timm": (_timm, _timm_maker),
    "diffusers": (_diffusers, _diffusers_maker),
    "torchtitan": (_torchtitan, _torchtitan_maker),
    "megatron-core": (lambda: _MEGATRON, _megatron_maker),
}
"""For each library the function that lists its names, and the one that gives a name's maker."""
