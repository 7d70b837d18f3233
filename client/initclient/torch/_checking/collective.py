"""verify: compares a model, on one process or many, with the weights of a plan, to the bit.

Each process compares its own parts, in any layout. The results are then summed over all
processes, one row of integers a tensor, so that every process returns the same report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from initcore import Fingerprint, Plan
from initcore.backends import BackendName
from initcore.dtypes import canonical_name
from initcore.file import Progress
from numpy.typing import NDArray
from torch import nn

from initclient._checking import (
    Compared,
    Comparison,
    Mismatch,
    Verification,
    WrongPart,
    globs,
    is_ignored,
    other_dtype,
    other_shape,
    unexpected,
)
from initclient._exceptions import InitserveError
from initclient._models import settled
from initclient._plan import PlanLike, Region, as_plan, kept, pinned, wanted_regions
from initclient._source import Credentials, Folder, Request, Retry, Target, make_request, source_of
from initclient.torch._checking.processes import Processes
from initclient.torch._checking.verdict import Row, verdict
from initclient.torch._layouts import Piece, fits, padding, planned_pieces
from initclient.torch._model import Member, host_bytes, members, named, process_count, reshard

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
    group: ProcessGroup | None = None,
    local: bool = False,
    seed: int | None = None,
    partial: bool = False,
    ignore: str | Iterable[str] = (),
    backend: BackendName | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
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
        group: the processes that hold the model; None means all.
        local: compare only this process's parts, without any communication.
        seed: the plan's seed instead of its own.
        partial: whether tensors of the plan may be missing.
        ignore: a glob for names that are not compared, or several; `*` also matches dots.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds in which servers must answer; None means no limit.
        progress: called with the bytes read in this process and in all, repeatedly.
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
    own = _LocalFindings()
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
        settled_plan = settled(plan, source, processes=process_count())
        whole = _whole(as_plan(settled_plan, seed))
        own.request = make_request(whole, None, source)
        own.digest = own.request.layout.digest
        own.compare(_members(model), whole, globs(ignore), progress)
        if own.request.service is not None:
            if processes.is_alone:
                own.fetch_expected(list(own.parts))
            elif processes.rank == 0:
                # Without ignored tensors, whose checkpoints the server may lack.
                wanted = wanted_regions(own.request.layout)
                wanted = [region for region in wanted if region.name not in own.left_out]
                fetched = _fingerprints(own.request, wanted)
                own.whole = {r.name: found for r, found in zip(wanted, fetched, strict=True)}
        own.sum_parts()
    except Exception as error:
        # The other processes wait in `gather`, which sends them the error.
        own.error = error
    summaries = processes.gather(own.summary())
    _raise_together(own, summaries, processes)
    assert own.request is not None
    rows = processes.add([row.numbers() for row in own.rows.values()])
    result = verdict(
        own.request.layout,
        {name: Row.of(numbers) for name, numbers in zip(own.rows, rows, strict=True)},
        summaries[0].whole,
        [mismatch for one in summaries for mismatch in one.findings],
        partial=partial,
        local=local,
        left_out=[name for one in summaries for name in one.left_out],
        locate=lambda names: _located(own, names, processes),
    )
    return result.checked()


@dataclass
class _Summary:
    """The message from each process to all others, before the sums.

    Attributes:
        error: the error that kept it from comparing its parts, as text; None without one.
        digest: the digest of its plan.
        findings: its mismatches in name, shape or element type.
        left_out: names that it did not compare.
        whole: the plan's fingerprints, if it fetched them.
    """

    error: str | None
    digest: str
    findings: list[Mismatch]
    left_out: list[str]
    whole: dict[str, Fingerprint] | None


@dataclass
class _LocalFindings:
    """The results of this process, for its own parts."""

    request: Request | None = None
    digest: str = ""
    error: Exception | None = None
    findings: list[Mismatch] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    whole: dict[str, Fingerprint] | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    parts: dict[str, list[Compared]] = field(default_factory=dict)

    def summary(self) -> _Summary:
        """The message to the other processes."""
        error = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        return _Summary(error, self.digest, self.findings, self.left_out, self.whole)

    def compare(
        self,
        found: Sequence[Member],
        plan: Plan,
        ignore: tuple[str, ...],
        progress: Progress | None,
    ) -> None:
        """Compares the parts that this process holds."""
        assert self.request is not None
        self.rows = {name: Row() for name in plan.tensors}
        self.left_out = [name for name in plan.tensors if is_ignored(name, ignore)]
        pieces: list[tuple[Member, Piece]] = []
        for member in {member.name: member for member in found}.values():
            if not self._is_comparable(member, plan, ignore):
                continue
            self.rows[member.name].present = 1
            shape = plan.tensors[member.name].shape
            pieces += [(member, piece) for piece in planned_pieces(member.layout, shape)]
            if any(rows.ne(0).any() for rows in padding(member.layout, shape)):
                text = f"has rows past the {shape[0]} of the plan, and they are not zero"
                self.findings.append(Mismatch(member.name, "values", text))
        self._compare_pieces(pieces, plan, progress)

    def _is_comparable(self, member: Member, plan: Plan, ignore: tuple[str, ...]) -> bool:
        name = member.name
        tensor = plan.tensors.get(name)
        unplanned = tensor is None and (member.is_buffer or name in kept(plan))
        if unplanned or is_ignored(name, ignore):
            self.left_out.append(name)
            return False
        dtype = canonical_name(member.tensor.dtype)
        if tensor is None:
            self.findings.append(unexpected(name))
        elif not fits(member.layout, tensor.shape):
            self.findings.append(other_shape(name, member.shape, tensor.shape))
        elif tensor.dtype != dtype:
            self.findings.append(other_dtype(name, dtype, tensor.dtype))
        elif member.tensor.is_meta:
            raise ValueError(f"{name!r} is on the meta device and has no values to verify")
        else:
            return True
        return False

    def _compare_pieces(
        self,
        pieces: Sequence[tuple[Member, Piece]],
        plan: Plan,
        progress: Progress | None,
    ) -> None:
        assert self.request is not None
        # Parts of a tensor need unique names, and keep the tensor's values.
        parts = {}
        for place, (member, piece) in enumerate(pieces):
            tensor = pinned(plan.tensors[member.name], member.name)
            key = f"{member.name}{list(piece.bounds)} {place}"
            parts[key] = replace(tensor, slices=piece.bounds)
        request = self.request.of_plan(Plan(parts, plan.seed))
        comparison = Comparison(request, progress)
        for (member, piece), entry in zip(pieces, request.layout.entries, strict=True):
            with torch.no_grad():
                result = comparison.compare(member.name, entry, _blocks(piece.values))
            self.parts.setdefault(member.name, []).append(result)

    def fetch_expected(self, names: Sequence[str]) -> None:
        """Fetches the plan's fingerprints of this process's parts from a server."""
        assert self.request is not None
        mine = [(name, part) for name in names for part in self.parts.get(name, ())]
        fetched = _fingerprints(self.request, [Region(name, part.bounds) for name, part in mine])
        for (_, part), expected in zip(mine, fetched, strict=True):
            part.expected = expected

    def sum_parts(self) -> None:
        """Adds up the parts of each tensor."""
        for name, parts in self.parts.items():
            for part in parts:
                self.rows[name].add(part)


def _fingerprints(request: Request, regions: Sequence[Region]) -> list[Fingerprint]:
    """The plan's fingerprints of regions, from the request's servers."""
    from initclient._transport import blocking

    return blocking.fingerprints(request, regions)


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


def _whole(plan: Plan) -> Plan:
    tensors = {name: replace(t, slices=None) for name, t in plan.tensors.items()}
    return replace(plan, tensors=tensors)


def _raise_together(
    own: _LocalFindings, summaries: Sequence[_Summary], processes: Processes
) -> None:
    """Raises on every process, if one of them has failed.

    Raises:
        Exception: the process's own error, if it has one.
        InitserveError: if another process has an error or another plan.
    """
    if own.error is not None:
        raise own.error
    for rank, one in zip(processes.ranks, summaries, strict=True):
        if one.error is not None:
            raise InitserveError(f"rank {rank} could not verify its part: {one.error}")
    first = summaries[0].digest
    for rank, one in zip(processes.ranks, summaries, strict=True):
        if one.digest != first:
            raise InitserveError(
                f"rank {rank} verifies plan {one.digest}, and rank {processes.ranks[0]} plan "
                f"{first}; give the same plan and seed on every process"
            )


def _located(
    own: _LocalFindings, names: Sequence[str], processes: Processes
) -> dict[str, list[WrongPart]]:
    """The wrong parts of these tensors, with the processes that hold them. A collective call."""
    known = True
    if own.request is not None and own.request.service is not None and not processes.is_alone:
        try:
            own.fetch_expected(names)
        except Exception:
            # The report is complete without the places of the differences.
            known = False
    rank = processes.shown_rank
    mine = [
        (name, WrongPart(rank, part.bounds, part.differing or None, part.first))
        for name in names
        for part in own.parts.get(name, ())
        if known and part.found != part.expected
    ]
    located: dict[str, list[WrongPart]] = {}
    for theirs in processes.gather(mine):
        for name, wrong in theirs:
            located.setdefault(name, []).append(wrong)
    return located


def _blocks(values: torch.Tensor) -> Iterator[NDArray[Any]]:
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
            yield from _blocks(values.narrow(axis, first, min(step, length - first)))


def _on_host(flat: torch.Tensor) -> NDArray[Any]:
    data: NDArray[np.uint8] = flat.contiguous().cpu().view(torch.uint8).numpy()
    return np.require(data.view(f"u{flat.element_size()}"), requirements=["A"])
