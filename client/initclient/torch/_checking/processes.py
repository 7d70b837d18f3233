"""The processes that hold a model together, and the two things that they do: tell and add."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """A group of processes, or this one alone.

    Attributes:
        group: the group; None is all, or this process where it is alone.
        rank: this process's place in the group.
        ranks: the ranks of all of them, in the group's order.
        is_alone: whether there is nobody to talk to.
    """

    group: ProcessGroup | None = None
    rank: int = 0
    ranks: tuple[int, ...] = (0,)
    is_alone: bool = True

    @classmethod
    def of(cls, group: ProcessGroup | None, local: bool) -> Processes:
        """The group's processes; this one alone if `local`, or where torch.distributed rests.

        Raises:
            ValueError: if this process is not in the group.
        """
        # Where nobody loaded it, nothing is distributed.
        distributed = sys.modules.get("torch.distributed")
        if local or distributed is None or not distributed.is_available():
            return cls()
        if not distributed.is_initialized():
            return cls()
        rank = distributed.get_rank(group)
        if rank < 0:
            raise ValueError("this process is not in the group that is to verify the model")
        ranks = tuple(distributed.get_process_group_ranks(group))
        return cls(group, rank, ranks, is_alone=len(ranks) == 1)

    @property
    def shown_rank(self) -> int | None:
        """This process's rank, None where it is alone."""
        return None if self.is_alone else self.ranks[self.rank]

    def gather(self, value: _T) -> list[_T]:
        """What each process has to say, in the group's order. A collective call."""
        if self.is_alone:
            return [value]
        from torch import distributed

        everybody: list[_T] = [value] * len(self.ranks)
        distributed.all_gather_object(everybody, value, group=self.group)
        return everybody

    def add(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The sums of everybody's integers, place by place. A collective call."""
        if self.is_alone or not rows:
            return [list(row) for row in rows]
        from torch import distributed

        sums = torch.tensor(rows, dtype=torch.int64, device=self._device())
        distributed.all_reduce(sums, group=self.group)
        added: list[list[int]] = sums.tolist()
        return added

    def _device(self) -> torch.device:
        """Where this group's backend wants tensors."""
        from torch import distributed

        # "cpu:gloo,cuda:nccl", or one of these.
        if "cpu:" in distributed.get_backend_config(self.group):
            return torch.device("cpu")
        accelerator = torch.accelerator.current_accelerator()
        return torch.device("cpu") if accelerator is None else accelerator
