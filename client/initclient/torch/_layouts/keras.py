"""Keras 3 on torch: the name of a weight is the path of its variable, wherever torch finds it.

A layer of Keras keeps all variables below it in a ParameterDict, by their paths, and so does each
layer within it (keras/src/backend/torch/layer.py of 3.15). So torch meets a weight several times,
under names that depend on how layers are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from torch import nn

from initclient.torch._layouts._layout import Layout, Slot

_DICT = "_torch_params."


def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]:
    """The layouts of all weights within layers of Keras."""
    if "keras" not in sys.modules:
        return
    outermost = {index: found for index, slot in enumerate(slots) if (found := _layer(slot.path))}
    paths = {
        id(slots[index].tensor): slots[index].attribute
        for index in outermost
        if _is_listed(slots[index])
    }
    prefixes = {
        id(layer): slots[index].name.removesuffix(_DICT + slots[index].attribute)
        for index, layer in outermost.items()
        if _is_listed(slots[index]) and slots[index].path[-2] is layer
    }
    for index, layer in outermost.items():
        path = paths.get(id(slots[index].tensor))
        if path is not None and id(layer) in prefixes:
            yield index, KerasLayout(slots[index], prefixes[id(layer)] + path)


def unbuilt(model: nn.Module) -> list[tuple[str, str]]:
    """Names of Keras's layers below a model that have no weights yet, each with its class."""
    if "keras" not in sys.modules:
        return []
    return [
        (name, type(module).__name__)
        for name, module in model.named_modules()
        if _is_keras(module) and getattr(module, "built", True) is False
    ]


class KerasLayout(Layout):
    """The layout of a weight of Keras, which is whole on each process."""

    def __init__(self, slot: Slot, name: str) -> None:
        super().__init__(slot)
        self._name = name

    @property
    def name(self) -> str:
        """The path of the variable, after the name of the model around it in a torch module."""
        return self._name


def _layer(path: Sequence[nn.Module]) -> nn.Module | None:
    """The outermost layer of Keras on a path."""
    return next((module for module in path if _is_keras(module)), None)


def _is_keras(module: nn.Module) -> bool:
    return any(kind.__module__.startswith("keras.") for kind in type(module).__mro__)


def _is_listed(slot: Slot) -> bool:
    """Whether this is a layer's own list of its variables."""
    return slot.name.endswith(_DICT + slot.attribute) and isinstance(
        slot.path[-1], nn.ParameterDict
    )
