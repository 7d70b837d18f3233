"""Formulas in recipes: arithmetic over named numbers, the same to the bit on every machine.

Numbers are IEEE doubles and operations `+ - * / sqrt min max`, which round correctly
everywhere. Powers are products and square roots, because a library's pow need not round
correctly. A formula reaches nothing else of Python.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

Lookup = Callable[[str], float]
"""Returns the value of a name."""

_MAX_LENGTH = 200
_MAX_POWER = 64

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"sqrt": math.sqrt, "min": min, "max": max}

FUNCTIONS = tuple(_FUNCTIONS)
"""Names that stand for functions in formulas."""

_REMEDY = "use numbers, names, + - * / **, parentheses, sqrt, min and max"


class FormulaError(ValueError):
    """The text is not a formula, or has no value."""


@dataclass(frozen=True)
class Formula:
    """A formula, or a condition that compares formulas.

    Attributes:
        text: as it was written.
        names: the names that it uses, in the order of their first use.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def value(self, lookup: Lookup) -> float:
        """Its value, a finite double.

        Raises:
            FormulaError: if it has none; the error shows the values of the names.
        """
        known: dict[str, float] = {}

        def remembered(name: str) -> float:
            return known.setdefault(name, float(lookup(name)))

        try:
            value = _value(self._tree, remembered)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, FormulaError):
                raise
            raise FormulaError(f"is {self.text}, {_with(known)}: {error}") from error
        if not math.isfinite(value):
            raise FormulaError(f"is {self.text}, {_with(known)}, beyond the range of a double")
        return value

    def holds(self, lookup: Lookup) -> bool:
        """Whether the condition is true.

        Raises:
            FormulaError: if a value that it needs is missing.
        """
        try:
            return _holds(self._tree, lambda name: float(lookup(name)))
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, FormulaError):
                raise
            raise FormulaError(f"is {self.text}: {error}") from error


def parse(text: str, condition: bool = False) -> Formula:
    """Parses a formula; with condition=True, a condition, which is true or false.

    Raises:
        FormulaError: if the text is not a formula; the error names the wrong part and a remedy.
    """
    if len(text) > _MAX_LENGTH:
        raise FormulaError(
            f"has {len(text)} characters; a formula has at most {_MAX_LENGTH}. Give parts of it "
            "names, under arguments"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"is {text!r}, which is not a formula; {_REMEDY}") from error
    names: dict[str, None] = {}
    (_check_condition if condition else _check)(tree, names)
    return Formula(text.strip(), tuple(names), tree)


def _check(node: ast.expr, names: dict[str, None]) -> None:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            _number(node)
        case ast.Name(id=name):
            if name in _FUNCTIONS:
                raise FormulaError(f"has {name} without parentheses, such as {name}(2)")
            names[name] = None
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            _check(node.operand, names)
        case ast.BinOp(op=ast.Pow()):
            _check(node.left, names)
            _exponent(node.right)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            _check(node.left, names)
            _check(node.right, names)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            takes_one = name == "sqrt"
            if (len(node.args) != 1) if takes_one else (len(node.args) < 2):
                values = "one value" if takes_one else "two values or more"
                raise FormulaError(f"has {ast.unparse(node)}; {name} takes {values}")
            for argument in node.args:
                _check(argument, names)
        case _:
            raise FormulaError(f"has {ast.unparse(node)!r}, which no formula can have; {_REMEDY}")


def _check_condition(node: ast.expr, names: dict[str, None]) -> None:
    match node:
        case ast.BoolOp():
            for part in node.values:
                _check_condition(part, names)
        case ast.UnaryOp(op=ast.Not()):
            _check_condition(node.operand, names)
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            for part in (node.left, *node.comparators):
                _check(part, names)
        case _:
            raise FormulaError(
                f"has {ast.unparse(node)!r}, which is not a condition; compare formulas with "
                "== != < <= > >=, and join with and, or, not"
            )


def _number(node: ast.Constant) -> float:
    value = node.value
    assert isinstance(value, int | float)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number != value:
        raise FormulaError(f"has {ast.unparse(node)}, which no double holds")
    return number


def _exponent(node: ast.expr) -> float:
    sign = -1.0 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1.0
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    value = inner.value if isinstance(inner, ast.Constant) else None
    if type(value) in (int, float):
        assert isinstance(value, int | float)
        if value == 0.5 or (value == int(value) and 0 <= value <= _MAX_POWER):
            return sign * value
    raise FormulaError(
        f"has the exponent {ast.unparse(node)!r}; it must be a whole number up to {_MAX_POWER} or "
        "0.5, or one of these with a minus. sqrt(sqrt(x)) is the fourth root"
    )


def _value(node: ast.expr, lookup: Lookup) -> float:
    match node:
        case ast.Constant():
            return _number(node)
        case ast.Name():
            return lookup(node.id)
        case ast.UnaryOp():
            value = _value(node.operand, lookup)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp(op=ast.Pow()):
            return _power(_value(node.left, lookup), _exponent(node.right))
        case ast.BinOp():
            left, right = _value(node.left, lookup), _value(node.right, lookup)
            return _ARITHMETIC[type(node.op)](left, right)
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](*(_value(argument, lookup) for argument in node.args))
        case _:
            raise AssertionError(ast.unparse(node))  # parse refuses everything else


def _power(base: float, exponent: float) -> float:
    size = abs(exponent)
    if size == 0.5:
        value = math.sqrt(base)
    else:
        value = 1.0
        for _ in range(int(size)):
            value *= base
    return 1.0 / value if exponent < 0 else value


def _holds(node: ast.expr, lookup: Lookup) -> bool:
    match node:
        case ast.BoolOp():
            parts = (_holds(part, lookup) for part in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.UnaryOp():
            return not _holds(node.operand, lookup)
        case ast.Compare():
            values = [_value(part, lookup) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARISONS[type(op)](a, b) for op, a, b in pairs)
        case _:
            raise AssertionError(ast.unparse(node))


def _with(known: dict[str, float]) -> str:
    shown = ", ".join(f"{name} = {value:g}" for name, value in known.items())
    return f"with {shown}" if shown else "a number"
