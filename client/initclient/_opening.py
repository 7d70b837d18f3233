"""Files that are made in this process: what they read besides their plan."""

from __future__ import annotations

import os

from initcore import Checkpoints, Layout, VirtualFile
from initcore.backends import Backend
from initcore.checkpoints import check_checkpoints

VARIABLE = "INITSERVE_CHECKPOINTS"


def open_file(
    laid_out: Layout, backend: Backend, checkpoints: str | os.PathLike[str] | None = None
) -> VirtualFile:
    """The virtual file of a plan, whose checkpoints were found to hold what it takes.

    Args:
        laid_out: the plan, laid out.
        backend: what draws the samples.
        checkpoints: the folder of checkpoints; None means INITSERVE_CHECKPOINTS.

    Raises:
        PlanError: if a checkpoint does not have what the plan says, or there is no folder.
        CheckpointError: if the folder does not exist.
    """
    folder = checkpoints or os.environ.get(VARIABLE)
    opened = Checkpoints(folder) if folder else None
    check_checkpoints([entry.tensor for entry in laid_out.entries], opened)
    return VirtualFile(laid_out, backend, checkpoints=opened)
