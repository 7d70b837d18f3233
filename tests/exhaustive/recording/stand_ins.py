"""Stand-ins for compiled code that building a model does not call, but importing it needs."""

from __future__ import annotations

import importlib.util
import sys
import types
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


def install_triton() -> None:
    """Puts an empty module in the place of Triton, which is for GPUs; for torchtitan alone."""
    if importlib.util.find_spec("triton") is None:
        for name in ("triton", "triton.language"):
            sys.modules[name] = _Module(name)


# A library takes its operations along when it is freed.
_kept: list[Any] = []


class _Module(types.ModuleType):
    """A module with any attribute, each a decorator that changes nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = importlib.util.spec_from_loader(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _decorator


def _decorator(*given: Any, **keywords: Any) -> Any:
    if len(given) == 1 and callable(given[0]) and not keywords:
        return given[0]
    return _decorator
