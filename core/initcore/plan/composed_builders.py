"""Builders of tensors that are made of other tensors (docs/stream-v1.md, section 14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex, Unpack

from initcore.plan.keywords import Common, Shape, builder, tensor
from initcore.plan.plan import Tensor

Parts = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
"""Tensors with their names, in order; as pairs if two of them share a name."""


@builder
def concatenate(parts: Parts, axis: SupportsIndex = 0, **common: Unpack[Common]) -> Tensor:
    """The parts one after the other along an axis (numpy.concatenate).

    Each part has the values that it has under its own name: a fused projection equals the
    separate ones, `ic.concatenate({"q.weight": ..., "k.weight": ..., "v.weight": ...})`.
    The shape follows from the parts. A dtype given here is that of every part, and so is a
    seed, for parts without one of their own.
    """
    return _composed("concatenate", parts, common, axis=axis)


@builder
def stack(parts: Parts, axis: SupportsIndex = 0, **common: Unpack[Common]) -> Tensor:
    """The parts, of one shape, along a new axis (numpy.stack): experts, scanned layers.

    Parts, shape, dtype and seed are as in `concatenate`.
    """
    return _composed("stack", parts, common, axis=axis)


@builder
def permute(parts: Parts, axes: Sequence[SupportsIndex], **common: Unpack[Common]) -> Tensor:
    """One part with its axes in another order (numpy.transpose).

    A Flax kernel that equals a torch weight is
    `ic.permute({"fc.weight": ic.kaiming_normal((64, 32))}, (1, 0))`; a 2-D convolution's
    kernel takes (2, 3, 1, 0). Fans are those of the part. Dtype and seed are as in `concatenate`.
    """
    return _composed("permute", parts, common, axes=axes)


@builder
def reshape(shape: Shape, parts: Parts, **common: Unpack[Common]) -> Tensor:
    """One part's elements, row by row, in another shape (numpy.reshape).

    Dtype and seed are as in `concatenate`.
    """
    return _composed("reshape", parts, common, shape=shape)


def _composed(
    scheme: str, parts: Parts, common: Common, *, shape: Shape = (), **arguments: Any
) -> Tensor:
    pairs = parts.items() if isinstance(parts, Mapping) else _pairs(scheme, parts)
    dtype = common.get("dtype")
    made = tuple((name, part if dtype is None else retyped(part, dtype)) for name, part in pairs)
    own: Common = {**common}
    if dtype is None and made and isinstance(made[0][1], Tensor):
        own["dtype"] = made[0][1].dtype
    return tensor(scheme, shape, own, parts=made, **arguments)


def _pairs(scheme: str, parts: Any) -> Iterable[tuple[str, Tensor]]:
    """The parts as pairs; anything else is refused here, since a plan cannot hold it."""
    pairs = tuple(parts) if isinstance(parts, Iterable) else (parts,)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"among the parts of {scheme} is {pair!r}; give a dict from their names to "
                "tensors, or (name, tensor) pairs: the names are those of their streams"
            )
    return pairs


def retyped(whole: Tensor, dtype: Any) -> Tensor:
    """The same tensor with another element type, its parts included."""
    if not isinstance(whole, Tensor):
        return whole
    parts = whole.parts and tuple((name, retyped(part, dtype)) for name, part in whole.parts)
    return replace(whole, dtype=dtype, parts=parts)
