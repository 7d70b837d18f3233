"""The keywords that every builder takes, and the tensor that they and a scheme's arguments make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from initcore.plan.plan import Tensor


class Common(TypedDict, total=False):
    """What every builder takes besides the scheme's own arguments."""

    dtype: Any
    stream: str
    seed: int
    zero_rows: Sequence[int]


Shape = Sequence[int] | int


def tensor(scheme: str, shape: Shape, common: Common, **arguments: Any) -> Tensor:
    """A tensor of a scheme, with the keywords that builders have in common."""
    return Tensor(scheme=scheme, shape=shape, **common, **arguments)  # type: ignore[arg-type]
