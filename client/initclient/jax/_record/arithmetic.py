"""Arithmetic on draws: what elementwise operations of one operand make of their laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from initclient._laws import (
    Applied,
    Cell,
    Constant,
    Law,
    Normal,
    NotUnderstoodError,
    Patch,
    Source,
    Uniform,
    law_text,
    through_clamp,
    through_erfinv,
    through_function,
)
from initclient.jax._record.bits import Bits, from_bits, through_bits
from initclient.jax._record.pieces import constant_of, piecewise
from initclient.jax._trace import Known, Random, Value, number, single

Step = tuple[str, float | None]
Change = Callable[[Law], Law]
"""From the law of an operand to that of a result."""

_FUNCTIONS: dict[str, tuple[Step, ...]] = {
    "abs": (("abs", None),),
    "exp": (("exp", None),),
    "exp2": (("multiply", math.log(2)), ("exp", None)),
    "expm1": (("expm1", None),),
    "log": (("log", None),),
    "log1p": (("log1p", None),),
    "neg": (("multiply", -1.0),),
    "rsqrt": (("sqrt", None), ("reciprocal", None)),
    "sqrt": (("sqrt", None),),
    "square": (("square", None),),
}
_POWERS: dict[float, tuple[Step, ...]] = {
    1.0: (),
    2.0: (("square", None),),
    0.5: (("sqrt", None),),
    -0.5: (("sqrt", None), ("reciprocal", None)),
    -1.0: (("reciprocal", None),),
    -2.0: (("square", None), ("reciprocal", None)),
}
ELEMENTWISE = {*_FUNCTIONS, "add", "add_any", "bitcast_convert_type", "clamp", "div", "erf_inv"} | {
    "convert_element_type",
    "integer_pow",
    "max",
    "min",
    "mul",
    "or",
    "pow",
    "reduce_precision",
    "shift_right_logical",
    "sub",
}
"""Operations on draws that this file knows."""


def elementwise(equation: Any, operands: Sequence[Value], source: Source | None) -> Random:
    """The result of an elementwise operation in which draws take part.

    Raises:
        NotUnderstoodError: for arithmetic whose law is not known.
    """
    out = equation.outvars[0].aval
    name = equation.primitive.name
    drawn = [one for one in operands if isinstance(one, Random)]
    if len(drawn) > 1:
        return _of_two(equation, drawn, source)
    x = drawn[0]
    if x.shape != tuple(out.shape):
        raise NotUnderstoodError("draws are repeated by arithmetic", None)
    first = operands[0] is x
    if name in ("mul", "div", "add", "add_any", "sub"):
        other = operands[1] if first else operands[0]
        assert isinstance(other, Known)
        if name == "div" and not first:
            made = _with_each(x, other, _divided_by, "/", source)
        else:
            made = _with_each(x, other, _AFFINE[name, first], name, source)
    else:
        change, text = _change(equation, operands, x)
        made = _changed(x, change, text, source)
    return replace(made, dtype=np.dtype(out.dtype))


def combined(name: str, x: Value, y: Value, source: Source | None) -> Random:
    """x + y, x - y or x * y of an array of draws and a known one.

    Raises:
        NotUnderstoodError: if both are drawn, or none is.
    """
    first = isinstance(x, Random)
    drawn, other = (x, y) if first else (y, x)
    if isinstance(drawn, Random) and isinstance(other, Known):
        return _with_each(drawn, other, _AFFINE[name, first], name, source)
    raise NotUnderstoodError("it combines draws" if first else "it is computed", None)


def _change(equation: Any, operands: Sequence[Value], x: Random) -> tuple[Change, str]:
    name, params = equation.primitive.name, equation.params
    first = operands[0] is x
    if name in ("or", "shift_right_logical"):
        bits = _number(operands[1] if first else operands[0])
        if name == "shift_right_logical" and not first:
            raise NotUnderstoodError("its arithmetic is on the bits of a draw", None)
        return (lambda law: through_bits(law, name, int(bits))), f"{name} {int(bits)}"
    if name == "bitcast_convert_type":
        return (lambda law: from_bits(law, np.dtype(params["new_dtype"]))), name
    if name == "convert_element_type":
        return _conversion(x, equation.outvars[0].aval.dtype), ""
    if name == "reduce_precision":
        return _precision(x, int(params["exponent_bits"]), int(params["mantissa_bits"])), ""
    if name == "erf_inv":
        return (lambda law: _through_erf_inv(law, x.dtype)), name
    if name in ("max", "min", "clamp"):
        low, high = -math.inf, math.inf
        if name == "clamp":
            if operands[1] is not x:
                raise NotUnderstoodError("draws are the bounds of a clamp", None)
            low, high = _number(operands[0]), _number(operands[2])
        elif name == "max":
            low = _number(operands[1] if first else operands[0])
        else:
            high = _number(operands[1] if first else operands[0])
        return (lambda law: through_clamp(law, low, high)), f"clamp {low:.17g} {high:.17g}"
    steps = _FUNCTIONS.get(name)
    if name == "integer_pow":
        steps = _POWERS.get(float(params["y"]))
    elif name == "pow" and first:
        steps = _POWERS.get(_number(operands[1]))
    elif name == "pow":
        base = _number(operands[0])
        steps = (("multiply", math.log(base)), ("exp", None)) if base > 0 else None
    if steps is None:
        raise NotUnderstoodError("no plan computes this function of a draw", None)
    found = steps
    return (lambda law: _through(law, found)), name


def _conversion(x: Random, dtype: Any) -> Change:
    before, after = np.dtype(x.dtype), np.dtype(dtype)

    def change(law: Law) -> Law:
        if isinstance(law, Bits):
            is_integer = jnp.issubdtype(dtype, np.unsignedinteger)
            if after.itemsize < before.itemsize or not is_integer:
                raise NotUnderstoodError("it converts random integers", None)
            return law
        if not jnp.issubdtype(dtype, np.floating):
            raise NotUnderstoodError(f"a draw is converted to {after.name}", None)
        if _digits(dtype) > _digits(x.dtype) and not isinstance(law, Constant):
            raise NotUnderstoodError(
                f"its draws were rounded to {before.name} before they became {after.name}, and a "
                f"plan draws all values of {after.name}",
                None,
            )
        return law

    return change


def _precision(x: Random, exponent_bits: int, mantissa_bits: int) -> Change:
    own = jnp.finfo(x.dtype)  # type: ignore[no-untyped-call]

    def change(law: Law) -> Law:
        if isinstance(law, Constant):
            return law
        if mantissa_bits < own.nmant:
            raise NotUnderstoodError(f"its draws are rounded to {mantissa_bits} bits", None)
        if exponent_bits < own.nexp:
            reason = f"its draws are rounded to exponents of {exponent_bits} bits"
            raise NotUnderstoodError(reason, None)
        return law

    return change


def _digits(dtype: Any) -> int:
    return int(jnp.finfo(dtype).nmant)  # type: ignore[no-untyped-call]


def _through_erf_inv(law: Law, dtype: Any) -> Law:
    # JAX draws from the number after -1, which has the inverse that -1 lacks.
    one = np.dtype(dtype).type(1)
    after = -float(np.nextafter(one, np.dtype(dtype).type(0)))
    if isinstance(law, Uniform) and law.b == 1 and abs(law.a - after) <= (1 + after) / 4:
        return Normal(0.0, math.sqrt(0.5))
    return through_erfinv(law)


def _through(law: Law, steps: tuple[Step, ...]) -> Law:
    if isinstance(law, Bits):
        raise NotUnderstoodError("its arithmetic is on the bits of a draw", None)
    for function, amount in steps:
        if function == "multiply" and amount is not None:
            law = law.affine(amount, 0.0)
        else:
            law = through_function(law, function)
    return law


def _divided_by(law: Law, amount: float) -> Law:
    return _through(law, (("reciprocal", None), ("multiply", amount)))


def _scaled(law: Law, scale: float, shift: float) -> Law:
    if isinstance(law, Bits):
        raise NotUnderstoodError("its arithmetic is on the bits of a draw", None)
    if not (math.isfinite(scale) and math.isfinite(shift)):
        raise NotUnderstoodError("its other operand is not finite", None)
    return law.affine(scale, shift)


def _quotient(law: Law, amount: float) -> Law:
    if amount == 0:
        raise NotUnderstoodError("it divides by zero", None)
    return _scaled(law, 1 / amount, 0.0)


# By operation, and whether the draw is its first operand.
_AFFINE: dict[tuple[str, bool], Callable[[Law, float], Law]] = {
    ("mul", True): lambda law, amount: _scaled(law, amount, 0.0),
    ("mul", False): lambda law, amount: _scaled(law, amount, 0.0),
    ("div", True): _quotient,
    ("add", True): lambda law, amount: _scaled(law, 1.0, amount),
    ("add", False): lambda law, amount: _scaled(law, 1.0, amount),
    ("add_any", True): lambda law, amount: _scaled(law, 1.0, amount),
    ("add_any", False): lambda law, amount: _scaled(law, 1.0, amount),
    ("sub", True): lambda law, amount: _scaled(law, 1.0, -amount),
    ("sub", False): lambda law, amount: _scaled(law, -1.0, amount),
}


def _with_each(
    x: Random, other: Known, change: Callable[[Law, float], Law], name: str, source: Source | None
) -> Random:
    """The draws, changed by the number that the other operand has at each place."""
    if other.from_key:
        raise NotUnderstoodError("it computes with a random key as with a number", None)
    found = single(other)
    if found is not None:
        amount = number(found)
        return _changed(x, lambda law: change(law, amount), f"{name} {amount:.17g}", source)

    def changed(cell: Cell, element: np.generic) -> Cell:
        amount = number(element)
        law = change(cell.law, amount)
        return _without_draws(cell.changed(law, f"{name} {amount:.17g}", source))

    # JAX repeats the axes of size 1 of an operand by itself.
    repeated = np.broadcast_to(np.asarray(other.array), x.shape)
    return piecewise(x, replace(other, array=repeated), changed)


def _changed(x: Random, change: Change, text: str, source: Source | None) -> Random:
    patches = []
    for patch in x.patches:
        law = change(patch.cell.law)
        # Steps within jax.random change nothing that people should read.
        cell = patch.cell if not text else patch.cell.changed(law, text, source)
        patches.append(Patch(patch.bounds, _without_draws(replace(cell, law=law))))
    return replace(x, patches=tuple(patches))


def _without_draws(cell: Cell) -> Cell:
    return replace(cell, uses=()) if isinstance(cell.law, Constant) else cell


def _of_two(equation: Any, drawn: Sequence[Random], source: Source | None) -> Random:
    """`x + log(-expm1(-x))`, which takes one draw twice: the inverse of softplus."""
    if equation.primitive.name in ("add", "add_any") and all(len(x.patches) == 1 for x in drawn):
        for x, other in (tuple(drawn), tuple(drawn[::-1])):
            one, two = x.patches[0], other.patches[0]
            same = one.bounds == two.bounds and one.cell.uses == two.cell.uses
            if same and x.shape == other.shape and _is_inverse(two.cell.law, one.cell.law):
                law = through_function(one.cell.law, "inverse_softplus")
                cell = one.cell.changed(law, "inverse_softplus", source)
                return replace(x, patches=(Patch(one.bounds, cell),))
    raise NotUnderstoodError("it combines draws", None)


def _is_inverse(law: Law, x: Law) -> bool:
    """Whether a law is `log(-expm1(-x))` of the draw that x is."""
    for function in ("log", "multiply", "expm1"):
        if not isinstance(law, Applied) or law.function != function:
            return False
        if function == "multiply" and law.a != -1:
            return False
        law = law.law
    return law_text(law) == law_text(x.affine(-1.0, 0.0))


def _number(value: Value) -> float:
    found = single(value)
    if found is None:
        raise NotUnderstoodError("its other operand has more than one value", None)
    return constant_of(found)
