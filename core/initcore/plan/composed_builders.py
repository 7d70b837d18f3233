"""Builders of tensors that are made of other tensors (docs/stream-v1.md, section 14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex, Unpack

from initcore.plan.keywords import Common, Real, Shape, builder, tensor
from initcore.plan.plan import Tensor
from initcore.plan.schemes import FunctionName

Axes = SupportsIndex | Sequence[SupportsIndex]
"""Dimensions: one, or several."""

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


@builder
def broadcast_to(shape: Shape, parts: Parts, **common: Unpack[Common]) -> Tensor:
    """One part, repeated along dimensions (numpy.broadcast_to).

    Ten equal rows are `ic.broadcast_to((10, 64), {"row": ic.normal((64,))})`. From the last
    dimension on, those of the part must be the tensor's, or 1. Dtype and seed are as in
    `concatenate`.
    """
    return _composed("broadcast_to", parts, common, shape=shape)


@builder
def apply(
    parts: Parts,
    function: FunctionName,
    a: Real | None = None,
    b: Real | None = None,
    **common: Unpack[Common],
) -> Tensor:
    """A function of each element of one part, computed in double and rounded once.

    The logarithm of uniform values is `ic.apply({"A": ic.uniform((24,), 1, 16)}, "log")`. Parts
    may be functions too: nothing is rounded between them. A plan in which a value could lie
    outside a function's domain, or be too large for the element type, is refused.

    Args:
        parts: the part, with its name.
        function: exp, expm1, log, log1p, sqrt, square, reciprocal, abs, softplus (log(1 + e^x)),
            inverse_softplus, add (a), multiply (by a), or clamp (to at least a and at most b).
        a: the number of add and multiply; the lower bound of clamp, None for none.
        b: the upper bound of clamp, None for none.
        common: dtype and seed are as in `concatenate`.
    """
    return _composed("apply", parts, common, function=function, a=a, b=b)


@builder
def norm(parts: Parts, axes: Axes = (), **common: Unpack[Common]) -> Tensor:
    """The Euclidean norm of one part over all dimensions that are not in `axes`.

    The magnitudes of `torch.nn.utils.parametrizations.weight_norm(layer, dim=0)` are
    `ic.norm({"layer.weight": ...}, axes=(0,))`, whose shape is [out, 1, ...]: dimensions that are
    not kept have size 1. Squares are added up in double, in a fixed order. Each element costs
    all elements of the part that it is the norm of, in every process that wants it.
    Dtype and seed are as in `concatenate`.
    """
    return _composed("norm", parts, common, axes=axes)


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
