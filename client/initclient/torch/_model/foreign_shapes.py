"""Parameters whose shape here is not the model's, because a launcher has cut them or moved them.

A plan of such a shape would have other fans, and the same values on every rank, and nothing that
reads the plan later could see it.
"""

from __future__ import annotations

import torch
from torch import nn

from initclient.torch._model.layer_shapes import differs, shape_by_layer, sizes_of

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
    wanted = shape_by_layer(owner, attribute) if tensor.shape == (0,) else None
    if wanted is not None and wanted != (0,):
        return (
            f"is [0] here, and {type(owner).__name__} says {list(wanted)}: this "
            "parameter's elements are elsewhere (partitioned or offloaded); plan and fill the "
            "model before that, or gather the parameter first"
        )
    return ""


def other_shape(tensor: torch.Tensor, owner: nn.Module | None, attribute: str) -> str:
    """Says that a layer of torch.nn has another shape for its parameter, and the remedy; else "".

    Args:
        tensor: the parameter or buffer.
        owner: the module that holds it; None if that is not known.
        attribute: its name there.
    """
    if owner is None or not differs(tensor, owner, attribute):
        return ""
    wanted = list(shape_by_layer(owner, attribute) or ())
    return (
        f"is {list(tensor.shape)} here, and {type(owner).__name__} says {wanted} "
        f"({sizes_of(owner)}): it may be one process's part of the parameter; plan and fill the "
        "model before it is cut, or tell where the part lies (its initserve_layout), or, if it is "
        "the whole parameter, set these attributes of the layer"
    )
