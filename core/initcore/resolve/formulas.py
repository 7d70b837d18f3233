"""Each scheme's formula: from shape and arguments to the content of a tensor.

One function for each scheme, all with the same signature, listed in `FORMULAS`. They compute in
IEEE double with `+ - * / sqrt`, in the order of the scheme's source, so that gains, standard
deviations and bounds equal torch's to the last bit of a double. (JAX rounds to float32 in
between.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from initcore.dtypes import DType
from initcore.plan import Check, calculate_gain, fans
from initcore.resolve.contents import (
    Constant,
    DeltaOrthogonal,
    Hadamard,
    Lattice,
    Orthogonal,
    Sparse,
)
from initcore.resolve.distributions import (
    Formula,
    Parameters,
    check_range,
    normal_with,
    normal_within,
    normal_within_sigmas,
    uniform_on,
)
from initcore.resolve.literals import literal
from initcore.stream import NormalDraw, encode_scalar, fits, to_float32

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal cut to [-2, 2], as JAX and Keras write it."""

Arguments: TypeAlias = Mapping[str, Any]
Shape: TypeAlias = tuple[int, ...]


def uniform(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return uniform_on(check, dtype, given["a"], given["b"])


def normal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return normal_with(check, dtype, given["mean"], given["std"])


def trunc_normal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    mean, std, a, b = given["mean"], given["std"], given["a"], given["b"]
    if std <= 0.0:
        check.fail("std", f"is {std}; a truncated normal needs a positive standard deviation")
    if a >= b:
        check.fail("a", f"is {a}, not below b, which is {b}; the interval [a, b] would be empty")
    if check.failed:
        return None
    if given["relative"]:
        return normal_within_sigmas(check, dtype, mean, std, a, b)
    sigmas = ((a - mean) / std, (b - mean) / std)
    formula = normal_within(check, dtype, mean, std, sigmas, (a, b))
    if formula is not None and (mean < a - 2 * std or mean > b + 2 * std):
        warning = (
            "mean is more than 2 std from [a, b] in trunc_normal. "
            "The distribution of values may be incorrect."
        )
        return formula[0], formula[1], (warning,)
    return formula


def constant(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    value = given["val"]
    if dtype.kind == "float":
        check_range(check, "val", value, f"the constant {value}", dtype.name)
    elif value != math.floor(value) or not fits(value, dtype.name):
        check.fail(
            "val",
            f"is {value}, which {dtype.name} cannot hold; it takes whole numbers within "
            f"{dtype.min}..{dtype.max}",
        )
    if check.failed:
        return None
    pattern = encode_scalar(value, dtype.name)
    return Constant(pattern), Parameters(mean=value, std=0.0, low=value, high=value), ()


def ones(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return constant(check, shape, dtype, {"val": 1.0})


def zeros(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return constant(check, shape, dtype, {"val": 0.0})


def identity(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if len(shape) != 2:
        check.fail("shape", f"Only tensors with 2 dimensions are supported, not {list(shape)}")
        return None
    gain = given.get("gain", 1.0)
    check_range(check, "gain", gain, f"the gain {gain}", dtype.name)
    if check.failed:
        return None
    rows, columns = shape
    pattern = encode_scalar(gain, dtype.name)
    lattice = Lattice(pattern, 0, columns + 1, min(shape), rows * columns, 1)
    return lattice, Parameters(low=min(gain, 0.0), high=max(gain, 0.0)), ()


def dirac(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if len(shape) not in (3, 4, 5):
        check.fail(
            "shape", f"Only tensors with 3, 4, or 5 dimensions are supported, not {list(shape)}"
        )
        return None
    groups = int(given["groups"])
    if shape[0] % groups:
        check.fail(
            "groups", f"is {groups}; dim 0 must be divisible by groups, and it is {shape[0]}"
        )
        return None
    outputs, inputs = shape[0] // groups, shape[1]
    taps, centre = _tap(shape[2:], tuple(size // 2 for size in shape[2:]))
    lattice = Lattice(
        pattern=encode_scalar(1.0, dtype.name),
        first=centre,
        step=(inputs + 1) * taps,
        count=min(outputs, inputs),
        block=outputs * inputs * taps,
        blocks=groups,
    )
    return lattice, Parameters(low=0.0, high=1.0), ()


def _tap(kernel: Shape, place: Shape) -> tuple[int, int]:
    """The number of taps, and the row-major index of the one at a place."""
    index = 0
    for size, at in zip(kernel, place, strict=True):
        index = index * size + at
    return math.prod(kernel), index


def _fans(check: Check, shape: Shape, given: Arguments) -> tuple[float, float] | None:
    try:
        fan_in, fan_out = fans(shape, given["layout"], given["batch_axes"])
    except ValueError as error:
        check.fail("shape", f"{error}: it is {list(shape)}{_beside(given)}")
        return None
    return float(fan_in), float(fan_out)


def _beside(given: Arguments) -> str:
    axes = given["batch_axes"]
    return f" with batch axes {list(axes)}" if axes else ""


def _empty() -> Formula:
    """The formula of a tensor without elements, whose fans may be zero."""
    return Constant(b"\0"), Parameters(), ()


def xavier_uniform(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return _xavier(check, shape, dtype, given, uniform=True)


def xavier_normal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return _xavier(check, shape, dtype, given, uniform=False)


def _xavier(
    check: Check, shape: Shape, dtype: DType, given: Arguments, *, uniform: bool
) -> Formula | None:
    fan = _fans(check, shape, given)
    if fan is None:
        return None
    if 0 in shape:
        return _empty()
    std = given["gain"] * math.sqrt(2.0 / (fan[0] + fan[1]))
    return _spread(check, dtype, std, fan, uniform=uniform, field="gain")


def kaiming_uniform(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return _kaiming(check, shape, dtype, given, uniform=True)


def kaiming_normal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    return _kaiming(check, shape, dtype, given, uniform=False)


def _kaiming(
    check: Check, shape: Shape, dtype: DType, given: Arguments, *, uniform: bool
) -> Formula | None:
    if 0 in shape:
        return _empty()
    fan = _fans(check, shape, given)
    if fan is None:
        return None
    gain = calculate_gain(given["nonlinearity"], given["a"])
    if gain == 0.0:
        check.fail("a", f"is {given['a']}; its square is beyond the range of a double")
        return None
    std = gain / math.sqrt(fan[0] if given["mode"] == "fan_in" else fan[1])
    return _spread(check, dtype, std, fan, uniform=uniform, field="a")


def _spread(
    check: Check,
    dtype: DType,
    std: float,
    fan: tuple[float, float],
    *,
    uniform: bool,
    field: str,
) -> Formula | None:
    named = {"fan_in": fan[0], "fan_out": fan[1]}
    if std < 0.0:
        check.fail(field, f"makes the standard deviation {std}; it must not be negative")
        return None
    if uniform:
        bound = math.sqrt(3.0) * std
        return uniform_on(check, dtype, -bound, bound, **named)
    return normal_with(check, dtype, 0.0, std, **named)


def variance_scaling(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    fan = _fans(check, shape, given)
    if fan is None:
        return None
    scale, mode = given["scale"], given["mode"]
    if scale <= 0.0:
        check.fail("scale", f"is {scale}; it must be positive")
        return None
    if 0 in shape:
        return _empty()
    fan_in, fan_out = fan
    if mode == "fan_in":
        denominator = fan_in
    elif mode == "fan_out":
        denominator = fan_out
    elif mode == "fan_avg":
        denominator = (fan_in + fan_out) / 2
    else:
        denominator = math.sqrt(fan_in * fan_out)
    variance = scale / denominator
    named = {"fan_in": fan_in, "fan_out": fan_out}
    if given["distribution"] == "normal":
        return normal_with(check, dtype, 0.0, math.sqrt(variance), **named)
    if given["distribution"] == "uniform":
        bound = math.sqrt(3.0 * variance)
        return uniform_on(check, dtype, -bound, bound, **named)
    std = math.sqrt(variance) / TRUNCATED_STD
    return normal_within_sigmas(check, dtype, 0.0, std, -2.0, 2.0, **named)


def _scaled(scale: float, mode: str, distribution: str) -> Callable[..., Formula | None]:
    """variance_scaling with its arguments fixed, as jax.nn.initializers names the common ones."""
    fixed = {"scale": scale, "mode": mode, "distribution": distribution}

    def formula(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
        return variance_scaling(check, shape, dtype, {**given, **fixed})

    return formula


def orthogonal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if len(shape) < 2:
        check.fail(
            "shape", f"Only tensors with 2 or more dimensions are supported, not {list(shape)}"
        )
        return None
    gain = given["gain"]
    check_range(check, "gain", gain, f"the gain {gain}", "F32", dtype.name)
    if check.failed:
        return None
    if 0 in shape:
        return _empty()
    rows, columns = shape[0], math.prod(shape[1:])
    edge = abs(gain)
    # + 0.0: contents that are equal must have equal bits, and 0.0 equals -0.0.
    return Orthogonal(rows, columns, gain + 0.0), Parameters(mean=0.0, low=-edge, high=edge), ()


def delta_orthogonal(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if len(shape) not in (3, 4, 5):
        check.fail(
            "shape",
            "Delta orthogonal initializer requires a 3D, 4D or 5D shape, "
            f"and this one is {list(shape)}",
        )
        return None
    layout, gain = given["layout"], given["gain"]
    if layout == "torch":
        outputs, inputs, kernel = shape[0], shape[1], shape[2:]
    else:
        outputs, inputs, kernel = shape[-1], shape[-2], shape[:-2]
    if inputs > outputs:
        check.fail(
            "shape",
            f"fan_in must be less or equal than fan_out: {inputs} inputs, {outputs} outputs "
            f"in {layout} layout",
        )
    check_range(check, "gain", gain, f"the gain {gain}", "F32", dtype.name)
    if check.failed:
        return None
    if 0 in shape:
        return _empty()
    # JAX's centre, which for even sizes is not the one that torch's dirac_ takes.
    taps, centre = _tap(kernel, tuple((size - 1) // 2 for size in kernel))
    content = DeltaOrthogonal(outputs, inputs, taps, centre, layout, gain + 0.0)
    return content, Parameters(low=-abs(gain), high=abs(gain)), ()


def hadamard(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if not 2 <= len(shape) <= 5:
        check.fail("shape", f"Only tensors with 2 to 5 dimensions are supported, not {list(shape)}")
        return None
    gain = given["gain"]
    check_range(check, "gain", gain, f"the gain {gain}", dtype.name)
    if check.failed:
        return None
    if 0 in shape:
        return _empty()
    outputs, inputs = shape[:2]
    taps, centre = _tap(shape[2:], tuple(size // 2 for size in shape[2:]))
    if outputs <= inputs:
        pattern = encode_scalar(gain, dtype.name)
        size = outputs * inputs * taps
        lattice = Lattice(pattern, centre, (inputs + 1) * taps, outputs, size, 1)
        return lattice, Parameters(low=min(gain, 0.0), high=max(gain, 0.0)), ()
    halvings = (outputs - 1).bit_length()
    # The matrix of size 2^halvings over its square root, a power of two or that over sqrt(2).
    scale = 2.0 ** -(halvings // 2)
    value = gain * (scale / math.sqrt(2.0) if halvings % 2 else scale)
    positive, negative = (encode_scalar(v, dtype.name) for v in (value, -value))
    content = Hadamard(outputs, inputs, taps, centre, positive, negative)
    return content, Parameters(low=-abs(value), high=abs(value)), ()


def sparse(check: Check, shape: Shape, dtype: DType, given: Arguments) -> Formula | None:
    if len(shape) != 2:
        check.fail("shape", f"Only tensors with 2 dimensions are supported, not {list(shape)}")
        return None
    sparsity, std = given["sparsity"], given["std"]
    if not 0.0 <= sparsity <= 1.0:
        check.fail("sparsity", f"is {sparsity}; it must be within [0, 1]")
        return None
    formula = normal_with(check, dtype, 0.0, std)
    if formula is None:
        return None
    rows, columns = shape
    zeros = math.ceil(sparsity * rows)
    draw = NormalDraw(0.0, to_float32(std))
    return Sparse(rows, columns, zeros, draw), formula[1], ()


FORMULAS: dict[str, Callable[[Check, Shape, DType, Arguments], Formula | None]] = {
    "uniform": uniform,
    "normal": normal,
    "trunc_normal": trunc_normal,
    "constant": constant,
    "ones": ones,
    "zeros": zeros,
    "eye": identity,
    "dirac": dirac,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "orthogonal": orthogonal,
    "sparse": sparse,
    "variance_scaling": variance_scaling,
    "lecun_uniform": _scaled(1.0, "fan_in", "uniform"),
    "lecun_normal": _scaled(1.0, "fan_in", "truncated_normal"),
    "glorot_uniform": _scaled(1.0, "fan_avg", "uniform"),
    "glorot_normal": _scaled(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": _scaled(2.0, "fan_in", "uniform"),
    "he_normal": _scaled(2.0, "fan_in", "truncated_normal"),
    "identity": identity,
    "delta_orthogonal": delta_orthogonal,
    "hadamard": hadamard,
    "literal": literal,
}
