"""Draws from a state of the generator that was drawn from before: the elements they share."""

from __future__ import annotations

from initclient._laws import Use
from initclient.torch._trace import Drawn


def use_of(drawn: Drawn) -> Use:
    """All elements of a draw: those of an earlier draw that it repeats.

    A draw of another kind from the same state of torch's generator depends on the earlier one, in
    a way that no plan has, so it is never apart from it.
    """
    start = drawn.start
    if start is None or start.first == drawn.number:
        return Use(drawn.number)
    places = () if start.is_first_kind else (("kind", start.kind),)
    return Use(start.first, places, is_repeated=True)
