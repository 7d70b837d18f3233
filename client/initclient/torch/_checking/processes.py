"""The processes that hold a model together, with the two collectives: gather and add."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_T = TypeVar("_T")

PATIENCE = 30.0
"""Seconds after which a process that waits for the others says so."""


@dataclass(frozen=True)
class Processes:
    """A group of processes, or this process alone.

    Attributes:
        group: the group; None means all processes, or this one if it is alone.
        rank: this process's rank in the group.
        ranks: the global ranks of the group's processes, in its order.
        is_alone: whether this is the only process.
    """

    group: ProcessGroup | None = None
    rank: int = 0
    ranks: tuple[int, ...] = (0,)
    is_alone: bool = True

    @classmethod
    def of(cls, group: ProcessGroup | None, local: bool) -> Processes:
        """The group's processes; this one alone if `local`, or without torch.distributed.

        Raises:
            ValueError: if this process is not in the group.
        """
        # If it was never imported, nothing is distributed.
        distributed = sys.modules.get("torch.distributed")
        if local or distributed is None or not distributed.is_available():
            return cls()
        if not distributed.is_initialized():
            return cls()
        rank = distributed.get_rank(group)
        if rank < 0:
            raise ValueError(
                "this process is not in the group; only processes of the group make this call"
            )
        ranks = tuple(distributed.get_process_group_ranks(group))
        return cls(group, rank, ranks, is_alone=len(ranks) == 1)

    def gather(self, value: _T) -> list[_T]:
        """The values of all processes, in the group's order. A collective call."""
        if self.is_alone:
            return [value]
        from torch import distributed

        values: list[_T] = [value] * len(self.ranks)
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def gather_bytes(self, value: bytes, late: Callable[[], None]) -> list[bytes]:
        """The bytes of all processes, of one length, in the group's order. A collective call.

        Args:
            value: the bytes of this process.
            late: called once if the others have not come after some seconds.
        """
        if self.is_alone:
            return [value]
        from torch import distributed

        own = torch.tensor(list(value), dtype=torch.uint8, device=self._device())
        found = [torch.empty_like(own) for _ in self.ranks]
        work = distributed.all_gather(found, own, group=self.group, async_op=True)
        end = time.monotonic() + PATIENCE
        while not work.is_completed():
            if time.monotonic() > end:
                late()
                break
            time.sleep(0.001)
        work.wait()
        return [bytes(one.tolist()) for one in found]

    def add(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The sums of all processes' integers, element by element. A collective call."""
        if self.is_alone or not rows:
            return [list(row) for row in rows]
        from torch import distributed

        sums = torch.tensor(rows, dtype=torch.int64, device=self._device())
        distributed.all_reduce(sums, group=self.group)
        added: list[list[int]] = sums.tolist()
        return added

    def _device(self) -> torch.device:
        """The device of tensors for this group's backend."""
        from torch import distributed

        # "cpu:gloo,cuda:nccl", or one of these.
        if "cpu:" in distributed.get_backend_config(self.group):
            return torch.device("cpu")
        accelerator = torch.accelerator.current_accelerator()
        return torch.device("cpu") if accelerator is None else accelerator
