"""Layouts: how launchers spread a parameter over processes. One file each, found by its name."""

from initclient.torch._layouts._finding import layouts_of, whole_shape
from initclient.torch._layouts._layout import Layout, Piece, Slot, fits, padding, planned_pieces
from initclient.torch._layouts.dtensor import is_dtensor
from initclient.torch._layouts.keras import unbuilt

__all__ = [
    "Layout",
    "Piece",
    "Slot",
    "fits",
    "is_dtensor",
    "layouts_of",
    "padding",
    "planned_pieces",
    "unbuilt",
    "whole_shape",
]
