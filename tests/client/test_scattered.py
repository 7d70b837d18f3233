"""A download into separate memory for each tensor equals one into a single block."""

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
    places = zip((entry.begin for entry in LAYOUT.entries), memory, strict=True)
    sink = Scattered(places)
    assert sink.ranges == [(LAYOUT.data_begin, LAYOUT.size)]
    for begin, end in ranges:
        sink.write_at(begin, FILE.read(begin, end - begin))
    for entry, place in zip(LAYOUT.entries, memory, strict=True):
        assert place.tobytes() == FILE.array(entry).tobytes()


@given(st.sets(st.integers(0, 200), min_size=2, max_size=12))
def test_neighbouring_ranges_are_joined_and_gaps_stay(cuts: set[int]) -> None:
    pairs = list(itertools.pairwise(sorted(cuts)))
    # Every third range is left out.
    wanted = [pair for number, pair in enumerate(pairs) if number % 3 != 2]
    sink = Scattered([(begin, np.zeros(end - begin, dtype=np.uint8)) for begin, end in wanted])
    positions = {position for begin, end in wanted for position in range(begin, end)}
    assert {p for begin, end in sink.ranges for p in range(begin, end)} == positions
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(sink.ranges))
