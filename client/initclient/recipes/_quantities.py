"""The quantities in a recipe's formulas: numbers from the names and shapes of a model's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from initcore.plan import fans

from initclient.recipes._formula import FormulaError

Shape = tuple[int, ...]

QUANTITIES = {
    "layer": "the position of the tensor's layer, from 0",
    "layers": "the number of layers in the list that the tensor's name contains",
    "fan_in": "inputs of the weight, times the positions of its kernel",
    "fan_out": "outputs of the weight, times the positions of its kernel",
    "inputs": "size 1 of the weight, [outputs, inputs, *kernel]",
    "outputs": "size 0 of the weight",
    "kernel": "positions of the weight's kernel; 1 for a matrix",
    "dimensions": "how many dimensions the tensor has",
    "base_inputs": "inputs in the model of base width",
    "base_outputs": "outputs in the model of base width",
}
"""The quantities and what they are. "The weight" is the tensor itself or, for a vector such as a
bias, the `weight` beside it."""

BASE = ("base_inputs", "base_outputs")
"""Those that need the shapes of a second model."""

IN_LAYERS = ("layer", "layers")
"""Those that need layer_lists, to find the positions of layers in names."""


class Quantities:
    """The quantities of one model's tensors.

    Args:
        shapes: shape of each tensor by name, all of them.
        layer_lists: names of the lists of layers: in a tensor's name, the number after one of
            these is the layer's position.
        layers: number of layers in the whole model, if the names do not show it.
        base_shapes: shapes of the model of base width, by the same names.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        layer_lists: tuple[str, ...] = (),
        layers: float | None = None,
        base_shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        self._shapes = shapes
        self._lists = layer_lists
        self._layers = layers
        self._base = base_shapes
        self._positions: dict[str, set[int]] = {}
        for name in shapes if layer_lists else ():
            place = self._place(name)
            if place is not None:
                self._positions.setdefault(place[0], set()).add(place[1])

    def of(self, name: str, quantity: str) -> float:
        """A quantity of the tensor of this name.

        Raises:
            FormulaError: if the tensor has no such quantity, saying why.
        """
        return float(_WAYS[quantity](self, name))

    def _place(self, name: str) -> tuple[str, int] | None:
        """The list of layers that a name contains, and the position in it."""
        parts = name.split(".")
        for at, (part, number) in enumerate(pairwise(parts)):
            if part in self._lists and number.isdecimal():
                return ".".join(parts[: at + 1]), int(number)
        return None

    def _in_layers(self, name: str, quantity: str) -> tuple[str, int]:
        place = self._place(name)
        if place is None:
            known = ", ".join(f"{text}.0" for text in self._lists)
            raise FormulaError(
                f"needs {quantity}, but the name has no layer in it; by the recipe's layer_lists, "
                f"names of layers contain {known}"
            )
        return place

    def _layer(self, name: str) -> int:
        return self._in_layers(name, "layer")[1]

    def _count(self, name: str) -> float:
        if self._layers is not None:
            return self._layers
        where = self._in_layers(name, "layers")[0]
        found = self._positions[where]
        if found != set(range(len(found))):
            raise FormulaError(
                f"needs layers, but of the layers in {where} only {_ranges(found)} are there; say "
                "how many the whole model has, recipe_arguments={'layers': N} (--set layers=N)"
            )
        return len(found)

    def _weight(self, name: str) -> tuple[str, Shape]:
        """The name and shape of the tensor, or of the weight beside a vector."""
        shape = self._shapes[name]
        if len(shape) < 2:
            beside = name.rpartition(".")[0]
            other = f"{beside}.weight" if beside else "weight"
            if len(self._shapes.get(other, ())) > 1:
                return other, self._shapes[other]
        return name, shape

    def _axis(self, name: str, quantity: str, axis: int) -> int:
        shape = self._weight(name)[1]
        if len(shape) <= axis:
            raise _no_weight(quantity, shape)
        return shape[axis]

    def _fan(self, name: str, quantity: str, which: int) -> int:
        shape = self._weight(name)[1]
        if len(shape) < 2:
            raise _no_weight(quantity, shape)
        return fans(shape)[which]

    def _base_axis(self, name: str, quantity: str, axis: int) -> int:
        if self._base is None:
            raise FormulaError(
                f"needs {quantity}: give the model of base width, or its shapes by name, "
                "recipe_arguments={'base_shapes': ...}"
            )
        weight, shape = self._weight(name)
        base = self._base.get(weight)
        if base is None:
            raise FormulaError(f"needs {quantity}, but base_shapes has no {weight}")
        if len(base) != len(shape) or len(base) <= axis:
            raise FormulaError(
                f"needs {quantity}, but {weight} has shape {list(base)} in base_shapes and "
                f"{list(shape)} here"
            )
        return base[axis]


_WAYS: dict[str, Callable[[Quantities, str], float]] = {
    "layer": Quantities._layer,
    "layers": Quantities._count,
    "fan_in": lambda model, name: model._fan(name, "fan_in", 0),
    "fan_out": lambda model, name: model._fan(name, "fan_out", 1),
    "inputs": lambda model, name: model._axis(name, "inputs", 1),
    "outputs": lambda model, name: model._axis(name, "outputs", 0),
    "kernel": lambda model, name: math.prod(model._weight(name)[1][2:]),
    "dimensions": lambda model, name: len(model._shapes[name]),
    "base_inputs": lambda model, name: model._base_axis(name, "base_inputs", 1),
    "base_outputs": lambda model, name: model._base_axis(name, "base_outputs", 0),
}


def _no_weight(quantity: str, shape: Shape) -> FormulaError:
    return FormulaError(
        f"needs {quantity}, but this tensor of shape {list(shape)} has too few dimensions, and no "
        "weight is beside it"
    )


def _ranges(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    whole = len(numbers) == high - low + 1
    return f"{low}..{high}" if whole else ", ".join(str(number) for number in sorted(numbers)[:8])
