"""Draws from a state of the generator that was drawn from before: the elements they share."""

from __future__ import annotations

from initclient._laws import Use
from initclient.torch._trace import Drawn, Trace


def use_of(drawn: Drawn) -> Use:
    """All elements of a draw: those of an earlier draw that it repeats.

    A draw of another kind from the same state of torch's generator depends on the earlier one, in
    a way that no plan has, so it is never apart from it.
    """
    start = drawn.start
    if start is None or start.first == drawn.number:
        return Use(drawn.number, start=start)
    places = () if start.is_first_kind else (("kind", start.kind),)
    return Use(start.first, places, is_repeated=True, start=start)


class Turns:
    """Which way the draws of tensors have taken where several lead on from one state.

    After `manual_seed(0)` a model draws 4 numbers and 4 more, and after another `manual_seed(0)`
    8 numbers: these have numbers in common with both.

    Args:
        trace: a finished trace.
    """

    def __init__(self, trace: Trace) -> None:
        self._turns = trace.generator.turns()
        self._taken: dict[bytes, dict[str, str]] = {}

    def holder(self, use: Use) -> str:
        """A tensor that holds draws of another way from a state, or "" for none."""
        if use.start is not None:
            for state, kind in self._turns(use.start):
                for other, name in self._taken.get(state, {}).items():
                    if other != kind:
                        return name
        return ""

    def take(self, use: Use, name: str) -> None:
        """Notes that a tensor holds these draws."""
        if use.start is not None:
            for state, kind in self._turns(use.start):
                self._taken.setdefault(state, {}).setdefault(kind, name)
