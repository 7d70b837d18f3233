"""The schemes and the arguments that each one takes, with their defaults.

This table is their one definition: validation, resolution, the digest and `GetServerInfo` read
it, and tests compare the builders with it. The names and defaults are torch's where
torch has them, else those of jax.nn.initializers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from initcore.plan.frozen import FrozenDict


class _Required:
    """Its one object stays the same object in copies."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
"""Marks an argument without a default."""

Mode = Literal["fan_in", "fan_out"]
"""What torch's schemes take."""

VarianceMode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
LayoutName = Literal["torch", "jax"]
Distribution = Literal["normal", "truncated_normal", "uniform"]
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

TORCH_MODES: tuple[str, ...] = get_args(Mode)
MODES: tuple[str, ...] = get_args(VarianceMode)
LAYOUTS: tuple[str, ...] = get_args(LayoutName)
FUNCTIONS: tuple[str, ...] = get_args(FunctionName)
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
NONLINEARITIES: tuple[str, ...] = get_args(Nonlinearity)


@dataclass(frozen=True)
class Scheme:
    """What a scheme takes.

    Attributes:
        name: its name in Python; plan files write it in capitals.
        arguments: each argument with its default, or `REQUIRED`.
        summary: one line of text about its values.
        integers: whether integer and BOOL tensors can have it.
        has_fans: whether the shape's fans set the spread.
        draws: whether the tensor's values are its own: false for composed tensors, whose parts
            have the values, and for `pretrained`.
    """

    name: str
    arguments: Mapping[str, Any]
    summary: str
    integers: bool = False
    has_fans: bool = False
    draws: bool = True


_FANS: dict[str, Any] = {"layout": "torch", "batch_axes": ()}
_KAIMING: dict[str, Any] = {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu"}


def _scheme(
    name: str,
    summary: str,
    *,
    integers: bool = False,
    has_fans: bool = False,
    draws: bool = True,
    **arguments: Any,
) -> Scheme:
    taken = {**arguments, **(_FANS if has_fans else {})}
    return Scheme(name, FrozenDict(taken), summary, integers, has_fans, draws)


def _composed(name: str, summary: str, *, integers: bool = True, **arguments: Any) -> Scheme:
    return _scheme(name, summary, integers=integers, draws=False, parts=REQUIRED, **arguments)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        _scheme("uniform", "uniform on [a, b)", a=0.0, b=1.0),
        _scheme("normal", "normal(mean, std)", mean=0.0, std=1.0),
        _scheme(
            "trunc_normal",
            "normal(mean, std) cut to [a, b]",
            mean=0.0,
            std=1.0,
            a=-2.0,
            b=2.0,
            relative=False,
        ),
        _scheme("constant", "every element is val", integers=True, val=REQUIRED),
        _scheme("ones", "every element is one", integers=True),
        _scheme("zeros", "every element is zero", integers=True),
        _scheme("eye", "ones on the diagonal of a matrix"),
        _scheme("dirac", "the convolution that copies its input", groups=1),
        _scheme("xavier_uniform", "Glorot's uniform, torch's form", has_fans=True, gain=1.0),
        _scheme("xavier_normal", "Glorot's normal, torch's form", has_fans=True, gain=1.0),
        _scheme("kaiming_uniform", "He's uniform, torch's form", has_fans=True, **_KAIMING),
        _scheme("kaiming_normal", "He's normal, torch's form", has_fans=True, **_KAIMING),
        _scheme("orthogonal", "Haar-distributed orthonormal rows or columns", gain=1.0),
        _scheme(
            "sparse", "normal with a share of zeros in each column", sparsity=REQUIRED, std=0.01
        ),
        _scheme(
            "variance_scaling",
            "variance scale / fan",
            has_fans=True,
            scale=1.0,
            mode="fan_in",
            distribution="truncated_normal",
        ),
        _scheme("lecun_uniform", "uniform, variance 1 / fan_in", has_fans=True),
        _scheme("lecun_normal", "truncated normal, variance 1 / fan_in", has_fans=True),
        _scheme("glorot_uniform", "uniform, variance 1 / fan_avg", has_fans=True),
        _scheme("glorot_normal", "truncated normal, variance 1 / fan_avg", has_fans=True),
        _scheme("he_uniform", "uniform, variance 2 / fan_in", has_fans=True),
        _scheme("he_normal", "truncated normal, variance 2 / fan_in", has_fans=True),
        _scheme("identity", "gain on the diagonal of a matrix", gain=1.0),
        _scheme(
            "delta_orthogonal",
            "a convolution with an orthogonal centre tap",
            gain=1.0,
            layout="torch",
        ),
        _scheme("hadamard", "ZerO: identity, or a Hadamard matrix where it widens", gain=1.0),
        _composed("concatenate", "its parts, one after the other along an axis", axis=0),
        _composed("stack", "its parts, along a new axis that counts them", axis=0),
        _composed("permute", "its part, with the axes in another order", axes=REQUIRED),
        _composed("reshape", "its part's elements, row by row, in another shape"),
        _scheme(
            "pretrained",
            "the values of a tensor in a checkpoint",
            integers=True,
            draws=False,
            checkpoint=REQUIRED,
            source=None,
            sha256=None,
        ),
        _scheme("literal", "the values in the plan", integers=True, values=REQUIRED),
        _composed("broadcast_to", "its part, repeated along dimensions"),
        _composed(
            "apply",
            "a function of each element of its part",
            integers=False,
            function=REQUIRED,
            a=None,
            b=None,
        ),
        _composed(
            "norm", "the norm of its part over all dimensions but axes", integers=False, axes=()
        ),
    )
}

COMPOSED: frozenset[str] = frozenset(
    name for name, scheme in SCHEMES.items() if "parts" in scheme.arguments
)
"""The schemes whose tensors are made of other tensors."""

REALS: tuple[str, ...] = ("a", "b", "mean", "std", "val", "gain", "sparsity", "scale")
"""The arguments that are real numbers."""

ARGUMENTS: tuple[str, ...] = (
    "a",
    "b",
    "mean",
    "std",
    "val",
    "gain",
    "sparsity",
    "groups",
    "mode",
    "nonlinearity",
    "scale",
    "distribution",
    "layout",
    "batch_axes",
    "relative",
    "parts",
    "axis",
    "axes",
    "checkpoint",
    "source",
    "sha256",
    "function",
    "values",
)
"""Every argument that some scheme takes, in the order of the wire contract's fields."""


def composed_shape(
    scheme: str, shapes: Sequence[tuple[int, ...]], axis: int | None, axes: Sequence[int] | None
) -> tuple[int, ...]:
    """The shape that parts of these shapes make; () where they make none, or any."""
    try:
        if scheme == "concatenate":
            at = (axis or 0) % len(shapes[0])
            total = sum(shape[at] for shape in shapes)
            return (*shapes[0][:at], total, *shapes[0][at + 1 :])
        if scheme == "stack":
            at = (axis or 0) % (len(shapes[0]) + 1)
            return (*shapes[0][:at], len(shapes), *shapes[0][at:])
        if scheme == "permute":
            return tuple(shapes[0][number] for number in axes or ())
        if scheme == "apply":
            return shapes[0]
        if scheme == "norm":
            kept = {axis % len(shapes[0]) for axis in axes or ()}
            return tuple(size if axis in kept else 1 for axis, size in enumerate(shapes[0]))
    except (TypeError, IndexError, ZeroDivisionError):
        # Wrong arguments, which validation reports.
        return ()
    return ()
