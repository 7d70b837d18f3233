"""Gains and fans: how nonlinearity, inputs and outputs of a layer set the std of its weights.

All arithmetic is `+ - * / sqrt` on Python floats (IEEE double), in torch's order,
so that the results equal torch's and are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from initcore.plan.schemes import NONLINEARITIES


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for the function after a layer.

    Args:
        nonlinearity: one of torch.nn.init.calculate_gain's names, such as "relu".
        param: the negative slope of "leaky_relu", default 0.01. Others ignore it.

    Returns:
        The gain, equal to torch.nn.init.calculate_gain's.

    Raises:
        ValueError: with torch's wording, for an unknown name or a slope that is no number.
    """
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(
            f"Unsupported nonlinearity {nonlinearity}: use one of {', '.join(NONLINEARITIES)}"
        )
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"negative_slope {param} not a valid number")
        # slope * slope rounds correctly everywhere; ** would ask libm.
        return math.sqrt(2.0 / (1 + slope * slope))
    if nonlinearity == "selu":
        return 3.0 / 4
    return 1.0


def fans(
    shape: Sequence[int], layout: str = "torch", batch_axes: Sequence[int] = ()
) -> tuple[int, int]:
    """The number of inputs of one output, and of outputs of one input.

    Args:
        shape: the whole tensor's shape: [out, in, *kernel] in torch's layout,
            [*kernel, in, out] in JAX's.
        layout: "torch" or "jax".
        batch_axes: axes that count as separate tensors, such as stacked experts.

    Returns:
        (fan_in, fan_out).

    Raises:
        ValueError: if fewer than two axes are left, with torch's wording.
    """
    batch = {axis % len(shape) for axis in batch_axes} if shape else set()
    rest = [size for axis, size in enumerate(shape) if axis not in batch]
    if len(rest) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    if layout == "torch":
        outputs, inputs, kernel = rest[0], rest[1], rest[2:]
    else:
        outputs, inputs, kernel = rest[-1], rest[-2], rest[:-2]
    receptive = math.prod(kernel)
    return inputs * receptive, outputs * receptive
