"""A download into memory of each tensor's own is the download into one block."""

from __future__ import annotations

import itertools

import initclient as ic
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from initclient._files.sinks import Scattered
from initcore import VirtualFile, layout
from initcore.backends import load

LAYOUT = layout(
    ic.Plan(
        {
            "half": ic.normal((3, 5), dtype="float16"),
            "empty": ic.normal((0, 4)),
            "wide": ic.normal((7,), dtype="float64"),
            "byte": ic.ones((3,), dtype="uint8"),
        }
    )
)
FILE = VirtualFile(LAYOUT, load("numpy"))


@given(st.lists(st.integers(0, LAYOUT.size), max_size=12), st.randoms(use_true_random=False))
def test_any_cuts_in_any_order_fill_every_tensor(cuts: list[int], random: object) -> None:
    bounds = sorted({0, LAYOUT.size, *cuts})
    ranges = list(itertools.pairwise(bounds))
    random.shuffle(ranges)  # type: ignore[attr-defined]
    memory = [np.full(entry.tensor.nbytes, 0x55, dtype=np.uint8) for entry in LAYOUT.entries]
    sink = Scattered(LAYOUT, memory)
    for begin, end in ranges:
        sink.write_at(begin, FILE.read(begin, end - begin))
    for entry, place in zip(LAYOUT.entries, memory, strict=True):
        assert place.tobytes() == FILE.array(entry).tobytes()
