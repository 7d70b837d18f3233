"""The state of torch's generator at each draw of a trace, which shows seeds and repeated draws."""

from __future__ import annotations

import hashlib
import math

import torch

from initclient._laws import Constant, Dirac, Eye, Law, Source


class GeneratorStates:
    """Which states of torch's generator a trace has seen.

    On the meta device a draw leaves the state as it is. There this class moves it on, so that no
    two draws see one state unless the traced code put it back.

    Args:
        on_meta: whether the trace runs on the meta device.

    Attributes:
        repeated: the first line whose draw repeats an earlier one; None for none.
    """

    def __init__(self, on_meta: bool) -> None:
        self._on_meta = on_meta
        self._seen: set[bytes] = set()
        self._expected = _state()
        self._is_seeded = False
        self.repeated: Source | None = None

    @property
    def is_seeded(self) -> bool:
        """Whether the code set the state; known on the meta device alone."""
        return self._on_meta and (self._is_seeded or _state() != self._expected)

    def note(self, law: Law, shape: tuple[int, ...], source: Source) -> None:
        """Notes a draw from torch's generator. Modes must be off."""
        if not math.prod(shape) or isinstance(law, Constant | Eye | Dirac):
            # These need no numbers.
            return
        state = _state()
        if state in self._seen and self.repeated is None:
            self.repeated = source
        self._seen.add(state)
        if self._on_meta:
            self._is_seeded = self._is_seeded or state != self._expected
            torch.rand((), device="cpu")
            self._expected = _state()


def _state() -> bytes:
    # A digest: the state has 5 KB, and a large model has thousands of draws.
    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
