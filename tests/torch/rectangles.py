"""The rectangles of a recorded tensor that have laws of their own."""

from __future__ import annotations

from collections.abc import Iterator

from initclient._laws import Block, Composition, Joined


def pieces(composition: Composition) -> Iterator[tuple[tuple[slice, ...], Block]]:
    """The rectangles of a tensor that have laws of their own; nothing for a tensor of another form.

    A test of a whole tensor does not see that two of its rectangles have changed places.
    """
    if isinstance(composition, Block):
        yield tuple(slice(0, size) for size in composition.shape), composition
    if isinstance(composition, Joined):
        axis, begin = composition.axis, 0
        for part in composition.parts:
            end = begin
            for place, block in pieces(part):
                moved = slice(place[axis].start + begin, place[axis].stop + begin)
                end = max(end, moved.stop)
                yield (*place[:axis], moved, *place[axis + 1 :]), block
            begin = end
