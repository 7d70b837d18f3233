"""The constant that a tensor of a name and a shape starts with in nearly all models."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SCALES = ("weight", "scale", "gamma")
_SHIFTS = ("bias", "beta", "shift")
# norm, norm1, input_layernorm, ln_f, ln_1, bn2.
_NORM = re.compile(r"norm(_?[a-z\d])?$|^ln(_?[a-z\d]+)?$|^bn\d*$")


def constant_for(parts: Sequence[str], shape: Sequence[int]) -> str:
    """The builder that an error may suggest: "ones", "zeros", or "" where it is no constant.

    Vectors are scales or shifts in nearly all models, and noise on them does harm. So it does on
    the scales of norms, which are matrices where layers are stacked.

    Args:
        parts: the tensor's name, by its parts: ["layers", "norm", "weight"].
        shape: its shape.
    """
    layer, last = ["", *(part.lower() for part in parts)][-2:]
    is_vector = sum(size > 1 for size in shape) < 2
    if last in _SCALES and (is_vector or _NORM.search(layer)):
        return "ones"
    return "zeros" if is_vector or last in _SHIFTS else ""
