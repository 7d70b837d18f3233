"""Agreement before anything is written: all processes fill one model from one plan, or none does.

Each process sends 32 bytes, the SHA-256 of its plan's digest, its layout and its versions. Only
where these differ do processes exchange more, to say how.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from initcore import STREAM_VERSION, __version__

from initclient._exceptions import InitserveError, PlanWarning
from initclient.torch._checking.processes import PATIENCE, Processes
from initclient.torch._layouts import is_dtensor
from initclient.torch._model import Member

_SWITCH = "; if processes fill models of their own, pass agree=False"


@dataclass(frozen=True)
class Terms:
    """The terms on which one process fills its part.

    Attributes:
        plan: the digest of its plan.
        layout: lines that are the same on all processes.
        versions: its versions of initserve and of the random stream.
        error: the error that keeps it from filling, as text; None without one.
    """

    plan: str = ""
    layout: tuple[str, ...] = ()
    versions: str = f"initserve {__version__} with stream {STREAM_VERSION}"
    error: str | None = None

    def digest(self) -> bytes:
        """32 bytes, equal where everything is equal."""
        return hashlib.sha256(repr(self).encode()).digest()


def agree(processes: Processes, error: Exception | None, terms: Callable[[], Terms]) -> None:
    """Raises on every process if one has an error or others terms. A collective call.

    Args:
        processes: the processes that hold the model; nothing is sent if this one is alone.
        error: the error of this process, if it has one.
        terms: makes its terms if it has no error.

    Raises:
        Exception: the process's own error.
        InitserveError: if another process has an error or other terms, or does not take part.
    """
    if processes.is_alone or _is_fake(processes):
        if error is not None:
            raise error
        return
    own = Terms()
    if error is None:
        try:
            own = terms()
        except Exception as found:
            error = found
    if error is not None:
        own = Terms(error=f"{type(error).__name__}: {error}")
    try:
        is_same = len(set(processes.gather_bytes(own.digest(), _say_waiting))) == 1
        every = [own] if is_same and error is None else processes.gather(own)
    except RuntimeError as failure:
        if error is not None:
            raise error from failure
        raise InitserveError(
            f"not every process of the group has called init_ too: {failure}; call it on each of "
            f"them{_SWITCH}"
        ) from failure
    if error is not None:
        raise error
    if len(every) > 1:
        raise InitserveError(_difference(every, processes.ranks))


def terms_of(found: Sequence[Member], plan: str, left: Sequence[str], partial: bool) -> Terms:
    """The terms of a process.

    Args:
        found: the parameters and buffers that are filled.
        plan: the digest of the plan.
        left: names of others that are given or kept.
        partial: whether other processes may have other parameters.
    """
    lines = set()
    for member in found:
        agreement = member.layout.agreement
        if not partial:
            lines.add(f"{member.name} {list(member.shape)} {member.tensor.dtype} {agreement}")
        elif agreement and not is_dtensor(member.tensor):
            # Stages may have meshes of their own.
            lines.add(agreement)
    if not partial:
        lines |= {f"{name} is given or kept" for name in left}
    return Terms(plan, tuple(sorted(lines)))


def _say_waiting() -> None:
    message = (
        f"init_ has waited {PATIENCE:g} s for the other processes of the group, which have to call "
        f"it too, and goes on waiting{_SWITCH}"
    )
    warnings.warn(message, PlanWarning, stacklevel=2)


def _is_fake(processes: Processes) -> bool:
    """Whether the group only pretends to communicate, as in dry runs."""
    return bool(sys.modules["torch.distributed"].get_backend(processes.group) == "fake")


def _difference(every: Sequence[Terms], ranks: Sequence[int]) -> str:
    for rank, one in zip(ranks, every, strict=True):
        if one.error is not None:
            return f"rank {rank} cannot fill its part, so no process has changed: {one.error}"
    first = every[0]
    rank, one = next((rank, one) for rank, one in zip(ranks, every, strict=True) if one != first)
    here, there = f"rank {ranks[0]}", f"rank {rank}"
    if one.versions != first.versions:
        return f"{there} has {one.versions}, and {here} {first.versions}; install one version"
    if one.plan != first.plan:
        return (
            f"{there} has plan {one.plan}, and {here} plan {first.plan}; give the same plan and "
            "seed on every process; to pipeline stages give one plan of all, as ict.plan(..., "
            f"join=True) makes it, and partial=True{_SWITCH}"
        )
    theirs = sorted({*one.layout} ^ {*first.layout})[0]
    owner = there if theirs in one.layout else here
    other = here if owner == there else there
    return (
        f"{owner} has {theirs!r}, and {other} does not; give every process the same layout, or "
        f"partial=True if they hold different parts of the model{_SWITCH}"
    )
