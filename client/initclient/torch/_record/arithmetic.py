"""Arithmetic on laws: numbers, constants, and elementwise operations of one operand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from initclient._laws import (
    Derived,
    Dirac,
    Eye,
    Law,
    NotUnderstoodError,
    through_clamp,
    through_erfinv,
    through_function,
)
from initclient.torch._trace import (
    Assembled,
    Call,
    Data,
    Drawn,
    Evaluation,
    Expression,
    Filled,
    NoValueError,
    Unseen,
    Unwritten,
)

SMALL = 1 << 22
"""Elements of a tensor that may be looked at one by one."""

_CLAMPS = {"clamp", "clamp_min", "clamp_max", "hardtanh"}

Step: TypeAlias = tuple[str, float | None]
"""A function that a plan computes, and its number if it takes one."""

_SAME = {"exp", "expm1", "log", "log1p", "sqrt", "square", "reciprocal", "abs"}
_STEPS: dict[str, tuple[Step, ...]] = {
    "exp2": (("multiply", math.log(2)), ("exp", None)),
    "log2": (("log", None), ("multiply", 1 / math.log(2))),
    "log10": (("log", None), ("multiply", 1 / math.log(10))),
    "rsqrt": (("sqrt", None), ("reciprocal", None)),
    "log_sigmoid_forward": (("multiply", -1.0), ("softplus", None), ("multiply", -1.0)),
}
_POWERS: dict[float, tuple[Step, ...]] = {
    2.0: (("square", None),),
    0.5: (("sqrt", None),),
    -0.5: (("sqrt", None), ("reciprocal", None)),
    -1.0: (("reciprocal", None),),
    -2.0: (("square", None), ("reciprocal", None)),
}


def constant(
    expression: Expression, values: Evaluation, taken_as: torch.dtype | None = None
) -> float | int | bool | None:
    """The number that an expression without draws has everywhere; None if values differ.

    Args:
        expression: the expression.
        values: values of expressions without draws.
        taken_as: the element type of what takes the number, None for its own.

    Raises:
        NotUnderstoodError: if it has no values, or too many to be looked at.
    """
    if isinstance(expression, Filled) and not (
        expression.dtype.is_complex or isinstance(expression.value, complex)
    ):
        if expression.dtype.is_floating_point:
            number = float(expression.value)
            if taken_as is None or holds(expression.dtype, taken_as):
                # The element type rounds it, in a plan too.
                return number
            return float(torch.tensor(number, dtype=expression.dtype).item())
        return int(torch.tensor(expression.value, dtype=expression.dtype).item())
    if isinstance(expression, Call) and torch.Tag.pointwise in expression.function.tags:
        operands = list(expression.operands())
        if operands and all(isinstance(one, Filled) for one in operands):
            return _pointwise(expression, values)
    # Unwritten memory has no values to look at, and says so.
    is_looked_at = not isinstance(expression, Data | Unwritten | Unseen)
    if math.prod(expression.shape) > SMALL and is_looked_at:
        raise NotUnderstoodError("it is computed, and too large to look at", expression)
    found = value(expression, values)
    if found.numel() == 0:
        return 0
    first = found.flatten()[0]
    if not bool((found == first).all()) or found.is_complex():
        return None
    if found.is_floating_point() and bool((found.signbit() != first.signbit()).any()):
        return None
    number = first.item()
    return None if isinstance(number, complex) else number


def holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether an element type has all values of another one; False for integers."""
    if not (wide.is_floating_point and narrow.is_floating_point):
        return False
    one, other = torch.finfo(wide), torch.finfo(narrow)
    least, most = one.tiny * one.eps, one.max
    return one.eps <= other.eps and least <= other.tiny * other.eps and most >= other.max


def refuse_rounded_draws(expression: Expression) -> None:
    """Refuses draws that were rounded to another element type, whose values are fewer.

    Draws of float32 that become float64 are none of these: a law says nothing of the last bits.

    Raises:
        NotUnderstoodError: naming both element types.
    """
    final = torch.float32 if expression.dtype == torch.float64 else expression.dtype
    if not final.is_floating_point:
        return
    seen: set[int] = set()
    left = [expression]
    while left:
        one = left.pop()
        if id(one) in seen or not one.is_random:
            continue
        seen.add(id(one))
        if isinstance(one, Drawn) and isinstance(one.law, Eye | Dirac):
            # Every element type has 0 and 1.
            continue
        if one.dtype.is_floating_point and not holds(one.dtype, final):
            kinds = [str(kind).removeprefix("torch.") for kind in (one.dtype, expression.dtype)]
            reason = (
                f"its draws were rounded to {kinds[0]} before they became {kinds[1]}, and a plan "
                f"would draw all values of {kinds[1]}"
            )
            raise NotUnderstoodError(reason, one, is_final=True)
        left += one.operands()


def value(expression: Expression, values: Evaluation) -> torch.Tensor:
    """The values of an expression without draws.

    Raises:
        NotUnderstoodError: if it has none.
    """
    try:
        return values.value(expression)
    except NoValueError as error:
        raise NotUnderstoodError(str(error), error.expression) from error


def affine(call: Call, values: Evaluation) -> tuple[Expression, float, float] | None:
    """(x, scale, shift) of an operation `scale * x + shift` with numbers, and x of its shape."""
    name, args = call.name, call.args
    if name == "neg":
        return args[0], -1.0, 0.0
    if name not in ("mul", "div", "add", "sub", "rsub", "multiply", "true_divide"):
        return None
    if len(args) < 2 or is_rounded(call):
        return None
    left, right = args[0], args[1]
    alpha = float(call.keywords.get("alpha", args[2] if len(args) > 2 else 1))
    if name == "rsub":
        name, left, right = "sub", right, left
    if _is_operand(left, call) and (number := _number(right, values, call)) is not None:
        if name in ("div", "true_divide"):
            return (left, 1 / number, 0.0) if number else None
        if name in ("mul", "multiply"):
            return left, number, 0.0
        return left, 1.0, alpha * number if name == "add" else -alpha * number
    if _is_operand(right, call) and (number := _number(left, values, call)) is not None:
        if name in ("mul", "multiply"):
            return right, number, 0.0
        if name in ("add", "sub"):
            return right, alpha if name == "add" else -alpha, number
    return None


def is_rounded(call: Call) -> bool:
    """Whether an operation is a division that rounds its results to whole numbers."""
    return call.keywords.get("rounding_mode") is not None


def inverse_softplus(call: Call) -> Expression | None:
    """The x of `x + log(-expm1(-x))`, which takes one draw twice; None for other operations."""
    if call.name != "add" or call.keywords.get("alpha", 1) != 1 or len(call.args) != 2:
        return None
    for x, other in (call.args, call.args[::-1]):
        inner = other
        for name in ("log", "neg", "expm1", "neg"):
            if not isinstance(inner, Call) or inner.name != name:
                break
            inner = inner.args[0]
        else:
            if isinstance(x, Expression) and _is_same(x, inner) and x.shape == call.shape:
                return x
    return None


def function_of_laws(
    call: Call, values: Evaluation
) -> tuple[Expression, Callable[[Law], Law]] | None:
    """The operand of an elementwise operation, and the function of its law that it is."""
    name, args = call.name, call.args
    if torch.Tag.pointwise not in call.function.tags or not args or is_rounded(call):
        return None
    if len(args) == 2 and _is_operand(args[1], call):
        steps = _steps_of_second(name, _number(args[0], values, call))
        return None if steps is None else (args[1], lambda law: _through(law, steps))
    if not _is_operand(args[0], call):
        return None
    function = _function(call, values)
    return None if function is None else (args[0], function)


def _function(call: Call, values: Evaluation) -> Callable[[Law], Law] | None:
    name, args = call.name, call.args
    numbers = [_number(one, values, call) for one in args[1:] if one is not None]
    if None in numbers:
        return None
    if name == "erfinv":
        return through_erfinv
    if name in _CLAMPS or name == "relu":
        low, high = (0.0, math.inf) if name == "relu" else _limits(call, values)
        return lambda law: through_clamp(law, low, high)
    steps = _steps(call, [number for number in numbers if number is not None])
    if steps is not None:
        return lambda law: _through(law, steps)
    inner = ", ".join(["x", *(f"{number:g}" for number in numbers if number is not None)])
    return lambda law: Derived(f"{name}({inner})", law)


def _steps(call: Call, numbers: list[float]) -> tuple[Step, ...] | None:
    """The functions that a plan computes one after the other for an operation of torch."""
    name = call.name
    if name in _SAME:
        return ((name, None),)
    if name in _STEPS and not numbers:
        return _STEPS[name]
    if name == "pow" and numbers:
        return _POWERS.get(numbers[0])
    if name == "softplus":
        given = {"beta": 1.0, "threshold": 20.0, **call.keywords}
        given |= dict(zip(("beta", "threshold"), numbers, strict=False))
        beta = float(given["beta"])
        # Above its threshold torch returns x, which differs by less than a float32 can show.
        if beta > 0 and given["threshold"] >= 20:
            steps: tuple[Step, ...] = (("softplus", None),)
            return steps if beta == 1 else (("multiply", beta), *steps, ("multiply", 1 / beta))
    return None


def _steps_of_second(name: str, number: float | None) -> tuple[Step, ...] | None:
    """As `_steps`, for a number and then the operand: `2 / x` and `10 ** x`."""
    if number is None:
        return None
    if name in ("div", "true_divide"):
        return ("reciprocal", None), ("multiply", number)
    if name == "pow" and number > 0:
        return ("multiply", math.log(number)), ("exp", None)
    return None


def _through(law: Law, steps: tuple[Step, ...]) -> Law:
    for function, number in steps:
        if function == "multiply" and number is not None:
            law = law.affine(number, 0.0)
        elif function == "add" and number is not None:
            law = law.affine(1.0, number)
        else:
            law = through_function(law, function)
    return law


def _is_same(one: Any, other: Any) -> bool:
    """Whether two expressions are one content, which two views of it may show."""
    if isinstance(one, Assembled) and isinstance(other, Assembled):
        same = len(one.writes) == len(other.writes) and one.view == other.view
        pairs = zip(one.writes, other.writes, strict=False)
        return same and all(a[0] == b[0] and a[1] is b[1] for a, b in pairs)
    return one is other


def _limits(call: Call, values: Evaluation) -> tuple[float, float]:
    # torch leaves out arguments that equal their defaults.
    defaults = [-1.0, 1.0] if call.name == "hardtanh" else [None, None]
    given = [*call.args[1:], *defaults[len(call.args) - 1 :]]
    low, high = given[:2]
    if call.name == "clamp_max":
        low, high = None, given[0]
    low = call.keywords.get("min", call.keywords.get("min_val", low))
    high = call.keywords.get("max", call.keywords.get("max_val", high))
    least, most = _number(low, values, call), _number(high, values, call)
    return -math.inf if least is None else least, math.inf if most is None else most


def _pointwise(call: Call, values: Evaluation) -> float | int | bool | None:
    """One element of an elementwise operation on filled tensors, as torch computes it."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Filled):
            return leaf
        return Filled(tuple(1 for _ in leaf.shape), leaf.dtype, leaf.value)

    operands = {id(leaf): one(leaf) for leaf in call.operands()}
    shape = tuple(1 for _ in call.shape)
    args = tuple(operands.get(id(leaf), leaf) for leaf in call.args)
    keywords = {name: operands.get(id(leaf), leaf) for name, leaf in call.keywords.items()}
    changed = operands.get(id(call.changed))
    small = Call(
        shape, call.dtype, call.function, args, keywords, changed, call.output, call.overwrites
    )
    found = value(small, values)
    number = found.flatten()[0].item() if found.numel() else 0
    return None if isinstance(number, complex) else number


def _number(x: Any, values: Evaluation, call: Call) -> float | None:
    """A number, or the number that a tensor without draws has everywhere, for an operation."""
    if isinstance(x, bool | int | float):
        return float(x)
    if not isinstance(x, Expression) or x.is_random or isinstance(x, Unwritten | Unseen):
        return None
    try:
        number = constant(x, values, call.dtype)
    except NotUnderstoodError:
        return None
    return None if number is None else float(number)


def _is_operand(x: Any, call: Call) -> bool:
    return isinstance(x, Expression) and x.is_random and x.shape == call.shape
