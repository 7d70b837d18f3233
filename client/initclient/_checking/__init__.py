"""Comparison of elements with a plan, and the report of `verify`."""

from initclient._checking.comparison import Compared, Comparison
from initclient._checking.report import (
    Mismatch,
    Verification,
    VerificationError,
    WrongPart,
    globs,
    is_ignored,
    missing,
    other_dtype,
    other_shape,
    other_values,
    unexpected,
)

__all__ = [
    "Compared",
    "Comparison",
    "Mismatch",
    "Verification",
    "VerificationError",
    "WrongPart",
    "globs",
    "is_ignored",
    "missing",
    "other_dtype",
    "other_shape",
    "other_values",
    "unexpected",
]
