"""Parameters that carry their layout: `parameter.initserve_layout`, for launchers of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from initclient.torch._layouts._layout import Layout, Slot


def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]:
    """Calls the function that a parameter carries.

    Raises:
        TypeError: if it does not return a Layout.
    """
    for index, slot in enumerate(slots):
        make: Callable[[Slot], Layout] | None = getattr(slot.tensor, "initserve_layout", None)
        if make is None:
            continue
        layout = make(slot)
        if not isinstance(layout, Layout):
            raise TypeError(
                f"initserve_layout of {slot.name!r} returns {layout!r}; return an ict.Layout"
            )
        yield index, layout
