"""Knowing: operations on known arrays, computed as JAX computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from initclient._laws import NotUnderstoodError
from initclient.jax._trace.liveness import called
from initclient.jax._trace.values import SMALL, Known, core_of, is_key, single, single_of_all

_LARGE = 4 * SMALL

# Operations whose element depends on the operands' elements at the same place alone.
_NAMES = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt "
    "ceil clamp convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp "
    "exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul "
    "ne neg nextafter not or pow reduce_precision rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub "
    "tan tanh xor"
)
_ELEMENTWISE = frozenset(_NAMES.split())

_FLOW = {"cond", "scan", "while"}

# NumPy's results are JAX's here, without compilation: exact, or rounded once.
_PLAIN: dict[str, Any] = {
    "add": np.add,
    "and": np.bitwise_and,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "sub": np.subtract,
}


def known(equation: Any, operands: Sequence[Known]) -> list[Known] | None:
    """The results of an operation on known arrays; None if they are to be found step by step.

    Raises:
        NotUnderstoodError: if they are too large to look at.
    """
    outs = [one.aval for one in equation.outvars]
    from_key = any(one.from_key for one in operands)
    name = equation.primitive.name
    if name in _VIEWS and not is_key(outs[0].dtype):
        viewed = _VIEWS[name](equation, operands)
        if viewed is not None:
            return [Known(viewed, from_key)]
    if name in _ELEMENTWISE and not is_key(outs[0].dtype):
        made = _elementwise(equation, operands, tuple(outs[0].shape))
        if made is not None:
            return [Known(made, from_key)]
    # Step by step, as each traced program would be compiled anew, and to know which results are
    # computed from a key.
    if called(equation) is not None or (from_key and name in _FLOW):
        return None
    most = max((math.prod(getattr(one, "shape", ())) for one in outs), default=0)
    given = max((math.prod(one.shape) for one in operands), default=0)
    if max(most, given) > _LARGE:
        raise NotUnderstoodError("it is computed, and too large to look at", None)
    found = evaluate(equation, [one.array for one in operands])
    return [
        Known(one, True) if is_key(one.dtype) else Known(np.asarray(one), from_key) for one in found
    ]


def evaluate(equation: Any, arrays: Sequence[Any]) -> list[Any]:
    """The results of an operation, computed.

    Raises:
        NotUnderstoodError: if JAX cannot compute it here.
    """
    given = [one if isinstance(one, jax.Array) else jnp.asarray(one) for one in arrays]
    try:
        bound = equation.primitive.get_bind_params(equation.params)
        # Releases before 0.8 give functions beside the parameters.
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        found = equation.primitive.bind(*functions, *given, **params)
    except Exception as error:
        reason = f"JAX does not compute it outside the model: {error}"
        raise NotUnderstoodError(reason.partition("\n")[0], None) from error
    return list(found) if equation.primitive.multiple_results else [found]


def _elementwise(equation: Any, operands: Sequence[Known], shape: tuple[int, ...]) -> Any:
    cores = [core_of(np.asarray(one.array)) for one in operands]
    if not cores or any(one.shape not in (shape, ()) for one in operands):
        return None
    sizes = np.broadcast_shapes(*(core.shape for core in cores))
    if math.prod(sizes) > SMALL:
        raise NotUnderstoodError("it is computed, and too large to look at", None)
    given = [core if core.shape == () else np.broadcast_to(core, sizes) for core in cores]
    plain = _plainly(equation, given)
    made = plain if plain is not None else np.asarray(evaluate(equation, given)[0])
    return np.broadcast_to(made, shape)


def _plainly(equation: Any, given: Sequence[Any]) -> Any:
    """The result by NumPy, where it is JAX's for sure; None elsewhere."""
    name, dtype = equation.primitive.name, np.dtype(equation.outvars[0].aval.dtype)
    with np.errstate(all="ignore"):
        if name in _PLAIN:
            return _PLAIN[name](*given).astype(dtype)
        if name == "select_n" and len(given) == 3 and given[0].dtype == bool:
            return np.where(given[0], given[2], given[1]).astype(dtype)
        if name == "convert_element_type" and given[0].dtype.kind in "biu" and dtype.kind in "biu":
            return given[0].astype(dtype)
        if name == "convert_element_type" and given[0].dtype == dtype:
            return given[0]
    return None


def _broadcast(equation: Any, operands: Sequence[Known]) -> Any:
    shape = tuple(equation.outvars[0].aval.shape)
    array = np.asarray(operands[0].array)
    axes = [int(axis) for axis in equation.params["broadcast_dimensions"]]
    index = tuple(slice(None) if axis in axes else None for axis in range(len(shape)))
    return np.broadcast_to(array[index], shape)


def _iota(equation: Any, operands: Sequence[Known]) -> Any:
    params = equation.params
    shape, axis = tuple(params["shape"]), int(params["dimension"])
    row = np.arange(shape[axis]).astype(params["dtype"])
    return np.broadcast_to(row.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def _reshape(equation: Any, operands: Sequence[Known]) -> Any:
    element = single(operands[0])
    if element is None or equation.params.get("dimensions") is not None:
        return None
    return np.broadcast_to(np.asarray(element), tuple(equation.outvars[0].aval.shape))


def _transpose(equation: Any, operands: Sequence[Known]) -> Any:
    return np.transpose(np.asarray(operands[0].array), equation.params["permutation"])


def _joined(equation: Any, operands: Sequence[Known]) -> Any:
    element = single_of_all(operands)
    if element is None:
        return None
    return np.broadcast_to(np.asarray(element), tuple(equation.outvars[0].aval.shape))


_VIEWS: dict[str, Any] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _joined,
    "iota": _iota,
    "reshape": _reshape,
    "squeeze": _reshape,
    "transpose": _transpose,
}
