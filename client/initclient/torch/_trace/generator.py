"""The states of torch's generator at each draw of a trace, which show seeds and repeated draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from initclient._laws import Constant, Dirac, Eye, Law, Other, Source
from initclient.torch._trace.geometry import Geometry

BEGINNING = -1
"""Stands for the state before the first draw, among the numbers of draws."""


@dataclass(frozen=True)
class Start:
    """Where in torch's generator a draw begins.

    Attributes:
        first: the number of the first draw from the same state; its own number without one.
        kind: which numbers of the generator it takes, and how: two draws of one kind from one
            state have the same values, but for mean and scale.
        is_first_kind: whether it is of the same kind as that first draw.
        state: the state that the code set before it; or the number of the draw after which the
            generator was in this state; None if it goes on after the draw before.
        before: the digest of the state that it begins from.
    """

    first: int
    kind: str
    is_first_kind: bool = True
    state: torch.Tensor | int | None = None
    before: bytes = b""


class GeneratorStates:
    """Which states of torch's generator the draws of a trace begin from.

    On the meta device a draw leaves the state as it is. There this class moves it on: the same
    draws from one state lead to one state, and other draws to others.

    Args:
        on_meta: whether the trace runs on the meta device.

    Attributes:
        repeated: the first line whose draw repeats an earlier one; None for none.
    """

    def __init__(self, on_meta: bool) -> None:
        self._on_meta = on_meta
        self._state = torch.get_rng_state()
        self._expected = _digest(self._state)
        self._reached: dict[bytes, int] = {self._expected: BEGINNING}
        self._first: dict[bytes, tuple[int, str]] = {}
        # How each state was reached: from which one, by which kind of draw.
        self._ways: dict[bytes, tuple[bytes, str]] = {}
        self._kinds: dict[bytes, str] = {}
        self._forks: set[bytes] = set()
        self._is_seeded = False
        self.repeated: Source | None = None

    @property
    def is_seeded(self) -> bool:
        """Whether the code set the state; known on the meta device alone."""
        return self._on_meta and (
            self._is_seeded or _digest(torch.get_rng_state()) != self._expected
        )

    def begin(self) -> None:
        """Keeps the state that the next draw begins from. Modes must be off."""
        self._state = torch.get_rng_state()

    def note(
        self, number: int, law: Law, view: Geometry, dtype: torch.dtype, source: Source | None
    ) -> Start | None:
        """Notes a draw from torch's generator, after it. Modes must be off.

        Args:
            number: the draw's place in the order of all draws.
            law: its distribution.
            view: its geometry.
            dtype: its element type.
            source: the line that draws.

        Returns:
            Where it begins; None if it needs no numbers.
        """
        if not view.size or isinstance(law, Eye | Dirac):
            return None
        before = _digest(self._state)
        name = law.name if isinstance(law, Other) else type(law).__name__
        kind = f"{name} {view.shape} {view.strides} {dtype}"
        state = None
        if before != self._expected:
            self._is_seeded = True
            state = self._reached.get(before, self._state)
        after = self._move_on(before, kind) if self._on_meta else _digest(torch.get_rng_state())
        self._expected = after
        self._reached[after] = number
        if after != before:
            self._ways.setdefault(after, (before, kind))
            if self._kinds.setdefault(before, kind) != kind:
                self._forks.add(before)
        if isinstance(law, Constant) or after == before:
            # No numbers of the generator are in its values.
            return Start(number, kind, state=state)
        first, its_kind = self._first.setdefault(before, (number, kind))
        if first != number and self.repeated is None:
            self.repeated = source
        return Start(first, kind, kind == its_kind, state, before)

    def turns(self) -> Callable[[Start], tuple[tuple[bytes, str], ...]]:
        """A function that gives the turns on the way to a draw, once all draws are noted.

        A turn is a state from which draws of several kinds began, and the kind that the way takes
        there. Two draws that take different turns at one state may have numbers in common; of
        others, one comes after the other, or they begin from different seeds.
        """
        known: dict[bytes, tuple[tuple[bytes, str], ...]] = {}

        def turned(state: bytes, kind: str) -> tuple[tuple[bytes, str], ...]:
            return ((state, kind),) if state in self._forks else ()

        def reached(state: bytes) -> tuple[tuple[bytes, str], ...]:
            way = []
            while state not in known and state in self._ways:
                way.append(state)
                state = self._ways[state][0]
            for later in reversed(way):
                known[later] = known.get(state, ()) + turned(*self._ways[later])
                state = later
            return known.get(state, ())

        def of(start: Start) -> tuple[tuple[bytes, str], ...]:
            if not self._forks or not start.before:
                return ()
            return reached(start.before) + turned(start.before, start.kind)

        return of

    def _move_on(self, before: bytes, kind: str) -> bytes:
        """Takes numbers until the state is one that only this kind of draw from `before` has."""
        while True:
            torch.rand((), device="cpu")
            after = _digest(torch.get_rng_state())
            if self._ways.setdefault(after, (before, kind)) == (before, kind):
                return after


def is_own(generator: Any) -> bool:
    """Whether a generator that code gives is another one than torch's."""
    # By its address: an operation gets another object for the same generator.
    default: Any = torch.default_generator
    return generator is not None and generator._cdata != default._cdata


def _digest(state: torch.Tensor) -> bytes:
    # The state has 5 KB, and a large model has thousands of draws.
    return hashlib.sha256(state.numpy().tobytes()).digest()
