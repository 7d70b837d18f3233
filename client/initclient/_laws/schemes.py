"""Schemes: the tensor of a plan that a law becomes. A law without a row has no scheme yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import initcore as ic
from initcore import Plan, PlanError, Tensor, layout

from initclient._laws.distributions import (
    Applied,
    Arranged,
    Constant,
    Dirac,
    Eye,
    Law,
    Normal,
    Orthogonal,
    Sparse,
    Truncated,
    Uniform,
    Values,
    law_text,
)

# A bound this many standard deviations away cuts off nothing that a float32 could show.
_FAR = 40.0


def lack(law: Law) -> str:
    """Why no plan can have tensors of this law, as half a sentence; "" if one can."""
    if isinstance(law, Applied):
        return _function_lack(law)
    if isinstance(law, Arranged):
        return lack(law.law)
    if isinstance(law, Constant):
        has = not isinstance(law.val, complex) and math.isfinite(law.val)
    else:
        has = type(law) in _BUILDERS
    return "" if has else f"no scheme has {law_text(law)}"


def tensor_of(law: Law, shape: tuple[int, ...], dtype: Any, stream: str | None = None) -> Tensor:
    """The tensor of a plan for a law that has a scheme.

    Args:
        law: the law.
        shape: the tensor's shape.
        dtype: its element type.
        stream: the name of its random stream; None means the tensor's name.
    """
    return _BUILDERS[type(law)](law, shape, {"dtype": dtype, "stream": stream})


@cache
def _function_lack(law: Applied) -> str:
    inner = lack(law.law)
    if inner:
        return inner
    if not law.is_independent:
        return f"no scheme has {law_text(law)}"
    made = tensor_of(law, (1,), "F64")
    try:
        layout(Plan({"x": made}, 0))
    except PlanError as error:
        found = error.violations[0]
        return f"no scheme has {law_text(law)}: its {found.field} {found.message}"
    return ""


def _applied(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    law = cast(Applied, law)
    part = _BUILDERS[type(law.law)](law.law, shape, common)
    return ic.apply({"x": part}, cast(Any, law.function), law.a, law.b)


def _arranged(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    law = cast(Arranged, law)
    made = _BUILDERS[type(law.law)](law.law, law.shape, common)
    for step, sizes in law.steps:
        parts = {"matrix": made}
        made = ic.permute(parts, sizes) if step == "permute" else ic.reshape(sizes, parts)
    return made


def _values(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    return ic.literal(shape, cast(Values, law).numbers, dtype=common["dtype"])


def _constant(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    value = cast(Constant, law).val
    plain = {"dtype": common["dtype"]}
    if value == 0 and math.copysign(1.0, value) > 0:
        return ic.zeros(shape, **plain)
    return ic.ones(shape, **plain) if value == 1 else ic.constant(shape, value, **plain)


def _truncated(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    law = cast(Truncated, law)
    a = max(law.a, law.mean - _FAR * law.std) if math.isinf(law.a) else law.a
    b = min(law.b, law.mean + _FAR * law.std) if math.isinf(law.b) else law.b
    return ic.trunc_normal(shape, mean=law.mean, std=law.std, a=a, b=b, **common)


def _plainly(builder: Callable[..., Tensor], *names: str) -> Callable[..., Tensor]:
    def build(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
        return builder(shape, **{name: getattr(law, name) for name in names}, **common)

    return build


def _eye(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    gain, plain = cast(Eye, law).gain, {"dtype": common["dtype"]}
    return ic.eye(shape, **plain) if gain == 1 else ic.identity(shape, gain, **plain)


def _dirac(law: Law, shape: tuple[int, ...], common: dict[str, Any]) -> Tensor:
    return ic.dirac(shape, groups=cast(Dirac, law).groups, dtype=common["dtype"])


_BUILDERS: dict[type[Law], Callable[[Any, tuple[int, ...], dict[str, Any]], Tensor]] = {
    Constant: _constant,
    Normal: _plainly(ic.normal, "mean", "std"),
    Uniform: _plainly(ic.uniform, "a", "b"),
    Truncated: _truncated,
    Orthogonal: _plainly(ic.orthogonal, "gain"),
    Sparse: _plainly(ic.sparse, "sparsity", "std"),
    Eye: _eye,
    Dirac: _dirac,
    Applied: _applied,
    Arranged: _arranged,
    Values: _values,
}
