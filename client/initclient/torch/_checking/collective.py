"""verify: compares a model, on one process or many, with the weights of a plan, to the bit.

Each process compares its own parts, in any layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial as partial_function
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from initcore import Tensor
from initcore.backends import BackendName
from initcore.file import Progress
from numpy.typing import NDArray
from torch import nn

from initclient._checking import Findings, Mismatch, Verification, globs
from initclient._machine import ProgressLike, shown
from initclient._models import settled
from initclient._plan import PlanLike, as_plan
from initclient._source import Credentials, Folder, Retry, Target, source_of
from initclient.torch._checking.engines import Engine, engine_members
from initclient.torch._checking.processes import Processes
from initclient.torch._layouts import Piece, fits, padding, planned_pieces
from initclient.torch._model import (
    Member,
    host_bytes,
    members,
    named,
    process_count,
    process_rank,
    reshard,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Model: TypeAlias = nn.Module | Mapping[str, torch.Tensor]
"""A module, or a state dict."""

# Elements that are copied to the host at a time.
_STAGED = 1 << 20


def verify(
    model: Model,
    plan: PlanLike,
    target: Target | None = None,
    *,
    engine: Engine | None = None,
    group: ProcessGroup | None = None,
    local: bool = False,
    seed: int | None = None,
    partial: bool = False,
    ignore: str | Iterable[str] = (),
    backend: BackendName | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    checkpoints: Folder | None = None,
) -> Verification:
    """Makes sure that a model holds the weights of a plan, to the bit, on all processes.

    Where torch.distributed runs, this is a collective call: every process of the group makes it,
    and all return the same report or raise together. The group's processes hold the model
    together, in any layout: copies, shards of DTensors, pipeline stages. Each compares only its
    own parts; processes exchange some integers a tensor.

    Args:
        model: the model, wrapped or not, or its state dict. A model's buffers that are not in
            the plan are left out; a state dict does not distinguish them from parameters, so
            name them in `ignore`.
        plan: the result of `plan`, or anything that `ic.fetch` takes. Slices are ignored.
        target: as for `ic.fetch`, and the same on every process: one process fetches the plan's
            fingerprints from a server for all; or, in process, each makes the plan's values of
            its own parts.
        engine: the layout of an inference engine, such as vLLM: fused modules, and shards of its
            tensor parallelism; None means a model as torch has it.
        group: the processes that hold the model; None means all.
        local: compare only this process's parts, without any communication.
        seed: the plan's seed instead of its own.
        partial: whether tensors of the plan may be missing.
        ignore: a glob for names that are not compared, or several; `*` also matches dots.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds in which servers must answer; None means no limit.
        progress: True for a bar, which the process of rank 0 draws; or a function of the bytes
            read in this process and in all.
        retry: when to call a server again and when to give up.
        credentials: certificates and tokens.
        streams: as for `ic.fetch`; fingerprints come in one call at a time.
        checkpoints: the folder of checkpoints, if processes make the plan's values.

    Returns:
        The report: the compared tensors, with the fingerprints of whole tensors.

    Raises:
        VerificationError: on every process, naming every tensor that differs, is missing, is
            not in the plan, or has another shape or element type, and which processes hold
            the wrong parts; its `report` is a `Verification`.
        InitserveError: on every process, if one of them could not compare its parts; that one
            raises its own error.
        PlanError: if the plan is wrong, a checkpoint does not have its tensors, or a layout is
            not known.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        TypeError, ValueError: for a model of another type, or one on the meta device.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> model = nn.Linear(4, 2)
        >>> plan = ict.plan(model, seed=7)
        >>> _ = ict.init_(model, plan, target="local")
        >>> ict.verify(model, plan, target="local").agreed
        ('weight', 'bias')
    """
    processes = Processes.of(group, local)
    own = _TorchFindings()
    try:
        source = source_of(
            target,
            backend=backend,
            checkpoints=checkpoints,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            streams=streams,
        )
        given = settled(plan, source, seed, processes=process_count())
        own.begin(as_plan(given, seed), source, globs(ignore))
        with shown(progress, "verify", silent=process_rank() > 0) as bar:
            assert own.request is not None
            planned = own.request.layout.plan.tensors
            own.compare(members_of(model, engine, planned), bar)
        own.finish(processes)
    except Exception as error:
        # The other processes wait in `together`, which sends them the error.
        own.error = error
    return own.together(processes, partial=partial, local=local).checked()


class _TorchFindings(Findings):
    """The results of this process, for its own parts of a model of torch."""

    def compare(self, found: Sequence[Member], progress: Progress | None) -> None:
        """Compares the parts that this process holds."""
        assert self.request is not None
        planned = self.request.layout.plan.tensors
        pieces: list[tuple[Member, Piece]] = []
        for member in {member.name: member for member in found}.values():
            if not self._has_values(member):
                continue
            shape = planned[member.name].shape
            pieces += [(member, piece) for piece in planned_pieces(member.layout, shape)]
            if any(rows.ne(0).any() for rows in padding(member.layout, shape)):
                text = f"has rows past the {shape[0]} of the plan, and they are not zero"
                self.mismatches.append(Mismatch(member.name, "values", text))
        parts = [(member.name, piece.bounds) for member, piece in pieces]
        comparison, entries = self.comparison(parts, progress)
        for (member, piece), entry in zip(pieces, entries, strict=True):
            with torch.no_grad():
                result = comparison.compare(member.name, entry, bits_of(piece.values))
            self.add(member.name, result)

    def _has_values(self, member: Member) -> bool:
        is_comparable = self.is_comparable(
            member.name,
            member.shape,
            member.tensor.dtype,
            fits=partial_function(fits, member.layout),
            is_buffer=member.is_buffer,
        )
        if is_comparable and member.tensor.is_meta:
            raise ValueError(f"{member.name!r} is on the meta device and has no values to verify")
        return is_comparable


def members_of(model: Model, engine: Engine | None, planned: Mapping[str, Tensor]) -> list[Member]:
    """The members of a model or state dict, or what an engine's parameters hold of the plan.

    Raises:
        PlanError: for a layout that is not known.
        TypeError: for a state dict with other values than tensors.
    """
    found = _members(model)
    return found if engine is None else engine_members(model, found, engine, planned)


def _members(model: Model) -> list[Member]:
    if isinstance(model, Mapping):
        for name, tensor in model.items():
            if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
                raise TypeError(
                    f"the state dict has {type(tensor).__name__} at {name!r}; all must be tensors"
                )
        return named(model)
    if isinstance(model, nn.Module):
        # After a forward, FSDP2 may have left gathered copies instead of the shards.
        reshard(model)
    return members(model)


def bits_of(values: torch.Tensor) -> Iterator[NDArray[Any]]:
    """A tensor's bits in row-major order, in its own memory or copied to the host in blocks."""
    values = values.resolve_neg()
    size, count = values.element_size(), values.numel()
    memory = host_bytes(values)
    if memory is not None:
        bits = memory.view(f"u{size}")
        for first in range(0, count, _STAGED):
            yield bits[first : first + _STAGED]
    elif values.is_contiguous():
        flat = values.view(-1)
        for first in range(0, count, _STAGED):
            yield _on_host(flat[first : first + _STAGED])
    elif count <= _STAGED:
        yield _on_host(values.contiguous().view(-1))
    else:
        axis = next(i for i, length in enumerate(values.shape) if length > 1)
        length = values.shape[axis]
        step = max(1, _STAGED * length // count)
        for first in range(0, length, step):
            yield from bits_of(values.narrow(axis, first, min(step, length - first)))


def _on_host(flat: torch.Tensor) -> NDArray[Any]:
    data: NDArray[np.uint8] = flat.contiguous().cpu().view(torch.uint8).numpy()
    return np.require(data.view(f"u{flat.element_size()}"), requirements=["A"])
