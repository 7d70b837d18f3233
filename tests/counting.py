"""How much of a plan a process makes: bytes and elements that it asks the backend for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from initcore import VirtualFile


@dataclass
class Made:
    """What a process made so far."""

    nbytes: int = 0
    elements: int = 0


@contextmanager
def counted() -> Iterator[Made]:
    """Counts what this process makes in the block."""
    made = Made()
    fill, fill_all = VirtualFile.fill, VirtualFile.fill_all

    def note(out: Any) -> None:
        made.nbytes += out.nbytes
        made.elements += len(out)

    def noted(self: VirtualFile, entry: Any, out: Any, *, first: int = 0) -> None:
        note(out)
        fill(self, entry, out, first=first)

    def all_noted(self: VirtualFile, pairs: Any) -> None:
        pairs = list(pairs)
        for _, out in pairs:
            note(out)
        fill_all(self, pairs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VirtualFile, "fill", noted)
        patch.setattr(VirtualFile, "fill_all", all_noted)
        yield made
