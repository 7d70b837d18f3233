"""Checks of one tensor's fields; each message says what would be right.

This module checks each field by itself. `initcore.resolve.resolution` checks several fields
together: fans, bounds, sizes of matrices.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from initcore.dtypes import DTYPES
from initcore.errors import Violation
from initcore.plan import schemes
from initcore.plan.plan import Tensor, few
from initcore.plan.schemes import REALS, REQUIRED, SCHEMES, Scheme
from initcore.plan.spelling import suggestion

MAX_SEED = 2**64 - 1
MAX_BYTES = 2**63 - 1
MAX_NAME_BYTES = 4096
MAX_LITERAL = 2**16
"""Numbers of a `literal`: a plan is sent with every request, and is read by people."""

MAX_DIMENSIONS = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""As many as NumPy allows here; torch allows 64."""

_SHA256 = re.compile("[0-9a-f]{64}")

_CHOICES = {
    "nonlinearity": schemes.NONLINEARITIES,
    "distribution": schemes.DISTRIBUTIONS,
    "layout": schemes.LAYOUTS,
    "function": schemes.FUNCTIONS,
}


class Check:
    """Collects the violations of one tensor."""

    def __init__(self, name: str, index: int | None, prefix: str = "") -> None:
        self.name = name
        self.index = index
        self._prefix = prefix
        self.violations: list[Violation] = []

    def fail(self, field: str, message: str) -> None:
        """Records that a field is wrong."""
        self.violations.append(Violation(self.name, self._prefix + field, message, self.index))

    def part(self, number: int) -> Check:
        """A check of one of the tensor's parts, with violations of its own."""
        return Check(self.name, self.index, f"{self._prefix}parts[{number}].")

    def found(self, field: str) -> bool:
        """Whether a violation of this field was recorded."""
        return any(violation.field == self._prefix + field for violation in self.violations)

    @property
    def failed(self) -> bool:
        """Whether any violation was recorded."""
        return bool(self.violations)


def check_name(check: Check, name: Any) -> None:
    """A name is text, not empty, encodes in UTF-8 and does not collide with file metadata."""
    problem = _text_problem(name)
    if problem:
        check.fail("name", problem)
    elif name == "__metadata__":
        check.fail("name", "'__metadata__' is reserved by the safetensors format")


def is_plain_name(name: Any) -> bool:
    """Whether a name is right, at a glance: false for some that `check_name` lets pass."""
    return (
        type(name) is str
        and name.isascii()
        and 0 < len(name) <= MAX_NAME_BYTES
        and name != "__metadata__"
    )


def _text_problem(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"is {text!r}; it must be text"
    if not text:
        return "is empty; it must have at least one character"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"is {text!r}, which is not valid Unicode"
    if size > MAX_NAME_BYTES:
        return f"has {size} bytes in UTF-8; at most {MAX_NAME_BYTES} are allowed"
    return None


def check_seed(check: Check, seed: Any) -> None:
    """A seed is an integer within 0..2^64-1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        check.fail("seed", f"is {seed!r}; it must be an integer within 0..2^64-1 ({MAX_SEED})")


def check_kind(check: Check, tensor: Tensor) -> None:
    """Scheme, element type, shape and arguments, each by itself."""
    scheme = _scheme_of(tensor)
    if scheme is None:
        check.fail(
            "scheme", f"{tensor.scheme!r} is not known: {suggestion(tensor.scheme, SCHEMES)}"
        )
    check_dtype(check, tensor, scheme)
    _check_shape(check, tensor)
    if scheme is not None:
        _check_arguments(check, tensor, scheme)


def check_alone(check: Check, tensor: Tensor) -> None:
    """Sizes, seed, stream and arguments, each by itself, when a builder makes the tensor."""
    _check_sizes(check, tensor)
    _check_own_place(check, tensor)
    scheme = SCHEMES[tensor.scheme]
    for name, value in tensor.given().items():
        if name != "batch_axes":
            _check_argument(check, scheme, name, value, len(tensor.shape))


def check_place(check: Check, tensor: Tensor) -> None:
    """Seed and stream; slices and zero rows too, if the shape they refer to is right."""
    _check_own_place(check, tensor)
    scheme = _scheme_of(tensor)
    draws = scheme is None or scheme.draws
    if tensor.stream is not None and not draws and not check.found("stream"):
        message = f"is {tensor.stream!r}, but scheme {tensor.scheme} has no stream of its own"
        check.fail("stream", message)
    if not check.found("shape"):
        _check_slices(check, tensor)
        _check_zero_rows(check, tensor)


def _scheme_of(tensor: Tensor) -> Scheme | None:
    return SCHEMES.get(tensor.scheme) if isinstance(tensor.scheme, str) else None


def _check_own_place(check: Check, tensor: Tensor) -> None:
    if tensor.seed is not None:
        check_seed(check, tensor.seed)
    if tensor.stream is not None:
        problem = _text_problem(tensor.stream)
        if problem:
            check.fail("stream", problem)


def check_dtype(check: Check, tensor: Tensor, scheme: Scheme | None = None) -> None:
    """An element type is known, and the scheme, where there is one, can fill it."""
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
        check.fail("dtype", f"{tensor.dtype!r} is not known: {suggestion(tensor.dtype, DTYPES)}")
    elif dtype.kind != "float" and scheme is not None and not scheme.integers:
        check.fail(
            "dtype",
            f"is {dtype.name}, which scheme {scheme.name} cannot fill: integer and BOOL tensors "
            "take constant, ones or zeros",
        )


def _check_shape(check: Check, tensor: Tensor) -> None:
    if not _check_sizes(check, tensor):
        return
    if any(size < 0 for size in tensor.shape):
        check.fail("shape", f"is {list(tensor.shape)}; sizes must not be negative")
        return
    dtype = DTYPES.get(tensor.dtype)
    # As if empty axes had one element: the others must be in range too.
    size = math.prod(max(size, 1) for size in tensor.shape)
    if size * (dtype.itemsize if dtype else 1) > MAX_BYTES:
        check.fail(
            "shape", f"is {list(tensor.shape)}, {size} elements; at most 2^63-1 bytes are allowed"
        )


def _check_sizes(check: Check, tensor: Tensor) -> bool:
    """Whether there are not too many dimensions, and all sizes are integers."""
    if len(tensor.shape) > MAX_DIMENSIONS:
        check.fail(
            "shape",
            f"has {len(tensor.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed with NumPy "
            f"{np.__version__}",
        )
        return False
    for axis, size in enumerate(tensor.shape):
        if isinstance(size, bool) or not isinstance(size, int):
            check.fail("shape", f"axis {axis} is {size!r}; sizes must be integers")
            return False
    return True


def _check_slices(check: Check, tensor: Tensor) -> None:
    if tensor.slices is None:
        return
    if len(tensor.slices) != len(tensor.shape):
        check.fail(
            "slices",
            f"has {len(tensor.slices)} entries for the {len(tensor.shape)} dimensions of shape "
            f"{list(tensor.shape)}; give one for each",
        )
        return
    for axis, ((start, stop), size) in enumerate(zip(tensor.slices, tensor.shape, strict=True)):
        first = 0 if start is None else start
        last = size if stop is None else stop
        if type(first) is not int or type(last) is not int:
            check.fail("slices", f"axis {axis} has {start!r}:{stop!r}; positions must be integers")
        elif not 0 <= first <= last <= size:
            check.fail(
                "slices",
                f"axis {axis} has {first}:{last}, outside the {size} positions of the tensor; "
                f"0 <= start <= stop <= {size} must hold",
            )


def _check_zero_rows(check: Check, tensor: Tensor) -> None:
    if tensor.zero_rows is None:
        return
    if not tensor.shape:
        check.fail("zero_rows", f"is {list(tensor.zero_rows)}, but a scalar has no rows")
        return
    rows = tensor.shape[0]
    for row in tensor.zero_rows:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < rows:
            check.fail(
                "zero_rows",
                f"has {row!r}, outside the {rows} rows of shape {list(tensor.shape)}; count from 0",
            )
            return


def _check_arguments(check: Check, tensor: Tensor, scheme: Scheme) -> None:
    given = tensor.given()
    for name, value in given.items():
        if name not in scheme.arguments:
            takes = ", ".join(scheme.arguments) or "no arguments"
            check.fail(
                name,
                f"is {few(value)}, but scheme {scheme.name} does not take it; it takes {takes}",
            )
        else:
            _check_argument(check, scheme, name, value, len(tensor.shape))
    for name, default in scheme.arguments.items():
        if default is REQUIRED and name not in given:
            check.fail(name, f"is missing; scheme {scheme.name} needs it")


def _check_argument(check: Check, scheme: Scheme, name: str, value: Any, ndim: int) -> None:
    if name in REALS:
        _check_real(check, name, value)
    elif name in _CHOICES:
        if value not in _CHOICES[name]:
            message = f"{value!r} is not known: {suggestion(value, _CHOICES[name])}"
            if name == "nonlinearity":
                message = f"Unsupported nonlinearity {value}: {suggestion(value, _CHOICES[name])}"
            check.fail(name, message)
    elif name == "mode":
        modes = schemes.MODES if scheme.name == "variance_scaling" else schemes.TORCH_MODES
        if value not in modes:
            # torch's words, and the name that is meant.
            text = f"Mode {value} not supported, please use one of {', '.join(modes)}"
            close = difflib.get_close_matches(str(value).lower(), modes, n=1)
            if value in schemes.MODES:
                text += f"; only variance_scaling takes {value}"
            elif close:
                text += f"; did you mean {close[0]!r}?"
            check.fail(name, text)
    elif name == "groups":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            check.fail(name, f"is {value!r}; it must be an integer of at least 1")
    elif name == "relative":
        if not isinstance(value, bool):
            check.fail(name, f"is {value!r}; it must be true or false")
    elif name == "batch_axes":
        _check_batch_axes(check, value, ndim)
    elif name in ("axis", "axes"):
        axes = (value,) if name == "axis" else value
        if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
            check.fail(name, f"is {value!r}; dimensions are integers")
    elif name == "values":
        _check_values(check, value)
    elif name != "parts":
        problem = _text_problem(value)
        if problem is None and name == "sha256" and not _SHA256.fullmatch(value):
            problem = f"is {value!r}; a SHA-256 has 64 hexadecimal digits"
        if problem:
            check.fail(name, problem)


def _check_real(check: Check, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        check.fail(name, f"is {value!r}; it must be a number{_unquoted(value)}")
        return
    try:
        number = float(value)
    except OverflowError:
        check.fail(name, f"is {value!r}, beyond the range of a double")
        return
    if not math.isfinite(number):
        check.fail(name, f"is {number}; it must be a finite number")
    elif isinstance(value, int) and int(number) != value:
        check.fail(name, f"is {value}, which no double holds exactly (nearest: {int(number)})")


def _check_values(check: Check, values: Any) -> None:
    if len(values) > MAX_LITERAL:
        check.fail(
            "values",
            f"has {len(values)} numbers; at most {MAX_LITERAL} are allowed: compose the tensor of "
            "smaller ones (broadcast_to repeats them), or take it from a checkpoint (pretrained)",
        )
        return
    for value in values:
        before = len(check.violations)
        _check_real(check, "values", value)
        if len(check.violations) > before:
            # The first is enough: they are listed in one place.
            return


def _unquoted(value: Any) -> str:
    """The remedy for a number as text."""
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return ""
    return f", {value} without quotes" if isinstance(value, str) else ""


def _check_batch_axes(check: Check, axes: Sequence[Any], ndim: int) -> None:
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -ndim <= axis < ndim:
            check.fail(
                "batch_axes", f"has {axis!r}, outside the axes {-ndim}..{ndim - 1} of the shape"
            )
            return
    if len({axis % ndim for axis in axes}) != len(axes):
        check.fail("batch_axes", f"is {list(axes)}, which names an axis twice")
