"""Initializers along a JAX kernel's axes, which are not those that builders mean by themselves.

torch's weight is [out, in, *window] and JAX's kernel [*window, in, out]. Builders that count fans
have a layout. Matrices become parts that are reshaped, permuted or stacked here, each with the
leaf's own stream, or for stacks one stream for each matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import index
from typing import Any, NoReturn

import initcore
from initcore import Plan, PlanError, Tensor, Violation
from initcore.plan import SCHEMES
from initcore.resolve import resolve
from initcore.stream import NormalDraw, UniformDraw

from initclient._plan import Rule, is_random

_LAYOUT = ("layout", "batch_axes")

AXES: dict[str, tuple[str, ...]] = {
    **{name: ("in_axis", "out_axis") for name, one in SCHEMES.items() if one.has_fans},
    **dict.fromkeys(("sparse", "eye", "identity", "dirac", "hadamard"), _LAYOUT),
    "orthogonal": (*_LAYOUT, "column_axis"),
    "delta_orthogonal": ("batch_axes", "column_axis"),
}
"""The arguments that say which axes are meant, by schemes whose builders do not take them."""


@dataclass(frozen=True, repr=False)
class AxisRule(Rule):
    """A rule whose arguments say which axes are meant."""

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        fits: Callable[[tuple[int, ...]], bool] | None = None,
    ) -> Tensor:
        """The tensor of a leaf, along these axes."""
        scheme, arguments = _builder(self)
        axes = {key: value for key, value in self.arguments.items() if key in AXES[scheme]}
        own = {key: value for key, value in self.arguments.items() if key not in axes}
        plain = Rule(self.where, self.initializer, own, self.parameter)
        made = plain.tensor(name, shape, dtype, fits=fits)
        if SCHEMES[scheme].has_fans:
            if "layout" in arguments:
                _fail(name, "layout", "says what in_axis and out_axis say; leave one of them out")
            return _with_fans(made, name, axes)
        if scheme == "delta_orthogonal" and "layout" not in arguments:
            made = replace(made, layout="jax")
        return _along(made, name, axes)


def takes_axes(initializer: Any, arguments: Iterable[str]) -> bool:
    """Whether some of these arguments are axes that a builder leaves to `AxisRule`."""
    return bool(set(AXES.get(_unwrapped(initializer)[0], ())) & set(arguments))


def in_jax_axes(made: Tensor, name: str, rule: Rule) -> Tensor:
    """The tensor that a rule has made for a JAX leaf, with JAX's axes in place of torch's.

    Args:
        made: what the rule's initializer made.
        name: the leaf's name.
        rule: the rule; what a function of the user's own makes stays as it is.
    """
    scheme, arguments = _builder(rule)
    if isinstance(rule, AxisRule) or not scheme:
        return made
    if "layout" in SCHEMES[scheme].arguments:
        return made if "layout" in arguments else replace(made, layout="jax")
    return _along(made, name, {}) if scheme in AXES else made


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have different values under one name."""
    if one == other:
        return False
    try:
        a, b = (resolve(Plan({"x": tensor}))[0] for tensor in (one, other))
    except PlanError:
        # The check of the plan says what is wrong.
        return False
    return a.content != b.content


def _builder(rule: Rule) -> tuple[str, dict[str, Any]]:
    """The scheme of a rule's builder and its arguments; "" for another function."""
    scheme, arguments = _unwrapped(rule.initializer)
    return scheme, {**arguments, **rule.arguments}


def _unwrapped(initializer: Any) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, Any] = {}
    while isinstance(initializer, partial):
        arguments = {**initializer.keywords, **arguments}
        initializer = initializer.func
    scheme = getattr(initializer, "__name__", "")
    is_builder = scheme in SCHEMES and getattr(initcore, scheme, None) is initializer
    return scheme if is_builder else "", arguments


def _along(made: Tensor, name: str, given: Mapping[str, Any]) -> Tensor:
    """A matrix or pattern along the given axes, JAX's where none are given."""
    layout, ndim = given.get("layout", "jax"), len(made.shape)
    if layout not in ("torch", "jax"):
        _fail(name, "layout", f"is {layout!r}; use one of torch, jax")
    batch = _axes(name, "batch_axes", given.get("batch_axes", ()), ndim)
    kept = [axis for axis in range(ndim) if axis not in batch]
    column = None
    if "column_axis" in given:
        (axis,) = _axes(name, "column_axis", (given["column_axis"],), ndim)
        if layout == "torch":
            _fail(
                name, "column_axis", f"is {axis}, and layout='torch' takes the first axis as rows"
            )
        if axis in batch:
            _fail(name, "column_axis", f"is {axis}, which is among batch_axes, {list(batch)}")
        column = kept.index(axis)
    kernel = replace(made, shape=tuple(made.shape[axis] for axis in kept), zero_rows=None)
    turn = _TURNED.get(made.scheme) if layout == "jax" else None

    def along(part: str) -> Tensor:
        return turn(kernel, part, column) if turn else kernel

    whole = _stacked(along, name, made.shape, batch)
    return whole if made.zero_rows is None else replace(whole, zero_rows=made.zero_rows)


def _orthogonal(kernel: Tensor, part: str, column: int | None) -> Tensor:
    """JAX's: the matrix of all other axes as rows, and one axis as columns."""
    ndim = len(kernel.shape)
    if ndim <= 2:
        # Haar-distributed rows or columns, whichever are fewer, in both layouts.
        return kernel
    column = ndim - 1 if column is None else column
    rows = [axis for axis in range(ndim) if axis != column]
    order = (*rows, column)
    shape = tuple(kernel.shape[axis] for axis in order)
    matrix = replace(kernel, shape=(math.prod(shape[:-1]), shape[-1]))
    flat = initcore.reshape(shape, {part: matrix})
    if order == tuple(range(ndim)):
        return flat
    return initcore.permute({part: flat}, [order.index(axis) for axis in range(ndim)])


def _turned(kernel: Tensor, part: str, column: int | None) -> Tensor:
    """torch's [out, in, *window] of the tensor's scheme, as JAX's kernel."""
    ndim = len(kernel.shape)
    if ndim not in _DIMENSIONS[kernel.scheme]:
        # The check of the plan refuses it.
        return kernel
    *window, inputs, outputs = kernel.shape
    if kernel.scheme == "hadamard" and ndim == 2 and inputs == outputs:
        return kernel
    weight = replace(kernel, shape=(outputs, inputs, *window))
    return initcore.permute({part: weight}, (*range(2, ndim), 1, 0))


_DIMENSIONS = {"sparse": (2,), "dirac": (3, 4, 5), "hadamard": (2, 3, 4, 5)}

_TURNED: dict[str, Callable[[Tensor, str, int | None], Tensor]] = {
    "orthogonal": _orthogonal,
    "sparse": _turned,
    "dirac": _turned,
    "hadamard": _turned,
}


def _stacked(
    along: Callable[[str], Tensor], name: str, shape: Sequence[int], batch: Sequence[int]
) -> Tensor:
    """Kernels that are drawn apart, along the batch axes of a shape.

    Args:
        along: the kernel, by the name of its part.
        name: the leaf's name, under which parts are named: "layers/kernel/3".
        shape: the shape that is left.
        batch: its batch axes, in ascending order.
    """
    if not batch:
        return along(name)
    first, *rest = batch
    others = [axis - 1 for axis in rest]
    inner = [size for axis, size in enumerate(shape) if axis != first]
    if 0 in shape or not is_random(along(name)):
        # One kernel, which all layers share.
        one = _stacked(along, name, inner, others)
        spread = initcore.broadcast_to((shape[first], *inner), {name: one})
        order = list(range(1, len(shape)))
        order.insert(first, 0)
        return spread if first == 0 else initcore.permute({name: spread}, order)
    parts = {
        f"{name}/{number}": _stacked(along, f"{name}/{number}", inner, others)
        for number in range(shape[first])
    }
    return initcore.stack(parts, axis=first)


def _with_fans(made: Tensor, name: str, given: Mapping[str, Any]) -> Tensor:
    """The distribution of a scheme whose fans are counted along the given axes.

    As jax.nn.initializers counts them: axes that are neither inputs, outputs nor batch are a
    window, and an axis may be input and output. So fan_in counts all axes but outputs and batch.
    """
    ndim = len(made.shape)
    batch = _axes(name, "batch_axes", made.batch_axes or (), ndim)
    inputs = _axes(name, "in_axis", given.get("in_axis", -2), ndim)
    outputs = _axes(name, "out_axis", given.get("out_axis", -1), ndim)
    for field, axes in (("in_axis", inputs), ("out_axis", outputs)):
        if set(axes) & set(batch):
            _fail(name, field, f"is {list(axes)}, of which batch_axes has some, {list(batch)}")
    fan_in, fan_out = (
        math.prod(size for axis, size in enumerate(made.shape) if axis not in {*batch, *others})
        for others in (outputs, inputs)
    )
    if 0 in made.shape:
        return replace(made, layout="jax")
    # A matrix has these fans, and its distribution is the leaf's.
    matrix = replace(made, shape=(fan_in, fan_out), layout="jax", batch_axes=(), zero_rows=None)
    (resolved,) = resolve(Plan({name: matrix}))
    draw, std = resolved.content.draw, resolved.parameters.std  # type: ignore[union-attr]
    assert std is not None
    common: Any = {
        field: getattr(made, field) for field in ("dtype", "stream", "seed", "zero_rows")
    }
    if isinstance(draw, UniformDraw):
        low, high = resolved.parameters.low, resolved.parameters.high
        assert low is not None
        assert high is not None
        return initcore.uniform(made.shape, low, high, **common)
    if isinstance(draw, NormalDraw):
        return initcore.normal(made.shape, 0.0, std, **common)
    return initcore.trunc_normal(made.shape, 0.0, std, -2.0, 2.0, relative=True, **common)


def _axes(name: str, field: str, given: Any, ndim: int) -> tuple[int, ...]:
    """Axes of a leaf, counted from 0, in ascending order."""
    try:
        axes = tuple(map(index, given if isinstance(given, Sequence) else (given,)))
    except TypeError:
        _fail(name, field, f"is {given!r}; give an axis, or a tuple of axes")
    if any(not -ndim <= axis < ndim for axis in axes):
        _fail(name, field, f"is {given!r}, outside the {ndim} dimensions of the leaf")
    normal = tuple(sorted(axis % ndim for axis in axes))
    if len(set(normal)) < len(normal):
        _fail(name, field, f"is {given!r}, which names an axis twice")
    return normal


def _fail(name: str, field: str, message: str) -> NoReturn:
    raise PlanError([Violation(name, field, message)])
