"""The arguments of builders: their types, the keywords that all have, and the checks at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, Protocol, SupportsFloat, SupportsIndex, TypedDict

import numpy as np

from initcore.dtypes import DTypeName
from initcore.errors import PlanError, Violation
from initcore.plan.plan import Tensor
from initcore.plan.schemes import REALS, REQUIRED, SCHEMES
from initcore.plan.spelling import suggestion
from initcore.plan.validation import Check, check_alone, check_dtype

Shape = SupportsIndex | Sequence[SupportsIndex]
"""Sizes of any library: a tuple, torch.Size, NumPy integers; an integer is a 1-D shape."""

Real = SupportsFloat
"""A number of any library."""

Values = Iterable[Any] | SupportsFloat
"""Numbers of any library and nesting."""


class LibraryDType(Protocol):
    """An element type of NumPy or torch: numpy.dtype, torch.dtype."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""


DType = DTypeName | type[Any] | LibraryDType | None


class Common(TypedDict, total=False):
    """What every builder takes besides the scheme's own arguments."""

    dtype: DType
    stream: str | None
    seed: SupportsIndex | None
    zero_rows: Sequence[SupportsIndex] | None


_P = ParamSpec("_P")


def builder(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """The builder, which answers habits of other libraries with the call that is meant.

    Sizes as several arguments (`zeros(3, 4)`) and keywords of NumPy, JAX, TensorFlow and Keras
    (`stddev=`, `minval=`) are a TypeError that says so.
    """
    taken = inspect.signature(function).parameters.values()
    named = [one.name for one in taken if one.kind is not one.VAR_KEYWORD]
    places = [one.name for one in taken if one.kind is one.POSITIONAL_OR_KEYWORD]
    known = {*named, *Common.__annotations__}

    @wraps(function)
    def built(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        if len(args) > min(len(places), 2):
            _check_places(function.__name__, places, args)
        if not known.issuperset(kwargs):
            wrong = next(name for name in kwargs if name not in known)
            meant = suggestion(wrong, [*named, *Common.__annotations__])
            raise TypeError(f"ic.{function.__name__} takes no argument {wrong!r}: {meant}")
        return function(*args, **kwargs)

    return built


def tensor(scheme: str, shape: Shape, common: Common, **arguments: Any) -> Tensor:
    """A tensor of a scheme, with the keywords that builders have in common.

    Raises:
        PlanError: for wrong values that each field shows by itself: unknown names, text for a
            number, an array for its shape.
    """
    _check_shape(scheme, shape, arguments)
    _check_given(scheme, arguments)
    made = Tensor(scheme=scheme, shape=shape, **common, **arguments)  # type: ignore[arg-type]
    check = Check("", None)
    if isinstance(common.get("dtype"), str):
        # A library's own type that no file can have comes from a model, whose plan names all
        # tensors that have it.
        check_dtype(check, made)
    check_alone(check, made)
    if check.failed:
        raise PlanError(check.violations)
    if scheme == "permute":
        _check_scalar(made)
    return made


def _check_shape(scheme: str, shape: Any, arguments: dict[str, Any]) -> None:
    sizes = getattr(shape, "shape", ())
    if isinstance(sizes, Sequence) and (len(sizes) > 1 or (sizes and _is_inexact(shape))):
        _fail("shape", f"is an array of shape {list(sizes)}; give its shape: ic.{scheme}(w.shape)")
    if not arguments or scheme == "constant" or not _is_integer(shape):
        # Four times the constant 4 is ic.constant(4, 4).
        return
    (name, value), *rest = arguments.items()
    if not _is_integer(value) or value < 2 or not all(_is_default(scheme, *one) for one in rest):
        return
    text = f"is {shape}, and {name} is {value}; the shape is one argument: "
    text += f"ic.{scheme}(({shape}, {value}))"
    if name == "mean":
        # Others have no such vectors, or no such values.
        text += f". If {name} is meant, write ic.{scheme}(({shape},), {name}={value})"
    _fail("shape", text)


def _check_given(scheme: str, arguments: dict[str, Any]) -> None:
    """Refuses None, which means the default in a Tensor: here a number was meant and is missing."""
    absent = [name for name, value in arguments.items() if value is None]
    for name in absent:
        default = SCHEMES[scheme].arguments[name]
        if default is not None and default is not REQUIRED:
            _fail(name, f"is None; give a value, or leave {name} out, which means {default!r}")


def _check_places(name: str, places: Sequence[str], args: Sequence[Any]) -> None:
    if len(args) <= len(places) and set(places[1 : len(args)]) <= set(REALS):
        # A mean and a std may be integers.
        return
    if all(map(_is_integer, args)):
        sizes = ", ".join(str(int(value)) for value in args)
        raise TypeError(
            f"ic.{name}({sizes}) has its sizes as {len(args)} arguments; the shape is one: "
            f"ic.{name}(({sizes}))"
        )
    if len(args) > len(places):
        raise TypeError(
            f"ic.{name} has {len(args)} arguments without a name; it takes {', '.join(places)}, "
            "and the others by their names, such as dtype="
        )


def _is_default(scheme: str, name: str, value: Any) -> bool:
    default = SCHEMES[scheme].arguments[name]
    return type(value) is type(default) and bool(value == default)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_inexact(array: Any) -> bool:
    try:
        array[0].__index__()
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return True
    except IndexError:
        return False
    return False


def _check_scalar(made: Tensor) -> None:
    name, part = (made.parts or (("", None),))[0]
    if isinstance(part, Tensor) and part.parts is None and not part.shape:
        given = list(made.axes or ())
        _fail("axes", f"is {given}, but {name!r} is a scalar, which has no axes; take it as it is")


def _fail(field: str, message: str) -> NoReturn:
    raise PlanError([Violation("", field, message)])
