"""The formula of `literal`: the values in the plan, encoded once for all its elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from initcore.dtypes import DType
from initcore.plan import Check
from initcore.resolve.contents import LiteralValues
from initcore.resolve.distributions import Formula, Parameters, check_range
from initcore.stream import encode_doubles, fits


def literal(
    check: Check, shape: tuple[int, ...], dtype: DType, given: Mapping[str, Any]
) -> Formula | None:
    """As the formulas of `initcore.resolve.formulas`."""
    values, size = given["values"], math.prod(shape)
    if len(values) != size:
        check.fail("values", f"has {len(values)} numbers; shape {list(shape)} has {size} elements")
        return None
    low, high = min(values), max(values)
    if dtype.kind == "float":
        for value in dict.fromkeys((low, high)):
            check_range(check, "values", value, f"the value {value}", dtype.name)
    else:
        # One is enough: they are listed in one place.
        wrong = (v for v in values if v != math.floor(v) or not fits(v, dtype.name))
        for value in (v for _, v in zip(range(1), wrong, strict=False)):
            check.fail(
                "values",
                f"has {value}, which {dtype.name} cannot hold; it takes whole numbers within "
                f"{dtype.min}..{dtype.max}",
            )
    if check.failed:
        return None
    if dtype.kind == "float":
        encoded = encode_doubles(np.array(values, dtype=np.float64), dtype.name)
    else:
        encoded = np.array([int(value) for value in values], dtype=dtype.numpy)
    little = encoded.astype(encoded.dtype.newbyteorder("<"))
    return LiteralValues(little.tobytes()), Parameters(low=low, high=high), ()
