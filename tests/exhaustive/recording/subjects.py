"""The models: of each library all names, and a function that builds one."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from tests.exhaustive.recording import smaller

Maker = Callable[[], nn.Module]


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
    if library == "transformers":
        for steps in smaller.CONFIG_STEPS:
            # A configuration may refuse what was changed.
            with suppress(Exception):
                yield _transformer(name, steps)
    elif library == "diffusers":
        for parts in smaller.ARGUMENT_STEPS:
            yield _diffusers_maker(name, parts)
    yield maker(library, name)


def _transformers() -> Iterable[str]:
    # Here, before the processes of its types begin.
    import transformers.models.llama.modeling_llama
    import transformers.models.wav2vec2.modeling_wav2vec2  # noqa: F401
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return CONFIG_MAPPING_NAMES


def _transformer(name: str, steps: Iterable[smaller.Step] = ()) -> Maker:
    from transformers import AutoConfig

    config = AutoConfig.for_model(name)
    smaller.change(config, steps)
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


@cache
def _timm() -> Iterable[str]:
    """The smallest model of each family: of a file of timm, and a first word of its names."""
    import timm
    from timm.models import _registry

    families: dict[tuple[str, str], list[str]] = {}
    for name in timm.list_models():
        word = re.match("(?:tf_|legacy_|test_)?[a-z]+", name)
        key = _registry._model_to_module[name], word[0] if word else name
        families.setdefault(key, []).append(name)
    return [its[0] if len(its) == 1 else min(its, key=_timm_size) for its in families.values()]


def _timm_size(name: str) -> float:
    """The number of a model's parameters; infinite if it cannot be built without memory."""
    try:
        with torch.device("meta"):
            model = _timm_maker(name)()
    except Exception:
        return math.inf
    return sum(parameter.numel() for parameter in model.parameters())


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


def _diffusers_maker(name: str, parts: Iterable[str] = ()) -> Maker:
    import diffusers

    kind = getattr(diffusers, name)
    arguments = smaller.arguments(kind, parts)
    return lambda: kind(**arguments)


def _modules() -> Iterable[str]:
    from tests.torch.small_models import MODULES

    return MODULES


def _modules_maker(name: str) -> Maker:
    from tests.torch.small_models import MODULES

    return MODULES[name]


_TITANS = (
    "llama3",
    "deepseek_v3",
    "flux",
    "gpt_oss",
    "kimi_k2_7",
    "muse_glimmer",
    "qwen3",
    "qwen3_5",
)


def _torchtitan() -> Iterable[str]:
    for family in _TITANS:
        module = importlib.import_module(f"torchtitan.models.{family}")
        tables = [one for name, one in vars(module).items() if name.endswith("_configs")]
        [flavors] = [one for one in tables if isinstance(one, dict)]
        yield from (f"{family} {flavor}" for flavor in flavors)


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

    if not dist.is_initialized():
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
