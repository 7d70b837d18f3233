"""The processes of torch.distributed that run together."""

from __future__ import annotations

import torch.distributed as dist


def process_rank() -> int:
    """The rank of this process in the default process group; 0 without one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def process_count() -> int:
    """How many processes the default process group has; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
