"""The questions about a parameter that each launcher's adapter answers.

An adapter is a file in this folder. It has one function,

    def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]

which looks at a model's parameters and buffers and gives, by their places in the sequence, a layout
for each one that its launcher has changed. It recognizes them by attributes of the parameter or
of a module around it, and imports its launcher only where these are present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Slot:
    """A parameter or buffer at its place in this process's model.

    Attributes:
        name: its name in this process's model, without wrappers.
        attribute: its name in the module that owns it.
        tensor: the parameter or buffer.
        path: the modules from the model down to the owner; empty if that is not known.
        is_buffer: whether it is a buffer.
    """

    name: str
    attribute: str
    tensor: torch.Tensor
    path: tuple[nn.Module, ...] = ()
    is_buffer: bool = False


@dataclass(frozen=True, eq=False)
class Piece:
    """A rectangle of a whole tensor that this process holds.

    Attributes:
        bounds: (start, stop) in each dimension of the whole tensor.
        values: this process's memory for it, of the rectangle's shape, detached.
    """

    bounds: tuple[tuple[int, int], ...]
    values: torch.Tensor


class Layout:
    """The answers about one parameter or buffer; those of a tensor that is whole here.

    An adapter answers `shape` and `pieces`, `name` if names differ between processes, and the
    rest where it has to.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot

    @property
    def name(self) -> str:
        """The name in the whole model, the same on every process."""
        return self.slot.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        return tuple(map(int, self.slot.tensor.shape))

    def pieces(self) -> Sequence[Piece]:
        """The rectangles that this process holds; none if it holds nothing.

        No two of them share memory. A process may hold an element twice, in two pieces.

        Raises:
            PlanError: for a layout that is not known.
        """
        if self.slot.tensor.numel() == 0:
            return []
        return [Piece(tuple([(0, size) for size in self.shape]), self.local())]

    def local(self) -> torch.Tensor:
        """The memory of all pieces, as one tensor of any shape, detached."""
        return self.slot.tensor.detach()

    @property
    def is_padded(self) -> bool:
        """Whether a plan's tensor may have fewer rows, since the last ones are padding."""
        return False

    @property
    def agreement(self) -> str:
        """The sizes of the layout, as text that is the same on every process."""
        return ""

    @property
    def refresh(self) -> Callable[[], object] | None:
        """Copies new values to other places that hold them, such as an optimizer's masters.

        `init_` calls each function once, after all values are written. None if there are none.
        """
        return None

    @property
    def refusal(self) -> str:
        """Why `init_` may not write the values here, with the remedy; "" if it may."""
        return ""


def fits(layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether a plan's tensor of this shape is a layout's whole tensor, padding left out."""
    whole = layout.shape
    if layout.is_padded and len(shape) == len(whole):
        return shape[0] <= whole[0] and shape[1:] == whole[1:]
    return shape == whole


def planned_pieces(layout: Layout, shape: tuple[int, ...]) -> list[Piece]:
    """The pieces that a plan's tensor of this shape has values for: without rows of padding."""
    pieces = layout.pieces()
    if shape == layout.shape:
        return list(pieces)
    return [
        Piece(((begin, stop), *rest), piece.values[: stop - begin])
        for piece in pieces
        for (begin, end), *rest in [piece.bounds]
        if (stop := min(end, shape[0])) > begin
    ]


def padding(layout: Layout, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """The memory of the rows that a plan's tensor of this shape does not have."""
    if shape == layout.shape:
        return []
    rows = [(p.values, max(0, shape[0] - p.bounds[0][0])) for p in layout.pieces()]
    return [values[first:] for values, first in rows if first < len(values)]
