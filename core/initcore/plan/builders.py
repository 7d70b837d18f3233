"""One builder for each scheme, with the argument names and defaults of its source.

A builder takes the shape first, then the scheme's arguments as torch.nn.init (or
jax.nn.initializers) names them, then keywords that every tensor has:

- dtype: element type, such as "bfloat16" or "BF16"; default float32.
- stream: name of the random stream; default the tensor's name in the plan.
- seed: seed of this tensor alone; default the plan's.
- zero_rows: positions of the first dimension that are zero, such as an embedding's padding row.

Numbers, shapes and names of any library are taken: numpy.int64, numpy.float32, torch.Size.

It returns a `Tensor` for `Plan`. Nothing is computed. An unknown name (`mode="fan_inn"`) and text
in place of a number (`std="0.02"`) are a PlanError at once. Checks of several fields together and
of ranges wait until the plan is used: its PlanError names every tensor and field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex, Unpack

from initcore.plan.composed_builders import (
    apply,
    broadcast_to,
    concatenate,
    norm,
    permute,
    reshape,
    stack,
)
from initcore.plan.given_builders import literal, pretrained
from initcore.plan.keywords import Common, Real, Shape, builder, tensor
from initcore.plan.plan import Tensor
from initcore.plan.schemes import Distribution, LayoutName, Mode, Nonlinearity, VarianceMode

__all__ = [
    "apply",
    "broadcast_to",
    "concatenate",
    "constant",
    "delta_orthogonal",
    "dirac",
    "eye",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "identity",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "literal",
    "norm",
    "normal",
    "ones",
    "orthogonal",
    "permute",
    "pretrained",
    "reshape",
    "sparse",
    "stack",
    "trunc_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


@builder
def uniform(shape: Shape, a: Real = 0.0, b: Real = 1.0, **common: Unpack[Common]) -> Tensor:
    """Uniform on [a, b) (torch.nn.init.uniform_)."""
    return tensor("uniform", shape, common, a=a, b=b)


@builder
def normal(shape: Shape, mean: Real = 0.0, std: Real = 1.0, **common: Unpack[Common]) -> Tensor:
    """Normal with this mean and standard deviation (torch.nn.init.normal_)."""
    return tensor("normal", shape, common, mean=mean, std=std)


@builder
def trunc_normal(
    shape: Shape,
    mean: Real = 0.0,
    std: Real = 1.0,
    a: Real = -2.0,
    b: Real = 2.0,
    *,
    relative: bool = False,
    **common: Unpack[Common],
) -> Tensor:
    """Normal cut to [a, b] (torch.nn.init.trunc_normal_).

    a and b are values, as in torch. With relative=True they count standard deviations
    from the mean, as in jax.nn.initializers.truncated_normal.
    """
    return tensor("trunc_normal", shape, common, mean=mean, std=std, a=a, b=b, relative=relative)


@builder
def constant(shape: Shape, val: Real, **common: Unpack[Common]) -> Tensor:
    """Every element is val (torch.nn.init.constant_), in any element type that can hold it."""
    return tensor("constant", shape, common, val=val)


@builder
def ones(shape: Shape, **common: Unpack[Common]) -> Tensor:
    """Every element is one (torch.nn.init.ones_)."""
    return tensor("ones", shape, common)


@builder
def zeros(shape: Shape, **common: Unpack[Common]) -> Tensor:
    """Every element is zero (torch.nn.init.zeros_)."""
    return tensor("zeros", shape, common)


@builder
def eye(shape: Shape, **common: Unpack[Common]) -> Tensor:
    """Ones on the diagonal of a matrix (torch.nn.init.eye_)."""
    return tensor("eye", shape, common)


@builder
def identity(shape: Shape, gain: Real = 1.0, **common: Unpack[Common]) -> Tensor:
    """The diagonal of a matrix is gain (keras.initializers.Identity)."""
    return tensor("identity", shape, common, gain=gain)


@builder
def dirac(shape: Shape, groups: SupportsIndex = 1, **common: Unpack[Common]) -> Tensor:
    """The convolution that copies its input, [out, in, *kernel] (torch.nn.init.dirac_)."""
    return tensor("dirac", shape, common, groups=groups)


@builder
def xavier_uniform(
    shape: Shape,
    gain: Real = 1.0,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Uniform on +-gain * sqrt(6 / (fan_in + fan_out)) (torch.nn.init.xavier_uniform_).

    Glorot and Bengio 2010, equation 16.
    """
    return tensor("xavier_uniform", shape, common, gain=gain, layout=layout, batch_axes=batch_axes)


@builder
def xavier_normal(
    shape: Shape,
    gain: Real = 1.0,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Normal, std = gain * sqrt(2 / (fan_in + fan_out)) (torch.nn.init.xavier_normal_).

    Glorot and Bengio 2010.
    """
    return tensor("xavier_normal", shape, common, gain=gain, layout=layout, batch_axes=batch_axes)


@builder
def kaiming_uniform(
    shape: Shape,
    a: Real = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Uniform on +-gain * sqrt(3 / fan) (torch.nn.init.kaiming_uniform_).

    The gain is that of nonlinearity, a the negative slope of "leaky_relu". He et al. 2015.
    """
    return tensor(
        "kaiming_uniform",
        shape,
        common,
        a=a,
        mode=mode,
        nonlinearity=nonlinearity,
        layout=layout,
        batch_axes=batch_axes,
    )


@builder
def kaiming_normal(
    shape: Shape,
    a: Real = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Normal, std = gain / sqrt(fan) (torch.nn.init.kaiming_normal_).

    The gain is that of nonlinearity, a the negative slope of "leaky_relu". He et al. 2015.
    """
    return tensor(
        "kaiming_normal",
        shape,
        common,
        a=a,
        mode=mode,
        nonlinearity=nonlinearity,
        layout=layout,
        batch_axes=batch_axes,
    )


@builder
def orthogonal(shape: Shape, gain: Real = 1.0, **common: Unpack[Common]) -> Tensor:
    """gain times a Haar-distributed (semi-)orthogonal matrix (torch.nn.init.orthogonal_).

    Shapes of more than two dimensions are flattened to (size(0), rest), as in torch.
    Saxe et al. 2013.
    """
    return tensor("orthogonal", shape, common, gain=gain)


@builder
def delta_orthogonal(
    shape: Shape, gain: Real = 1.0, *, layout: LayoutName = "torch", **common: Unpack[Common]
) -> Tensor:
    """A convolution that is zero but for an orthogonal centre tap.

    jax.nn.initializers.delta_orthogonal; three to five dimensions, fan_in <= fan_out.
    Xiao et al. 2018, "Dynamical isometry and a mean field theory of CNNs".
    """
    return tensor("delta_orthogonal", shape, common, gain=gain, layout=layout)


@builder
def sparse(shape: Shape, sparsity: Real, std: Real = 0.01, **common: Unpack[Common]) -> Tensor:
    """normal(0, std) with ceil(sparsity * rows) zeros in each column (torch.nn.init.sparse_).

    Martens 2010.
    """
    return tensor("sparse", shape, common, sparsity=sparsity, std=std)


@builder
def variance_scaling(
    shape: Shape,
    scale: Real = 1.0,
    mode: VarianceMode = "fan_in",
    distribution: Distribution = "truncated_normal",
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Variance scale / fan (jax.nn.initializers.variance_scaling, keras VarianceScaling).

    mode is "fan_in", "fan_out", "fan_avg" or "fan_geo_avg"; distribution "normal",
    "truncated_normal" (cut at two standard deviations and widened by 1/.87962566103423978,
    so that the variance after the cut is right) or "uniform".
    """
    return tensor(
        "variance_scaling",
        shape,
        common,
        scale=scale,
        mode=mode,
        distribution=distribution,
        layout=layout,
        batch_axes=batch_axes,
    )


def _fan_scaled(
    scheme: str,
    shape: Shape,
    layout: LayoutName,
    batch_axes: Sequence[SupportsIndex],
    common: Common,
) -> Tensor:
    return tensor(scheme, shape, common, layout=layout, batch_axes=batch_axes)


@builder
def lecun_uniform(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Uniform, variance 1 / fan_in (jax.nn.initializers.lecun_uniform)."""
    return _fan_scaled("lecun_uniform", shape, layout, batch_axes, common)


@builder
def lecun_normal(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Truncated normal, variance 1 / fan_in (jax.nn.initializers.lecun_normal)."""
    return _fan_scaled("lecun_normal", shape, layout, batch_axes, common)


@builder
def glorot_uniform(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Uniform, variance 1 / fan_avg (jax.nn.initializers.glorot_uniform)."""
    return _fan_scaled("glorot_uniform", shape, layout, batch_axes, common)


@builder
def glorot_normal(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Truncated normal, variance 1 / fan_avg (jax.nn.initializers.glorot_normal)."""
    return _fan_scaled("glorot_normal", shape, layout, batch_axes, common)


@builder
def he_uniform(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Uniform, variance 2 / fan_in (jax.nn.initializers.he_uniform)."""
    return _fan_scaled("he_uniform", shape, layout, batch_axes, common)


@builder
def he_normal(
    shape: Shape,
    *,
    layout: LayoutName = "torch",
    batch_axes: Sequence[SupportsIndex] = (),
    **common: Unpack[Common],
) -> Tensor:
    """Truncated normal, variance 2 / fan_in (jax.nn.initializers.he_normal)."""
    return _fan_scaled("he_normal", shape, layout, batch_axes, common)


@builder
def hadamard(shape: Shape, gain: Real = 1.0, **common: Unpack[Common]) -> Tensor:
    """Identity, or part of a Hadamard matrix where there are more outputs than inputs.

    ZerO (Zhao, Schaefer and Anandkumar 2022, algorithms 1 and 2), scaled as in its authors'
    code: Sylvester's matrix of size 2^m, the least power of two not below the outputs, over
    2^(m/2). For matrices [out, in] and convolutions [out, in, *kernel], of which it is the
    centre tap. Nothing is random.
    """
    return tensor("hadamard", shape, common, gain=gain)
