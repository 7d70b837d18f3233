"""The copies in float32 that Megatron's optimizers keep of a parameter's values: its masters.

Read from 0.16.1. The plain optimizer's master has the parameter's shape. That of the distributed
optimizer is a range of the flat parameter: Megatron's DistributedDataParallel lays all parameters
into buffers, cuts these into buckets, and each bucket evenly over the ranks. Only it knows how.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from initclient.torch._layouts._layout import Slot

_BEFORE = "fill the model before get_megatron_optimizer"


def refresh(slot: Slot) -> Callable[[], object] | None:
    """Copies a parameter's values to its master; None if this process has none."""
    main = getattr(slot.tensor, "main_param", None)
    if main is None:
        return None
    own = _range(slot) if _is_sharded(slot) else (0, slot.tensor.numel())
    return None if own is None else partial(_copy, slot.tensor, own, main)


def refusal(slot: Slot) -> str:
    """Why a parameter's masters cannot be refreshed; "" if they can, or if there are none."""
    if getattr(slot.tensor, "__fsdp_param__", False):
        return (
            "is in Megatron-FSDP, whose copies of its values are not known here; fill the model "
            "before FullyShardedDataParallel wraps it"
        )
    if hasattr(slot.tensor, "main_grad") and _has_offloaded():
        return (
            "is in Megatron's DistributedDataParallel, and this process has a "
            "HybridDeviceOptimizer (optimizer_cpu_offload), whose copies on the host are not known "
            f"here; {_BEFORE}"
        )
    if not _is_sharded(slot):
        return ""
    own = _range(slot)
    if own is None:
        return (
            "is in Megatron's distributed optimizer, which has copies of its values in float32, "
            "and only the wrapper knows which rank has which part; pass the model as "
            f"DistributedDataParallel wraps it, or {_BEFORE}"
        )
    main = getattr(slot.tensor, "main_param", None)
    if (0 if main is None else main.numel()) != own[1] - own[0]:
        return (
            "is in Megatron's distributed optimizer, whose copies of its values are not those "
            f"that are known here (use_precision_aware_optimizer, fp8); {_BEFORE}"
        )
    return ""


def _copy(parameter: torch.Tensor, own: tuple[int, int], main: torch.Tensor) -> None:
    with torch.no_grad():
        main.view(-1).copy_(parameter.detach().view(-1)[slice(*own)])


def _is_sharded(slot: Slot) -> bool:
    return bool(getattr(slot.tensor, "main_param_sharded", False))


def _range(slot: Slot) -> tuple[int, int] | None:
    """The elements of a flat parameter whose master this rank has; None if that is not known."""
    tensor: Any = slot.tensor
    for module in slot.path:
        groups = getattr(module, "param_to_bucket_group", None)
        if groups is None or tensor not in groups:
            continue
        try:
            group = groups[tensor]
            bucket = group.param_to_bucket[tensor].grad_data
            size = bucket.numel() // group.intra_distributed_optimizer_instance_size
            begin = size * group.intra_distributed_optimizer_instance_rank
            # Between parameters there is padding, so that memory says where one begins.
            begin -= tensor.main_grad.storage_offset() - bucket.storage_offset()
        except AttributeError:
            return None
        first = min(max(begin, 0), tensor.numel())
        return first, min(max(begin + size, first), tensor.numel())
    return None


def _has_offloaded() -> bool:
    """Whether a HybridDeviceOptimizer was made in this process: it leaves no mark elsewhere."""
    found: Any = sys.modules.get("megatron.core.optimizer.cpu_offloading.hybrid_optimizer")
    kind = getattr(found, "HybridDeviceOptimizer", None)
    # torch wraps the method `step` of a class of optimizers when the first one is made.
    return bool(getattr(getattr(kind, "step", None), "hooked", False))
