"""DeepSpeed's ZeRO: partitions of stage 3, and the copies of weights that its optimizers keep.

`zero.Init` and `initialize` flatten each parameter and cut it into partitions of equal size, the
last ones padded (partition_parameters.py of 0.19.8). A partition is a range of the elements in
row-major order. Parameters of stages 1 and 2 are whole on every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from initcore import PlanError, Violation

from initclient.torch._layouts._layout import Layout, Piece, Slot
from initclient.torch._layouts._rectangles import rectangles

# The attributes of a partitioned parameter that are read here.
_MARKS = (
    "ds_id",
    "ds_shape",
    "ds_numel",
    "ds_status",
    "ds_tensor",
    "ds_zero_partition_rank",
    "ds_zero_partition_world_size",
)


def layouts(slots: Sequence[Slot]) -> Iterable[tuple[int, Layout]]:
    """The layouts of parameters that DeepSpeed has partitioned, or keeps copies of."""
    engines: dict[int, bool] = {}
    for index, slot in enumerate(slots):
        if slot.is_buffer or not (vars(slot.tensor) or _has_engine(slot, engines)):
            # DeepSpeed has left nothing on it, as on the thousands of others.
            continue
        is_partitioned = all(getattr(slot.tensor, mark, None) is not None for mark in _MARKS)
        if is_partitioned:
            layout = PartitionedLayout(slot)
            layout.check()
            yield index, layout
        elif _optimizer(slot) is not None or _is_in_engine(slot):
            yield index, CopiedLayout(slot)


class CopiedLayout(Layout):
    """The layout of a whole parameter of which an optimizer of DeepSpeed keeps a copy."""

    @property
    def refresh(self) -> Callable[[], object] | None:
        """Copies the model's values to the optimizer's."""
        if optimizer := _optimizer(self.slot):
            refresh: Callable[[], object] | None = getattr(optimizer, "refresh_fp32_params", None)
            return refresh
        # This process's fragment of the parameter; other processes have the rest.
        fragment = getattr(self.slot.tensor, "_hp_mapping", None)
        return None if fragment is None else partial(_copy, fragment)

    @property
    def refusal(self) -> str:
        """Why the optimizer's copies cannot be refreshed; "" if they can."""
        optimizer = _optimizer(self.slot)
        if optimizer is None:
            if hasattr(self.slot.tensor, "_hp_mapping"):
                return ""
            return (
                "is in a model that deepspeed.initialize has taken, whose optimizer may have a "
                "copy of its values; pass the engine to init_, not engine.module"
            )
        if getattr(optimizer, "swap_optimizer", False):
            how = "keeps its copies of the weights on NVMe"
        elif self.refresh is None:
            how = f"is {type(optimizer).__name__}, whose copies of the weights are not known here"
        else:
            return ""
        return f"is in an optimizer of DeepSpeed that {how}; fill the model before initialize"


class PartitionedLayout(CopiedLayout):
    """The layout of a parameter of ZeRO stage 3."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole parameter."""
        return tuple(map(int, self._carried("ds_shape")))

    def local(self) -> torch.Tensor:
        """This process's partition, flat, with its padding."""
        partition: torch.Tensor = self._carried("ds_tensor")
        return partition.detach()

    def pieces(self) -> Sequence[Piece]:
        """The rectangles of the partition; and the whole parameter while it is gathered."""
        partition = self.local()
        size, count = partition.numel(), int(self._carried("ds_numel"))
        first = min(size * int(self._carried("ds_zero_partition_rank")), count)
        found, at = [], 0
        for bounds in rectangles(self.shape, first, min(first + size, count)):
            sizes = [stop - start for start, stop in bounds]
            end = at + torch.Size(sizes).numel()
            found.append(Piece(bounds, partition[at:end].view(sizes)))
            at = end
        if self._status() == "AVAILABLE" and count:
            # What DeepSpeed frees without writing it back.
            whole = self.slot.tensor.detach()
            found.append(Piece(tuple((0, size) for size in self.shape), whole))
        return found

    @property
    def refusal(self) -> str:
        """Why the optimizer's copies cannot be refreshed; "" if they can or there are none."""
        return "" if _optimizer(self.slot) is None else super().refusal

    @property
    def agreement(self) -> str:
        """The number of partitions."""
        return f"ZeRO-3 over {self._carried('ds_zero_partition_world_size')}"

    def check(self) -> None:
        """Refuses partitions whose elements are not in memory as they are.

        Raises:
            PlanError: naming the parameter.
        """
        partition = self._carried("ds_tensor")
        world = int(self._carried("ds_zero_partition_world_size"))
        wanted = -(-int(self._carried("ds_numel")) // world)
        status = getattr(getattr(partition, "status", None), "name", "AVAILABLE")
        if hasattr(partition, "ds_quant_scale") or partition.dtype != self.slot.tensor.dtype:
            how = "quantized"
        elif getattr(self.slot.tensor, "ds_secondary_tensor", None) is not None:
            how = "copied into secondary partitions (zero_hpz_partition_size)"
        elif status != "AVAILABLE":
            how = "offloaded to NVMe"
        elif self._status() == "INFLIGHT":
            how = "being gathered"
        elif partition.dim() != 1 or partition.numel() != wanted:
            how = f"of {list(partition.shape)} elements, and an even share is {wanted}"
        else:
            return
        message = (
            f"is partitioned by DeepSpeed's ZeRO-3, and the partition is {how}, which is not known "
            "here; fill the model before that"
        )
        raise PlanError([Violation(self.name, "layout", message)])

    def _status(self) -> str:
        return str(getattr(self._carried("ds_status"), "name", ""))

    def _carried(self, attribute: str) -> Any:
        return getattr(self.slot.tensor, attribute)


def _copy(fragment: Any) -> None:
    with torch.no_grad():
        fragment.hp_fragment.copy_(fragment.lp_fragment)


def _is_in_engine(slot: Slot) -> bool:
    """Whether an engine has taken the model, and its optimizer may have copies.

    The optimizers of stages 1 and 2 leave a mark on each parameter; others only the engine's hooks
    on the module. In float32 these have no copies.
    """
    if hasattr(slot.tensor, "_hp_mapping"):
        return True
    return _has_hooks(slot) and slot.tensor.dtype in (torch.float16, torch.bfloat16)


def _has_hooks(slot: Slot) -> bool:
    hooks = slot.path[0]._forward_pre_hooks.values() if slot.path else ()
    return any(getattr(one, "__qualname__", "").startswith("DeepSpeedEngine.") for one in hooks)


def _has_engine(slot: Slot, known: dict[int, bool]) -> bool:
    """Whether the model around is an engine, or one has taken it; `known` is by the model."""
    if not slot.path:
        return False
    model = slot.path[0]
    found = known.get(id(model))
    if found is None:
        found = type(model).__name__ == "DeepSpeedEngine" or _has_hooks(slot)
        known[id(model)] = found
    return found


def _optimizer(slot: Slot) -> Any:
    """DeepSpeed's optimizer with copies of the weights: by the parameter, or by the engine."""
    for attribute in ("_z3_optimizer", "_zero_optimizer"):
        if (optimizer := getattr(slot.tensor, attribute, None)) is not None:
            return optimizer
    for module in slot.path[:1]:
        if type(module).__name__ == "DeepSpeedEngine":
            optimizer = getattr(module, "optimizer", None)
            # Without copies DeepSpeed's engine has the user's own optimizer.
            is_own = isinstance(optimizer, torch.optim.Optimizer)
            return None if is_own else optimizer
    return None
