"""Plain values: the fields of a tensor as Python's own, from those of any library.

What has no plain form comes back as it is, and validation refuses it with the tensor's name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from initcore.dtypes import canonical_name
from initcore.plan.schemes import REALS


def plain_int(value: Any) -> Any:
    """A Python int for any integer type (NumPy's too); anything else as it is, for validation."""
    if type(value) is int or isinstance(value, bool):
        return value
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return value


def plain_ints(values: Any) -> tuple[Any, ...]:
    """Python ints for one integer, or several, of any library; others stay, for validation."""
    if type(values) is tuple and set(map(type, values)) <= {int}:
        return values
    # torch.nn.init takes tensors, people pass sizes: an int is a 1-D shape.
    one = values if isinstance(values, tuple | list) else plain_int(values)
    if isinstance(one, int):
        return (one,)
    try:
        return tuple(plain_int(value) for value in values)
    except (TypeError, ValueError, RuntimeError):
        return (values,)


def _some_ints(values: Any) -> tuple[Any, ...] | None:
    """The same; None for an empty list: it means the default, and plan files have no other."""
    return plain_ints(values) or None


def plain_number(value: Any) -> Any:
    """A Python number for a number of any library; anything else as it is, for validation."""
    if value is None or type(value) in (float, int, bool):
        return value
    number = value
    if hasattr(value, "item"):
        try:
            number = value.item()
        except (TypeError, ValueError, RuntimeError):
            return value
    if isinstance(number, int):
        return number
    try:
        # Integers stay integers: a double does not hold all of them.
        return operator.index(number)
    except TypeError:
        pass
    try:
        # numpy.longdouble, ml_dtypes' scalars, Decimal and Fraction; text has no __float__.
        return float(number) if hasattr(number, "__float__") else value
    except (TypeError, ValueError, OverflowError):
        return value


def _plain_val(value: Any) -> Any:
    """The same, and True as 1, since both make one plan."""
    number = plain_number(value)
    return int(number) if isinstance(number, bool) else number


def _plain_numbers(values: Any) -> tuple[Any, ...]:
    """A tuple of Python numbers, row by row, of numbers of any library and nesting."""
    if hasattr(values, "tolist"):
        try:
            values = values.tolist()
        except (TypeError, ValueError, RuntimeError):
            # A tensor without values, such as those on torch's meta device.
            return (values,)
    # A set has no order, and a mapping has keys.
    if isinstance(values, str | bytes | Set | Mapping) or not isinstance(values, Iterable):
        values = [values]
    found: list[Any] = []
    for value in values:
        found += _plain_numbers(value) if _is_nested(value) else (plain_number(value),)
    # True and 1 are one plan.
    return tuple(int(value) if isinstance(value, bool) else value for value in found)


def shape_of(values: Any) -> tuple[int, ...] | None:
    """The shape of an array of any library, or of nested lists; None for uneven lists.

    For anything else, such as a number or a range, it is ().
    """
    shape = getattr(values, "shape", None)
    if shape is not None:
        return tuple(map(int, shape))
    if not isinstance(values, list | tuple):
        return ()
    inner = {shape_of(one) if _is_nested(one) else () for one in values}
    if len(inner) > 1:
        return None
    one = inner.pop() if inner else ()
    return None if one is None else (len(values), *one)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | tuple) or bool(getattr(value, "shape", False))


def _some_numbers(values: Any) -> tuple[Any, ...] | None:
    """The same; None for an empty list, which means that there is none, as on the wire."""
    return _plain_numbers(values) or None


def _plain_text(value: Any) -> Any:
    """A Python str for text of any library (numpy.str_), or a member of an enum of texts."""
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value


def _lower(value: Any) -> Any:
    """Text in lower case: torch takes "FAN_IN" too, and plan files write names in capitals."""
    return _plain_text(value).lower() if isinstance(value, str) else value


def _plain_parts(parts: Any) -> tuple[Any, ...] | None:
    pairs = parts.items() if isinstance(parts, Mapping) else parts
    return tuple((name, part) for name, part in pairs) or None


def _plain_slices(slices: Any) -> tuple[Any, ...] | None:
    return tuple((plain_int(start), plain_int(stop)) for start, stop in slices) or None


PLAIN: dict[str, Callable[[Any], Any]] = {
    "shape": plain_ints,
    "dtype": canonical_name,
    "scheme": _lower,
    "mode": _lower,
    "nonlinearity": _lower,
    "distribution": _lower,
    "layout": _lower,
    "function": _lower,
    "stream": _plain_text,
    "checkpoint": _plain_text,
    "source": _plain_text,
    "sha256": _lower,
    **dict.fromkeys(REALS, plain_number),
    "val": _plain_val,
    "relative": plain_number,
    "seed": plain_int,
    "groups": plain_int,
    "axis": plain_int,
    "batch_axes": _some_ints,
    "zero_rows": _some_ints,
    "axes": _some_ints,
    "parts": _plain_parts,
    "values": _some_numbers,
    "slices": _plain_slices,
}
"""Each field that has several spellings, and what makes the plain one of them."""
