"""This process as a source of values."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from initcore import Checkpoints
from initcore.backends import BackendName, check_backend
from initcore.machine import available_cpus

from initclient._source.checkpoints import Folder


@dataclass(frozen=True)
class InProcess:
    """This process, which computes values itself.

    Attributes:
        backend: the backend that computes: "auto", "numpy", "native" or "cupy"; None means the
            environment variable INITSERVE_BACKEND, else "auto". The bits are the same.
        checkpoints: the folder of the checkpoints that plans take values from, or opened
            checkpoints; None means the environment variable INITSERVE_CHECKPOINTS; if that is
            unset, no folder.

    Raises:
        PlanError: for a backend that is not known.
        ValueError: if the environment variable INITSERVE_THREADS is no number of threads.
    """

    _: KW_ONLY
    backend: BackendName | None = None
    checkpoints: Folder | Checkpoints | None = None

    def __post_init__(self) -> None:
        # Refuses a wrong variable at once, also for work that takes one thread anyway.
        available_cpus()
        if self.backend is not None:
            check_backend(self.backend)
