"""What is in the text of a plan file: by every way of reading, and by the YAML library alone."""

from __future__ import annotations

from typing import Any

import pytest
from initcore import PlanError
from initcore.wire import parse_plan, plan_file


def read(text: str) -> Any:
    """The plan in a text, item by item, or its errors."""
    try:
        plan = parse_plan(text)
    except PlanError as error:
        return error.violations
    # An integer equals a real number, but their texts differ.
    tensors = [(name, tensor, repr(tensor)) for name, tensor in plan.tensors.items()]
    return plan.seed, tensors, dict(plan.provenance)


def read_by_library(text: str) -> Any:
    """The same, without the shorter ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_file, "_parse_simple", lambda text: None)
        patch.setattr(plan_file, "parse_repeated", lambda text, parse: None)
        return read(text)


def exact(value: Any) -> Any:
    """A value that equals only those of the same types, all through."""
    if isinstance(value, dict):
        return [(key, exact(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return ["list", *map(exact, value)]
    return type(value), repr(value), getattr(value, "text", None)
