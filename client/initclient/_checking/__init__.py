"""Comparison of elements with a plan: the report of `verify`, and spot checks of downloads."""

from initclient._checking.comparison import Compared, Comparison
from initclient._checking.findings import Findings, Group
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
    require_some,
    unexpected,
    without_effect,
)
from initclient._checking.spot_checks import check_count, check_elements, check_files
from initclient._checking.verdict import Row

__all__ = [
    "Compared",
    "Comparison",
    "Findings",
    "Group",
    "Mismatch",
    "Row",
    "Verification",
    "VerificationError",
    "WrongPart",
    "check_count",
    "check_elements",
    "check_files",
    "globs",
    "is_ignored",
    "missing",
    "other_dtype",
    "other_shape",
    "other_values",
    "require_some",
    "unexpected",
    "without_effect",
]
