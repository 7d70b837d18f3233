"""Keeping: tensors that one run of the code made and that another run meets, as caches have them.

A recording runs the code twice, and no cache of the code is cleared in between. What the first run
put into one is on the meta device from then on, for every model of the process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from initclient._laws import Source


@dataclass(frozen=True)
class Made:
    """A tensor that a run of the code made.

    Attributes:
        source: the line that made it; None where no single line did.
        is_drawn: whether a draw takes part in it.
    """

    source: Source | None
    is_drawn: bool = False

    @property
    def note(self) -> str:
        """What the user should know of a tensor on the meta device that the code keeps."""
        return (
            f"the code keeps a tensor that it made{self._at} for later calls (a cache); the "
            "recording made it on the meta device, so models that this process makes later have "
            f"no values there: {self._remedy(self.is_drawn)}"
        )

    def refusal(self, is_meta: bool, is_parameter: bool) -> str:
        """Why a tensor that depends on it has no plan.

        Args:
            is_meta: whether it is on the meta device.
            is_parameter: whether it is a parameter, whose values are never read as data.
        """
        on_meta = (
            "; it is on the meta device, so models that this process makes later have no values "
            "there, either"
        )
        return (
            f"it is, or depends on, a tensor that the code made{self._at} in an earlier run and "
            f"keeps for later calls (a cache), so that this run did not make it"
            f"{on_meta if is_meta else ''}; {self._remedy(self.is_drawn or is_parameter)}"
        )

    @property
    def _at(self) -> str:
        return "" if self.source is None else f" at {self.source.called}"

    @staticmethod
    def _remedy(is_always_made: bool) -> str:
        if is_always_made:
            return "clear that cache at the start of the code that you record, and after recording"
        return (
            "clear that cache after recording; or clear it, and then call that code once before "
            "you record, or use record(..., device='cpu')"
        )


def _is_gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]


class _Recorded:
    """What recordings of this process left on the meta device in caches of the code."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[StorageWeakRef, Made]] = {}

    def add(self, storage: torch.UntypedStorage, made: Made) -> None:
        """Notes a storage; it is not kept alive."""
        self._made = {key: one for key, one in self._made.items() if not _is_gone(one[0])}
        # The weak reference keeps the storage's address from being used again.
        self._made[int(storage._cdata)] = StorageWeakRef(storage), made  # type: ignore[no-untyped-call]

    def get(self, key: int) -> Made | None:
        """What is known of the storage at an address; None if no recording left it."""
        found = self._made.get(key)
        return None if found is None or _is_gone(found[0]) else found[1]


made_by_earlier_recordings = _Recorded()
"""What recordings of this process left on the meta device in caches of the code."""
