"""Smaller forms of models: what their configurations and arguments leave out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

Step = Callable[[Any], None]

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
    "depth",
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
    "out_hidden_size",
    "projection_dim",
)
_FEW_TOKENS = 2048


def change(config: Any, steps: Iterable[Step]) -> None:
    """Changes a configuration of transformers, and those within it."""
    for one in _configs(config):
        for step in steps:
            step(one)


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


def _narrower(factor: int) -> Step:
    def narrow(config: Any) -> None:
        for name in _WIDTHS:
            size = getattr(config, name, None)
            if isinstance(size, int) and size % (8 * factor) == 0 and size > 256:
                setattr(config, name, size // factor)

    return narrow


CONFIG_STEPS: tuple[tuple[Step, ...], ...] = (
    (_shallow, _short, _narrower(4)),
    (_shallow, _short, _narrower(8)),
    (_shallow, _short, _narrower(16)),
    (_shallow, _short),
    (_short, _narrower(4)),
    (_short, _narrower(16)),
    (_shallow,),
    (_short,),
)
"""Ways to reduce a configuration, of which the first that works is taken."""

# Arguments of classes of diffusers, by their names.
_COUNTS = re.compile(r"(layers|layers_per_block|blocks|depth|_layers_per_.*)$")
_HEADS = re.compile("(num|n)_(attention_|kv_|key_value_|.*)?heads?$")
_SIZES = re.compile("(dim|dims|channels|size|width|features|model_channels)$")
_NOT_SIZES = re.compile(
    "^(in|out|latent)_channels$|(^|_)(sample|image|patch|kernel|head|crop|window)(_|$)"
)

ARGUMENT_STEPS: tuple[tuple[str, ...], ...] = (
    ("depth", "heads", "width"),
    ("depth", "heads"),
    ("depth", "width"),
    ("heads", "width"),
    ("depth",),
    ("width",),
)
"""Ways to reduce the arguments of a class, as those for configurations."""


def arguments(kind: type, parts: Iterable[str]) -> dict[str, Any]:
    """Smaller values for arguments of a class that have numbers as defaults.

    Args:
        kind: the class.
        parts: of "depth", "heads" and "width", what is reduced.
    """
    found = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = parameter.default
        smaller = _reduced(name, value, set(parts))
        if smaller != value:
            found[name] = smaller
    return found


def _reduced(name: str, value: Any, parts: set[str]) -> Any:
    if isinstance(value, tuple | list) and value:
        return type(value)(_reduced(name, one, parts) for one in value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if _HEADS.search(name):
        return min(value, 2) if "heads" in parts else value
    if _COUNTS.search(name):
        return min(value, 1) if "depth" in parts else value
    if "width" in parts and _SIZES.search(name) and not _NOT_SIZES.search(name):
        if value % 320 == 0:
            # 320 channels in 32 groups.
            return value // 10
        return value // 4 if value >= 256 and value % 128 == 0 else value
    return value
