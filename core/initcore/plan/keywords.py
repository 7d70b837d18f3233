"""The arguments of builders: their types, the keywords that all have, and the checks at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NoReturn, Protocol, SupportsFloat, SupportsIndex, TypedDict

import numpy as np

from initcore.errors import PlanError, Violation
from initcore.plan.plan import Tensor
from initcore.plan.schemes import SCHEMES
from initcore.plan.validation import Check, check_alone, check_dtype

Shape = SupportsIndex | Sequence[SupportsIndex]
"""Sizes of any library: a tuple, torch.Size, NumPy integers; an integer is a 1-D shape."""

Real = SupportsFloat
"""A number of any library."""

Values = Iterable[Any] | SupportsFloat
"""Numbers of any library and nesting."""

Mode = Literal["fan_in", "fan_out"]
VarianceMode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
LayoutName = Literal["torch", "jax"]
Distribution = Literal["normal", "truncated_normal", "uniform"]
Nonlinearity = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
]
FunctionName = Literal[
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "square",
    "reciprocal",
    "abs",
    "add",
    "multiply",
    "clamp",
    "softplus",
    "inverse_softplus",
]
DTypeName = Literal[
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
    "double",
    "float",
    "half",
]


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


def tensor(scheme: str, shape: Shape, common: Common, **arguments: Any) -> Tensor:
    """A tensor of a scheme, with the keywords that builders have in common.

    Raises:
        PlanError: for wrong values that each field shows by itself: unknown names, text for a
            number, an array for its shape.
    """
    _check_shape(scheme, shape, arguments)
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
