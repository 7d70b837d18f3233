"""The defaults of torch's own modules: the draws of their reset_parameters, as initializers.

Read from torch/nn/modules of torch 2.13. A class that overrides reset_parameters gets no
default, since its draws are not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias, cast

import initcore as ic
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase

from initclient.torch._layouts import whole_shape
from initclient.torch._model import Member
from initclient.torch._planning.rules import Initializer

# (module, name of a parameter or buffer of it) -> initializer.
_Choice: TypeAlias = Callable[[Any, str], Initializer | None]


def default(member: Member) -> Initializer | None:
    """The default initializer of torch's module for a parameter or buffer; None without one."""
    # An outer module resets its parameters after the inner modules.
    for outer, inner in zip(member.path, member.path[1:], strict=False):
        if isinstance(outer, nn.Transformer) and not member.is_buffer and len(member.shape) > 1:
            # nn.Transformer draws every matrix of its parts again.
            known = _inherits(outer, nn.Transformer, "_reset_parameters")
            return cast(Initializer, ic.xavier_uniform) if known else None
        if isinstance(outer, nn.MultiheadAttention) and inner is outer.out_proj:
            if not _inherits(outer, nn.MultiheadAttention, "_reset_parameters"):
                return None
            if member.attribute == "bias":
                return ic.zeros
    for kind, method, choose in _TABLE:
        if isinstance(member.owner, kind):
            return (
                choose(member.owner, member.attribute)
                if _inherits(member.owner, kind, method)
                else None
            )
    return None


def _inherits(module: nn.Module, kind: type[nn.Module], method: str) -> bool:
    return getattr(type(module), method, None) is getattr(kind, method)


def _symmetric(bound: float) -> Initializer:
    return partial(ic.uniform, a=-bound, b=bound)


def _one_over_root(size: int) -> float:
    return 1 / math.sqrt(size) if size > 0 else 0.0


def _linear_or_conv(module: nn.Linear | _ConvNd, name: str) -> Initializer | None:
    if name == "weight":
        return partial(ic.kaiming_uniform, a=math.sqrt(5))
    if name == "bias":
        # The bias has the weight's fan_in, of shape [out, in, *kernel]. A transposed
        # convolution's weight is [in, out, *kernel], and torch counts the same axes.
        return _symmetric(_one_over_root(math.prod(whole_shape(module.weight)[1:])))
    return None


def _bilinear(module: nn.Bilinear, name: str) -> Initializer | None:
    bound = _one_over_root(whole_shape(module.weight)[1])
    return _symmetric(bound) if name in ("weight", "bias") else None


def _embedding(module: nn.Module, name: str) -> Initializer | None:
    return ic.normal if name == "weight" else None


def _norm(module: nn.Module, name: str) -> Initializer | None:
    choices: dict[str, Initializer] = {
        "weight": ic.ones,
        "bias": ic.zeros,
        "running_mean": ic.zeros,
        "running_var": ic.ones,
        "num_batches_tracked": ic.zeros,
    }
    return choices.get(name)


def _attention(module: nn.MultiheadAttention, name: str) -> Initializer | None:
    choices: dict[str, Initializer] = {
        "in_proj_weight": ic.xavier_uniform,
        "q_proj_weight": ic.xavier_uniform,
        "k_proj_weight": ic.xavier_uniform,
        "v_proj_weight": ic.xavier_uniform,
        "in_proj_bias": ic.zeros,
        "bias_k": ic.xavier_normal,
        "bias_v": ic.xavier_normal,
    }
    return choices.get(name)


def _recurrent(module: nn.RNNBase | RNNCellBase, name: str) -> Initializer | None:
    if not name.startswith(("weight_", "bias_")):
        return None
    return _symmetric(_one_over_root(module.hidden_size))


def _prelu(module: nn.PReLU, name: str) -> Initializer | None:
    return partial(ic.constant, val=module.init) if name == "weight" else None


_TABLE: tuple[tuple[type[nn.Module], str, _Choice], ...] = (
    (nn.Linear, "reset_parameters", _linear_or_conv),
    (_ConvNd, "reset_parameters", _linear_or_conv),
    (nn.Bilinear, "reset_parameters", _bilinear),
    (nn.Embedding, "reset_parameters", _embedding),
    (nn.EmbeddingBag, "reset_parameters", _embedding),
    (_NormBase, "reset_parameters", _norm),
    (nn.GroupNorm, "reset_parameters", _norm),
    (nn.LayerNorm, "reset_parameters", _norm),
    (nn.RMSNorm, "reset_parameters", _norm),
    (nn.MultiheadAttention, "_reset_parameters", _attention),
    (nn.RNNBase, "reset_parameters", _recurrent),
    (RNNCellBase, "reset_parameters", _recurrent),
    (nn.PReLU, "reset_parameters", _prelu),
)
"""Class, the method of it that draws, and the function that gives its initializers."""


def padding_rows(found: Iterable[Member]) -> dict[int, set[int]]:
    """Padding rows by the tensor's identity: a tied tensor has those of all its places."""
    rows: dict[int, set[int]] = {}
    for member in found:
        if member.padding_row is not None:
            rows.setdefault(id(member.tensor), set()).add(member.padding_row)
    return rows
