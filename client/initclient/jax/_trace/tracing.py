"""Tracing: the program of a model's initialization, and the tree of its results."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from initcore import PlanError, Violation

from initclient._laws.surroundings import global_states, numbers_taken, surroundings_watched
from initclient.jax._trace.caches import kept_refused, refuse_kept
from initclient.jax._trace.exact import numbers_noted

_COUNT = itertools.count(1)

# Stands for an array among the leaves of a tree.
_ARRAY = object()


@dataclass(frozen=True)
class Traced:
    """A traced initialization.

    Attributes:
        program: its operations, a closed jaxpr.
        shapes: the tree of its results, jax.ShapeDtypeStruct in place of arrays.
        notes: what the user should know about the code, as sentences.
    """

    program: Any
    shapes: Any
    notes: tuple[str, ...]


def traced(init: Callable[[], Any], *, ahead: float = 0.0) -> Traced:
    """Traces an initialization. Nothing is computed.

    Args:
        init: a function without arguments.
        ahead: seconds that clocks are ahead for the user's code.

    Raises:
        TypeError: if it needs arguments, or is no function.
        PlanError: if it returns no arrays, or uses a value that it keeps of an earlier trace.
    """
    if not callable(init):
        raise TypeError(
            f"record takes a function without arguments, such as lambda: model.init(key, batch), "
            f"not {type(init).__name__}"
        )
    found: list[Any] = []

    def arrays() -> list[Any]:
        flat, structure = jax.tree_util.tree_flatten(_weights(init()))
        found[:] = structure, [_ARRAY if _is_array(leaf) else leaf for leaf in flat]
        return [leaf for leaf in flat if _is_array(leaf)]

    states = global_states()
    with numbers_noted(), _traced_anew(), surroundings_watched(ahead) as watch, kept_refused():
        program, results = jax.make_jaxpr(arrays, return_shape=True)()
    refuse_kept(program)
    structure, leaves = found
    if not results:
        message = "the function returned no arrays; let it return the model or its parameters"
        raise PlanError([Violation("", "record", message)])
    shapes = iter(results)
    flat = [next(shapes) if leaf is _ARRAY else leaf for leaf in leaves]
    tree = jax.tree_util.tree_unflatten(structure, flat)
    return Traced(program, tree, (*numbers_taken(states), *watch.notes()))


@contextmanager
def _traced_anew() -> Iterator[None]:
    """Traces functions under jit again, which JAX otherwise takes as an earlier call saw them.

    That call noted no numbers, and numbers from elsewhere would look the same in every run.
    """
    try:
        from jax.experimental.xla_metadata import set_xla_metadata
    except ImportError:
        yield
        return
    with set_xla_metadata(initserve_recording=str(next(_COUNT))):  # type: ignore[no-untyped-call]
        yield


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _weights(made: Any) -> Any:
    """What a constructor made, as a tree of its weights: of an nnx module the state."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not isinstance(made, nnx.Module):
        return made
    # The state of its random generators is no weight.
    return nnx.state(made, nnx.Not(nnx.RngState))
