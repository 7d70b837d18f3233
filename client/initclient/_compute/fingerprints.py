"""Fingerprints of a plan's tensors, computed in this process."""

from __future__ import annotations

from initcore import Fingerprint
from initcore.file import BLOCK, Progress, fingerprints_between, mixer

from initclient._source import Request


def compute_fingerprints(
    request: Request, progress: Progress | None = None
) -> dict[str, Fingerprint]:
    """The fingerprint of each tensor of a plan (of its slices, if it has any), by name.

    Args:
        request: the plan, whose values this process makes, a block at a time.
        progress: called with the bytes made and in all.
    """
    layout, backend = request.layout, request.backend()
    file, mix = request.open(backend), mixer(backend.name)
    found = {entry.tensor.name: Fingerprint() for entry in layout.entries}
    begin, total = layout.data_begin, layout.size - layout.data_begin
    # A block is a multiple of 8 bytes, so that no element is cut.
    for low in range(begin, layout.size, BLOCK):
        high = min(low + BLOCK, layout.size)
        for name, part in fingerprints_between(file, low, high, mix=mix).items():
            found[name] += part
        if progress:
            progress(high - begin, total)
    return found
