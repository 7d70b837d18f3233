"""Finds the layouts of a model's parameters: asks the file of each launcher in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch

from initclient.torch._layouts._layout import Layout, Slot

_Adapter: TypeAlias = Callable[[Sequence[Slot]], Iterable[tuple[int, Layout]]]


def layouts_of(slots: Sequence[Slot]) -> list[Layout]:
    """The layout of each parameter and buffer; that of a whole tensor if no adapter knows it.

    Raises:
        PlanError: for a parameter that a launcher has changed in a way that is not known.
    """
    found: dict[int, Layout] = {}
    for adapter in _adapters():
        for index, layout in adapter(slots):
            found.setdefault(index, layout)
    return [found.get(index) or Layout(slot) for index, slot in enumerate(slots)]


def whole_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape of the whole tensor, by what the parameter itself carries."""
    return layouts_of([Slot("", "", tensor)])[0].shape


@cache
def _adapters() -> tuple[_Adapter, ...]:
    """The function `layouts` of each file in this folder that has one."""
    package = __name__.rpartition(".")[0]
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{package}.{n}") for n in names if not n.startswith("_")]
    return tuple(module.layouts for module in modules)
