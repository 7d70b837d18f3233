"""Suggestions for unknown names: the name that is the same here, or the closest one.

The closest name can be the wrong one: `untruncated_normal` looks like truncated_normal and is
normal, `out_axis` looks like axis and is a matter of the layout.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

SAME: dict[str, tuple[str, ...]] = {
    # Schemes, by their names in torch, JAX, Keras, TensorFlow and Caffe.
    "fill": ("constant",),
    "full": ("constant",),
    "gaussian": ("normal",),
    "rand": ("uniform",),
    "randn": ("normal",),
    "random_normal": ("normal",),
    "random_uniform": ("uniform",),
    "truncated_normal": ("truncated_normal", "trunc_normal"),
    "untruncated_normal": ("normal",),
    "trunc_normal": ("truncated_normal",),
    "msra": ("kaiming_normal",),
    "concat": ("concatenate",),
    "cat": ("concatenate",),
    "transpose": ("permute",),
    "view": ("reshape",),
    "checkpoint": ("pretrained", "checkpoint"),
    # Arguments and fields.
    "in_axis": ("layout",),
    "out_axis": ("layout",),
    "batch_axis": ("batch_axes",),
    "stddev": ("std",),
    "sigma": ("std",),
    "scale": ("std", "gain"),
    "loc": ("mean",),
    "mu": ("mean",),
    "low": ("a",),
    "lower": ("a",),
    "minval": ("a",),
    "high": ("b",),
    "upper": ("b",),
    "maxval": ("b",),
    "value": ("val",),
    "fill_value": ("val",),
    "negative_slope": ("a",),
    "slope": ("a",),
    "num_groups": ("groups",),
    "sparseness": ("sparsity",),
    "activation": ("nonlinearity",),
    "fan": ("mode", "fan_in", "fan_out"),
    "dim": ("axis",),
    "dims": ("axes",),
    "perm": ("axes",),
    "size": ("shape",),
    "type": ("dtype",),
    "param_dtype": ("dtype",),
    "init": ("scheme",),
    "initializer": ("scheme",),
    "padding_idx": ("zero_rows",),
    "key": ("seed",),
    "rng": ("seed",),
    "generator": ("seed",),
    "random_state": ("seed",),
    "name": ("stream",),
    "path": ("checkpoint",),
    "file": ("checkpoint",),
    # Modes, layouts, functions, element types.
    "in": ("fan_in",),
    "out": ("fan_out",),
    "avg": ("fan_avg",),
    "fan_sum": ("fan_avg",),
    "fan_mean": ("fan_avg",),
    "keras": ("jax",),
    "flax": ("jax",),
    "tensorflow": ("jax",),
    "pytorch": ("torch",),
    "lrelu": ("leaky_relu",),
    "identity": ("linear",),
    "none": ("linear",),
    "fp8": ("F8_E4M3", "F8_E5M2"),
    "float8": ("F8_E4M3", "F8_E5M2"),
    "int": ("I32", "I64"),
    "long": ("I64",),
    "short": ("I16",),
    "byte": ("U8",),
}
"""Names of other libraries, and ours; of these the ones that the place knows are suggested."""


_FAMILY = 3


def suggestion(value: Any, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: "did you mean ...?", or the known names."""
    names = list(known)
    meant = _meant(str(value), {_bare(name): name for name in names})
    if not meant:
        return f"use one of {', '.join(names)}"
    return f"did you mean {' or '.join(map(repr, meant))}? Known: {', '.join(names)}"


def _meant(value: str, known: dict[str, str]) -> list[str]:
    """The known names that an unknown one stands for; `known` has them by their bare names."""
    bare = _bare(value)
    if bare in known:
        return [known[bare]]
    same = [known[_bare(name)] for name in _BARE.get(bare, ()) if _bare(name) in known]
    if same or bare in _NONE:
        return same
    longer = [known[name] for name in known if len(bare) > 1 and name.startswith(bare)]
    if 1 <= len(longer) <= _FAMILY:
        return longer
    return [known[name] for name in difflib.get_close_matches(bare, known, n=1)]


def _bare(name: str) -> str:
    """A name in lower case without underscores and hyphens: `orthogonal_`, `GlorotUniform`."""
    return name.lower().replace("_", "").replace("-", "")


# Nonlinearities for which torch has no gain: a name that is spelled nearly so is another one.
_NONE = {"celu", "elu", "gelu", "glu", "hardswish", "mish", "silu", "softplus", "swiglu", "swish"}

_BARE = {_bare(name): same for name, same in SAME.items()}
