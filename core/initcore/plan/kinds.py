"""Tensors that differ in name and stream alone: what tells their kinds apart.

Models repeat their layers, so what takes long is done once for a kind.
"""

from __future__ import annotations

import marshal
from dataclasses import fields
from operator import attrgetter
from typing import Any

from initcore.plan.plan import Tensor
from initcore.plan.validation import is_plain_name


def is_plain_entry(name: Any, tensor: Any) -> bool:
    """Whether an entry of a plan is a tensor without parts whose name and stream are right."""
    if type(tensor) is not Tensor or tensor.parts is not None or not is_plain_name(name):
        return False
    return tensor.stream is None or is_plain_name(tensor.stream)


def kind_key(tensor: Tensor) -> bytes | None:
    """A key of all fields but stream and parts; None for values that no field has.

    By the values' types and bits, which tell 0.0 from -0.0 and 1 from True.
    """
    try:
        return marshal.dumps(_fields_of(tensor), _PLAIN_MARSHAL)
    except ValueError:
        return None


_fields_of = attrgetter(*(f.name for f in fields(Tensor) if f.name not in ("stream", "parts")))

# Later versions of the format write equal values in several ways.
_PLAIN_MARSHAL = 2
