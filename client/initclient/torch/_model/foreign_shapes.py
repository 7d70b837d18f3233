"""Parameters whose shape here is not the model's, because a launcher has cut them or moved them.

A plan of such a shape would have other fans, and the same values on every rank, and nothing that
reads the plan later could see it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

# What DeepSpeed's zero.Init leaves on a parameter (partition_parameters.py).
_ZERO = ("ds_id", "ds_shape", "ds_tensor")


def foreign_shape(tensor: torch.Tensor, owner: nn.Module | None, attribute: str) -> str:
    """Says why the shape of a parameter is not the model's, and the remedy; "" if it may be.

    Args:
        tensor: the parameter or buffer.
        owner: the module that holds it; None if that is not known.
        attribute: its name there.
    """
    here = list(tensor.shape)
    if marks := [mark for mark in _ZERO if hasattr(tensor, mark)]:
        whole = getattr(tensor, "ds_shape", None)
        real = "" if whole is None else f"; the model's is {list(whole)}"
        return (
            f"is {here} here, and DeepSpeed's zero.Init has partitioned this parameter "
            f"({', '.join(marks)}){real}; make, plan and fill the model outside of "
            "deepspeed.zero.Init, before deepspeed.initialize"
        )
    if getattr(tensor, "tensor_model_parallel", False) is True:
        return (
            f"is {here} here, which may be one rank's part: Megatron has marked this parameter as "
            "cut (tensor_model_parallel=True); load the plan's values as a checkpoint "
            "(ic.fetch_file), or, if the tensor parallel size is one, set the attribute to False"
        )
    wanted = _said(owner, attribute) if tensor.shape == (0,) else None
    if wanted is not None and wanted != (0,):
        return (
            f"is [0] here, and {type(owner).__name__} says {list(wanted)}: this parameter's "
            "elements are elsewhere (partitioned or offloaded); plan and fill the model before "
            "that, or gather the parameter first"
        )
    return ""


def _said(owner: nn.Module | None, attribute: str) -> tuple[int, ...] | None:
    """The shape that a module of torch gives one of its parameters; None if that is not known."""
    shapes: dict[str, tuple[int, ...]] = {}
    if isinstance(owner, nn.Linear):
        outputs = owner.out_features
        shapes = {"weight": (outputs, owner.in_features), "bias": (outputs,)}
    elif isinstance(owner, _ConvNd):
        first, second = owner.out_channels, owner.in_channels
        if isinstance(owner, _ConvTransposeNd):
            first, second = second, first
        kernel = (first, second // owner.groups, *owner.kernel_size)
        shapes = {"weight": kernel, "bias": (owner.out_channels,)}
    elif isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        shapes = {"weight": (owner.num_embeddings, owner.embedding_dim)}
    elif isinstance(owner, nn.LayerNorm | nn.RMSNorm):
        shapes = dict.fromkeys(("weight", "bias"), tuple(owner.normalized_shape))
    elif isinstance(owner, _NormBase):
        shapes = dict.fromkeys(("weight", "bias"), (owner.num_features,))
    elif isinstance(owner, nn.GroupNorm):
        shapes = dict.fromkeys(("weight", "bias"), (owner.num_channels,))
    elif isinstance(owner, nn.MultiheadAttention):
        rows = 3 * owner.embed_dim
        shapes = {"in_proj_weight": (rows, owner.embed_dim), "in_proj_bias": (rows,)}
    return shapes.get(attribute)
