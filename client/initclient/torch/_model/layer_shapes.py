"""The shapes that layers of torch.nn give their parameters, by the sizes that layers keep."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.rnn import RNNCellBase

_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_Kind: TypeAlias = type[nn.Module] | tuple[type[nn.Module], ...]
_Row: TypeAlias = tuple[_Kind, tuple[str, ...], Callable[[Any], _Shapes]]


def shape_by_layer(owner: nn.Module | None, attribute: str) -> tuple[int, ...] | None:
    """The shape that a layer of torch.nn gives a parameter or buffer; None if that is not known.

    Args:
        owner: the layer; None if that is not known.
        attribute: the parameter's name in it.
    """
    row = _row(owner)
    if row is None:
        return None
    try:
        shape = row[2](owner).get(attribute)
        return None if shape is None else tuple(map(int, shape))
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError):
        # A class of one's own, without these attributes or with others of these names.
        return None


def sizes_of(owner: nn.Module) -> str:
    """The attributes of a layer that decide the shapes of its parameters, with their values."""
    row = _row(owner)
    names = () if row is None else row[1]
    return ", ".join(f"{name}={getattr(owner, name, None)}" for name in names)


def differs(tensor: torch.Tensor, owner: nn.Module, attribute: str) -> bool:
    """Whether a parameter has another shape than its layer of torch.nn says.

    A class with an `__init__` of its own may give its weight another shape on purpose, such as the
    transposed one. Of such a class only a shape that could be a part of the layer's counts.
    """
    # Packed elements of quantized weights have shapes of their own.
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    whole = shape_by_layer(owner, attribute)
    here = tuple(tensor.shape)
    if whole is None or here == whole:
        return False
    return _is_of_torch(type(owner)) or _is_part(here, whole)


def _row(owner: nn.Module | None) -> _Row | None:
    kind: Any = type(owner)
    return _row_of(kind)


@lru_cache(maxsize=1024)
def _row_of(kind: type) -> _Row | None:
    return next((row for row in _TABLE if issubclass(kind, row[0])), None)


def _is_of_torch(kind: type[nn.Module]) -> bool:
    """Whether torch's own code makes such layers; so it does those of `fully_shard`."""
    make = inspect.getattr_static(kind, "__init__")
    return str(getattr(make, "__module__", "")).partition(".")[0] == "torch"


def _is_part(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return len(shape) == len(whole) and all(map(int.__le__, shape, whole))


def _linear(layer: nn.Linear) -> _Shapes:
    return {"weight": (layer.out_features, layer.in_features), "bias": (layer.out_features,)}


def _bilinear(layer: nn.Bilinear) -> _Shapes:
    weight = (layer.out_features, layer.in1_features, layer.in2_features)
    return {"weight": weight, "bias": (layer.out_features,)}


def _convolution(layer: _ConvNd) -> _Shapes:
    first, second = layer.out_channels, layer.in_channels
    if isinstance(layer, _ConvTransposeNd):
        first, second = second, first
    kernel = (first, second // layer.groups, *layer.kernel_size)
    return {"weight": kernel, "bias": (layer.out_channels,)}


def _embedding(layer: nn.Embedding | nn.EmbeddingBag) -> _Shapes:
    return {"weight": (layer.num_embeddings, layer.embedding_dim)}


def _layer_norm(layer: nn.LayerNorm | nn.RMSNorm) -> _Shapes:
    return dict.fromkeys(("weight", "bias"), tuple(layer.normalized_shape))


def _batch_norm(layer: _NormBase) -> _Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return dict.fromkeys(names, (layer.num_features,))


def _group_norm(layer: nn.GroupNorm) -> _Shapes:
    return dict.fromkeys(("weight", "bias"), (layer.num_channels,))


def _attention(layer: nn.MultiheadAttention) -> _Shapes:
    size = layer.embed_dim
    return {
        "in_proj_weight": (3 * size, size),
        "in_proj_bias": (3 * size,),
        "q_proj_weight": (size, size),
        "k_proj_weight": (size, layer.kdim),
        "v_proj_weight": (size, layer.vdim),
        "bias_k": (1, 1, size),
        "bias_v": (1, 1, size),
    }


# Gates whose rows are stacked in one matrix.
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _recurrent(layer: nn.RNNBase) -> _Shapes:
    hidden, rows = layer.hidden_size, _GATES[layer.mode] * layer.hidden_size
    outputs = layer.proj_size or hidden
    directions = ("", "_reverse") if layer.bidirectional else ("",)
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(layer.num_layers):
        inputs = layer.input_size if number == 0 else outputs * len(directions)
        for end in (f"l{number}{direction}" for direction in directions):
            shapes[f"weight_ih_{end}"] = (rows, inputs)
            shapes[f"weight_hh_{end}"] = (rows, outputs)
            shapes[f"weight_hr_{end}"] = (layer.proj_size, hidden)
            shapes[f"bias_ih_{end}"] = shapes[f"bias_hh_{end}"] = (rows,)
    return shapes


def _cell(gates: int) -> Callable[[Any], _Shapes]:
    def shapes(layer: RNNCellBase) -> _Shapes:
        rows = gates * layer.hidden_size
        return {
            "weight_ih": (rows, layer.input_size),
            "weight_hh": (rows, layer.hidden_size),
            **dict.fromkeys(("bias_ih", "bias_hh"), (rows,)),
        }

    return shapes


def _prelu(layer: nn.PReLU) -> _Shapes:
    return {"weight": (layer.num_parameters,)}


_TABLE: tuple[_Row, ...] = (
    (nn.Linear, ("out_features", "in_features"), _linear),
    (_ConvNd, ("out_channels", "in_channels", "kernel_size", "groups"), _convolution),
    ((nn.LayerNorm, nn.RMSNorm), ("normalized_shape",), _layer_norm),
    ((nn.Embedding, nn.EmbeddingBag), ("num_embeddings", "embedding_dim"), _embedding),
    (_NormBase, ("num_features",), _batch_norm),
    (nn.GroupNorm, ("num_channels",), _group_norm),
    (nn.MultiheadAttention, ("embed_dim", "kdim", "vdim"), _attention),
    (nn.Bilinear, ("out_features", "in1_features", "in2_features"), _bilinear),
    (
        nn.RNNBase,
        ("mode", "input_size", "hidden_size", "num_layers", "bidirectional", "proj_size"),
        _recurrent,
    ),
    (nn.LSTMCell, ("input_size", "hidden_size"), _cell(4)),
    (nn.GRUCell, ("input_size", "hidden_size"), _cell(3)),
    (nn.RNNCell, ("input_size", "hidden_size"), _cell(1)),
    (nn.PReLU, ("num_parameters",), _prelu),
)
"""Class, the attributes that decide its shapes, and the function that gives them by name."""
