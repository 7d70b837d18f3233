"""Memory: what each storage holds, as the writes to it that can still be seen.

A recording runs the code twice, and no cache of the code is cleared in between. What the first run
put into one is on the meta device from then on, for every model of the process; the second run's
memory finds it among the first one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from initclient._laws import Source
from initclient.torch._trace.expressions import (
    Assembled,
    Data,
    Expression,
    Kept,
    Unseen,
    Unwritten,
)
from initclient.torch._trace.geometry import Geometry, geometry_of
from initclient.torch._trace.sources import source

Write = tuple[Geometry, Expression]

_BEFORE = (
    "it was there before the recording began, or was made out of its sight: by another thread, or "
    "of the memory of another library"
)


@dataclass
class _Watched:
    """Data that became a tensor, whose memory others may still change.

    Attributes:
        origin: the tensor that was read.
        values: a copy of the values that it has if only torch changes it.
        has_changed: whether something else has changed it.
    """

    origin: torch.Tensor
    values: torch.Tensor
    has_changed: bool = False

    def check(self) -> None:
        """Compares the values with the copy."""
        self.has_changed = self.has_changed or not same_bytes(self.origin, self.values)


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


class Memory:
    """The storages of a recording, by identity; it keeps them, so that no identity returns.

    Args:
        earlier: the memory of an earlier run of the same code.

    Attributes:
        kept: what earlier runs of the code made and this one met, by the storage: caches.
    """

    def __init__(self, earlier: Memory | None = None) -> None:
        self.kept: dict[int, Made] = {}
        self._earlier = earlier
        self._made: dict[int, Made] = {}
        self._writes: dict[int, tuple[Write, ...]] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._watched: dict[int, list[_Watched]] = {}

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether the recording has seen the tensor's storage."""
        return _key(tensor) in self._writes

    def read(self, tensor: torch.Tensor) -> Expression:
        """The content of a tensor. Modes must be off, since it may copy values."""
        writes = self._writes.get(_key(tensor))
        if writes is None:
            return self._first_read(tensor)
        view = geometry_of(tensor)
        if any(content.dtype != tensor.dtype for _, content in writes):
            return Unseen(tuple(tensor.shape), tensor.dtype, "a view with another element type")
        if writes and writes[-1][0] == view:
            return writes[-1][1]
        return Assembled(tuple(tensor.shape), tensor.dtype, writes, view)

    def note_made(self, tensor: torch.Tensor) -> None:
        """Notes that the code made a tensor, whose content is known."""
        key = _key(tensor)
        if key not in self._made and (writes := self._writes.get(key)):
            self._made[key] = Made(writes[-1][1].source)

    def meet(self, tensor: torch.Tensor) -> Made | None:
        """Notes that the code has a tensor: what is known of it if an earlier run made it."""
        key = _key(tensor)
        if self.knows(tensor):
            return self.kept.get(key)
        made = made_by_earlier_recordings.get(key)
        if made is None and self._earlier is not None and key in self._earlier._made:
            writes = self._earlier._writes[key]
            is_drawn = any(content.is_random for _, content in writes)
            made = replace(self._earlier._made[key], is_drawn=is_drawn)
            if tensor.is_meta:
                made_by_earlier_recordings.add(tensor.untyped_storage(), made)
        if made is not None:
            self.kept[key] = made
        return made

    def write(self, tensor: torch.Tensor, content: Expression) -> None:
        """Notes that a tensor has a new content."""
        self.meet(tensor)
        view = geometry_of(tensor)
        if not _is_whole(tensor, view):
            if not self.knows(tensor):
                self.read(tensor)
            earlier = self._writes.get(_key(tensor), ())
            # What lies below the new content cannot be seen any more.
            left = tuple(one for one in earlier if not view.covers(one[0]))
            self._set(tensor, (*left, (view, content)))
        else:
            self._set(tensor, ((view, content),))

    def replace(self, tensor: torch.Tensor, content: Expression) -> None:
        """Forgets the writes to a tensor's storage, of which it is a view of every element."""
        self._set(tensor, ((geometry_of(tensor), content),))

    @property
    def has_changed_data(self) -> bool:
        """Whether something but an operation of torch has changed data that were read."""
        watched = [one for found in self._watched.values() for one in found]
        for one in watched:
            one.check()
        return any(one.has_changed for one in watched)

    def before_change(self, tensor: torch.Tensor) -> None:
        """Looks at data that were read, before an operation of torch changes them."""
        for one in self._watched.get(_key(tensor), ()):
            one.check()

    def after_change(self, tensor: torch.Tensor) -> None:
        """Takes over the values that an operation of torch gave to data that were read."""
        for one in self._watched.get(_key(tensor), ()):
            one.values = one.origin.clone()

    def data(self, tensor: torch.Tensor) -> Data:
        """The values of a tensor with memory, as an expression."""
        origin = tensor.detach()
        copy = origin.clone()
        self._watched.setdefault(_key(origin), []).append(_Watched(origin, copy))
        return Data(tuple(tensor.shape), tensor.dtype, copy, source=source())

    def forbid(self, tensor: torch.Tensor) -> None:
        """Notes that a tensor's values from before the recording are not to be read as data."""
        whole = _whole(tensor)
        content = Unseen(tuple(whole.shape), tensor.dtype, _BEFORE)
        self._set(tensor, ((geometry_of(whole), content),))

    def _first_read(self, tensor: torch.Tensor) -> Expression:
        made = self.meet(tensor)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        if made is not None and (tensor.is_meta or made.is_drawn or is_parameter):
            whole = _whole(tensor)
            reason = made.refusal(tensor.is_meta, is_parameter)
            content = Kept(tuple(whole.shape), tensor.dtype, reason, source=made.source)
            self._set(tensor, ((geometry_of(whole), content),))
        elif tensor.is_meta or is_parameter:
            self.forbid(tensor)
        else:
            whole = _whole(tensor)
            self._set(tensor, ((geometry_of(whole), self.data(whole)),))
        return self.read(tensor)

    def _set(self, tensor: torch.Tensor, writes: tuple[Write, ...]) -> None:
        key = _key(tensor)
        self._writes[key] = writes
        self._storages.setdefault(key, tensor.untyped_storage())


def is_covered(assembled: Assembled, limit: int) -> bool | None:
    """Whether writes cover all that is read; None where that would take too much memory to say."""
    written = [(view, e) for view, e in assembled.writes if not isinstance(e, Unwritten)]
    if any(view.covers(assembled.view) for view, _ in written):
        return True
    end = max([assembled.view.end, *(view.end for view, _ in assembled.writes)])
    if end > limit:
        return None
    seen = torch.zeros(end, dtype=torch.bool)
    for view, _ in written:
        view.on(seen).fill_(True)
    return bool(assembled.view.on(seen).all())


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape and element type have the same bits."""
    if torch.equal(one, other):
        return not one.is_floating_point() or torch.equal(one.signbit(), other.signbit())
    if not (one.is_floating_point() or one.is_complex()):
        return False
    return torch.equal(torch.nan_to_num(one, nan=0.5), torch.nan_to_num(other, nan=0.5)) and (
        torch.equal(one.isnan(), other.isnan())
    )


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor's storage: the tensor itself if that is the same."""
    if _is_whole(tensor, geometry_of(tensor)):
        return tensor.detach()
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.detach().as_strided((count,), (1,), 0)


def _is_whole(tensor: torch.Tensor, view: Geometry) -> bool:
    return view.is_dense and view.size * tensor.element_size() >= tensor.untyped_storage().nbytes()
