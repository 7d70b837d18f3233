"""Builders of tensors whose values are given and not drawn: in the plan, or in a checkpoint."""

from __future__ import annotations

from typing import Unpack

from initcore.errors import PlanError, Violation
from initcore.plan.keywords import Common, Shape, Values, builder, tensor
from initcore.plan.plain_values import shape_of
from initcore.plan.plan import Tensor


@builder
def literal(shape: Shape, values: Values, **common: Unpack[Common]) -> Tensor:
    """The values in the plan, row by row: frequencies, positions, masks.

    Args:
        shape: the tensor's shape.
        values: as many numbers as the shape has elements, at most 65,536: a list, row by row, or
            nested lists, or an array of any library, in this shape.
        common: dtype may be an integer type too.

    Repeat them along dimensions with `broadcast_to`:
    `ic.broadcast_to((64, 16), {"row": ic.literal((16,), range(1, 17))})`.
    """
    made = tensor("literal", shape, common, values=values)
    nested = shape_of(values)
    if nested is None or (len(nested) > 1 and nested != made.shape):
        have = "are lists of different lengths" if nested is None else f"have shape {list(nested)}"
        message = (
            f"{have}, but the tensor has shape {list(made.shape)}; give them in this shape, or as "
            "one list, row by row"
        )
        raise PlanError([Violation("", "values", message)])
    return made


@builder
def pretrained(
    shape: Shape,
    checkpoint: str,
    source: str | None = None,
    sha256: str | None = None,
    **common: Unpack[Common],
) -> Tensor:
    """The values of a tensor in a checkpoint.

    Args:
        shape: the tensor's shape, which the checkpoint must have.
        checkpoint: a `.safetensors` file, or the `.safetensors.index.json` of several, as a path
            below the folder of checkpoints that the process, or the server, is given.
        source: the tensor's name there; default its name in the plan.
        sha256: what the file's SHA-256 must be, as 64 hexadecimal digits.
        common: dtype must be the checkpoint's; there is no stream.
    """
    return tensor("pretrained", shape, common, checkpoint=checkpoint, source=source, sha256=sha256)
