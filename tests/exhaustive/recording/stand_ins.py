"""A stand-in for compiled code that building a model does not call, but importing it needs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch


def install() -> None:
    """Declares the operations of torchvision, whose compiled half is for one release of torch."""
    with suppress(RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)


# A library takes its operations along when it is freed.
_kept: list[Any] = []
