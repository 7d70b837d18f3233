"""Kinds of tensors: all that does not depend on a tensor's name, seed and slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from initcore.dtypes import DTYPES
from initcore.plan import SCHEMES, Check, Tensor, check_kind
from initcore.resolve.contents import Content, DeltaOrthogonal, Orthogonal, Pretrained, Sparse
from initcore.resolve.distributions import Parameters
from initcore.resolve.formulas import FORMULAS

MAX_MATRIX_ELEMENTS = 2**28
"""Elements of a matrix that has to exist whole: 16,384 x 16,384."""

MAX_REFLECTION_LENGTH = 2**21
"""Longest row or column of such a matrix: the exactness of `orthogonal` is proven up to here."""

# Kinds that are kept from plan to plan, and characters of the longest key: a server of a thousand
# models lays out a thousand plans of the same few kinds.
_MAX_KEPT = 4096
_LONGEST_KEY = 512


@dataclass(frozen=True)
class Kind:
    """The fields that tensors share which differ in name, seed and slices alone.

    Attributes:
        arguments: every argument of the scheme, defaults filled in.
        content: what the elements are made from.
        parameters: fans, mean, standard deviation and bounds, to be shown.
        warnings: unusual but allowed settings, as sentences without the tensor's name.
    """

    arguments: dict[str, Any]
    content: Content
    parameters: Parameters
    warnings: tuple[str, ...]


_kept: dict[tuple[str, int], Kind] = {}


def kind_of(check: Check, tensor: Tensor, key: str, max_matrix_elements: int) -> Kind | None:
    """The kind of a tensor without parts; None if it is wrong, with the violations in `check`.

    Args:
        check: gets the violations.
        tensor: the tensor.
        key: a text that equals those of other tensors of its kind alone.
        max_matrix_elements: the largest matrix that may have to exist whole.
    """
    known = _kept.get((key, max_matrix_elements))
    if known is not None:
        return known
    found = _made(check, tensor, max_matrix_elements)
    if found is not None and not check.failed and len(key) <= _LONGEST_KEY:
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        _kept[key, max_matrix_elements] = found
    return found


def _made(check: Check, tensor: Tensor, max_matrix_elements: int) -> Kind | None:
    check_kind(check, tensor)
    if check.failed:
        return None
    arguments = {**SCHEMES[tensor.scheme].arguments, **tensor.given()}
    if tensor.scheme == "pretrained":
        stored = Pretrained(tensor.checkpoint or "", tensor.source or "", tensor.sha256 or "")
        loose = "its bits are fixed only with the SHA-256 of its file"
        return Kind(arguments, stored, Parameters(), () if stored.sha256 else (loose,))
    arguments = {key: _canonical(value) for key, value in arguments.items()}
    if "batch_axes" in arguments:
        ndim = len(tensor.shape)
        arguments["batch_axes"] = tuple(sorted(axis % ndim for axis in arguments["batch_axes"]))
    if "values" in arguments:
        arguments["values"] = tuple(map(float, arguments["values"]))
    formula = FORMULAS[tensor.scheme](check, tensor.shape, DTYPES[tensor.dtype], arguments)
    if formula is None or check.failed:
        return None
    content, parameters, warnings = formula
    _check_matrix(check, content, max_matrix_elements)
    if 0 in tensor.shape:
        warnings = (*warnings, "Initializing zero-element tensors is a no-op")
    return Kind(arguments, content, parameters, warnings)


def _canonical(value: Any) -> Any:
    """Reals as floats and axes as tuples, so that equal plans resolve to equal values."""
    if isinstance(value, str | bool | tuple):
        return value
    return float(value)


def _check_matrix(check: Check, content: Content, limit: int) -> None:
    if isinstance(content, Orthogonal):
        rows, columns = content.rows, content.columns
    elif isinstance(content, DeltaOrthogonal):
        rows, columns = content.outputs, content.inputs
    elif isinstance(content, Sparse):
        # Zeros are chosen column by column: only one column has to exist as a whole.
        rows, columns = content.rows, 1
    else:
        return
    if rows * columns > limit or max(rows, columns) > MAX_REFLECTION_LENGTH:
        check.fail(
            "shape",
            f"needs a matrix of {rows} x {columns} as a whole; at most {limit} elements and "
            f"{MAX_REFLECTION_LENGTH} rows or columns are allowed",
        )
