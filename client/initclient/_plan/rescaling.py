"""Multiplies the values of a plan's tensor by a factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from initcore import Tensor, apply, calculate_gain
from initcore.plan import COMPOSED, SCHEMES

# Significant digits of a scaled argument: people read it in plan files.
_DIGITS = 8


def scaled(tensor: Tensor, factor: float) -> Tensor | None:
    """The tensor whose values are `factor` times as large, up to rounding.

    A scheme without an argument for it is replaced by its general form, on the same words of the
    stream: `variance_scaling` for schemes that divide by a fan, `identity` for `eye`, `constant`
    for `ones`.

    Args:
        tensor: a tensor of a plan.
        factor: a positive number.

    Returns:
        The tensor; None if its values are fixed (`dirac`, `pretrained`).
    """
    if tensor.scheme == "apply" and tensor.function == "multiply" and tensor.a is not None:
        # In place, so that factors of several steps do not nest.
        return replace(tensor, a=_rounded(tensor.a * factor))
    if tensor.scheme == "apply":
        whole = replace(tensor, slices=None)
        made = apply({"value": whole}, "multiply", _rounded(factor))
        return replace(made, slices=tensor.slices)
    if tensor.scheme in COMPOSED:
        # The norm too: that of multiplied values is multiplied.
        parts = [(name, scaled(part, factor)) for name, part in tensor.parts or ()]
        known = tuple((name, part) for name, part in parts if part is not None)
        return replace(tensor, parts=known) if len(known) == len(parts) else None
    given = {**SCHEMES[tensor.scheme].arguments, **tensor.given()}
    change = _CHANGES.get(tensor.scheme)
    if change is None:
        return None
    cleared = dict.fromkeys(SCHEMES[tensor.scheme].arguments)
    return replace(tensor, **{**cleared, **change(given, factor)})


def _multiplied(*names: str) -> Callable[[dict[str, Any], float], dict[str, Any]]:
    def change(given: dict[str, Any], factor: float) -> dict[str, Any]:
        return {**given, **{name: _rounded(given[name] * factor) for name in names}}

    return change


def _trunc_normal(given: dict[str, Any], factor: float) -> dict[str, Any]:
    names = ("mean", "std") if given["relative"] else ("mean", "std", "a", "b")
    return _multiplied(*names)(given, factor)


def _variance(given: dict[str, Any], factor: float) -> dict[str, Any]:
    return {**given, "scale": _rounded(given["scale"] * factor * factor)}


def _kaiming(distribution: str) -> Callable[[dict[str, Any], float], dict[str, Any]]:
    def change(given: dict[str, Any], factor: float) -> dict[str, Any]:
        gain = calculate_gain(given["nonlinearity"], given["a"]) * factor
        return _general(gain * gain, given["mode"], distribution, given)

    return change


def _named(
    scale: float, mode: str, distribution: str
) -> Callable[[dict[str, Any], float], dict[str, Any]]:
    return lambda given, factor: _general(scale * factor * factor, mode, distribution, given)


def _general(scale: float, mode: str, distribution: str, given: dict[str, Any]) -> dict[str, Any]:
    fans = {name: given[name] for name in ("layout", "batch_axes")}
    general = {"scale": _rounded(scale), "mode": mode, "distribution": distribution}
    return {"scheme": "variance_scaling", **general, **fans}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


_CHANGES: dict[str, Callable[[dict[str, Any], float], dict[str, Any]]] = {
    "uniform": _multiplied("a", "b"),
    "normal": _multiplied("mean", "std"),
    "trunc_normal": _trunc_normal,
    "constant": _multiplied("val"),
    "ones": lambda given, factor: {"scheme": "constant", "val": _rounded(factor)},
    "zeros": lambda given, factor: given,
    "eye": lambda given, factor: {"scheme": "identity", "gain": _rounded(factor)},
    "identity": _multiplied("gain"),
    "xavier_uniform": _multiplied("gain"),
    "xavier_normal": _multiplied("gain"),
    "kaiming_uniform": _kaiming("uniform"),
    "kaiming_normal": _kaiming("normal"),
    "orthogonal": _multiplied("gain"),
    "delta_orthogonal": _multiplied("gain"),
    "hadamard": _multiplied("gain"),
    "sparse": _multiplied("std"),
    "variance_scaling": _variance,
    "lecun_uniform": _named(1.0, "fan_in", "uniform"),
    "literal": lambda given, factor: {"values": tuple(v * factor for v in given["values"])},
    "lecun_normal": _named(1.0, "fan_in", "truncated_normal"),
    "glorot_uniform": _named(1.0, "fan_avg", "uniform"),
    "glorot_normal": _named(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": _named(2.0, "fan_in", "uniform"),
    "he_normal": _named(2.0, "fan_in", "truncated_normal"),
}
