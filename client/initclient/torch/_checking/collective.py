"""verify: whether a model, on one process or many, holds the weights of a plan, to the bit.

Each process looks at its own parts, whatever the layout. What they found is then added up, one
row of integers a tensor, so that every process knows the same and comes to the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from initcore import Fingerprint, Plan, PlanError, Violation
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
from initclient._plan import PlanLike, Region, anchored, as_plan, kept, wanted_regions
from initclient._source import Credentials, Folder, Request, Retry, Target, make_request, source_of
from initclient.torch._checking.processes import Processes
from initclient.torch._checking.verdict import Row, verdict
from initclient.torch._model import (
    Box,
    Member,
    foreign_shape,
    host_bytes,
    members,
    reshard,
    shard_of,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Model: TypeAlias = nn.Module | Mapping[str, torch.Tensor]
"""A module, or a state dict."""

# Elements that are brought to the host at a time, where they do not lie there.
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
    backend: str | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    checkpoints: Folder | None = None,
) -> Verification:
    """Makes sure that a model holds the weights of a plan, to the bit, on all processes.

    Where torch.distributed runs, this is a collective call: every process of the group makes
    it, and all return the same report or raise together. The group's processes hold the model
    together, in any layout: copies, shards of DTensors, pipeline stages. Each looks at its own
    parts only; between processes go some integers a tensor.

    Args:
        model: the model, wrapped or not, or its state dict. Buffers of a model that the plan
            does not know are left out; a state dict does not tell them from parameters, so
            name them in `ignore`.
        plan: what `plan` returns, or anything that `ic.fetch` takes. Slices do not matter.
        target: who knows the plan's fingerprints: a server, asked by one process for all, or
            this process, where each makes the plan's values of its own parts. The same
            meaning as for `ic.fetch`, and the same on every process.
        group: the processes that hold the model; None means all.
        local: look at this process's parts alone, and talk to no other.
        seed: the plan's seed instead of its own.
        partial: whether tensors of the plan may be missing.
        ignore: a glob for names that are not compared, or several; `*` also matches dots.
        backend: what computes in this process, as for `ic.fetch`.
        timeout: seconds until servers must have answered; None means no limit.
        progress: called now and then with the bytes read here and the bytes in all.
        retry: when to ask a server again and when to give up.
        credentials: certificates and tokens.
        streams: as for `ic.fetch`; fingerprints are asked for in one call at a time.
        checkpoints: the folder of checkpoints, where processes make the plan's values.

    Returns:
        What was compared, with the fingerprints of whole tensors.

    Raises:
        VerificationError: on every process, naming every tensor that differs, is missing, is
            not in the plan, or has another shape or element type, and which processes hold
            the wrong parts; its `report` is a `Verification`.
        InitserveError: on every process, if one of them could not look at its parts; there,
            its own error is raised.
        PlanError: if the plan is wrong, a checkpoint does not have what it says, or a layout
            is not known.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        TypeError, ValueError: for what is no model, or is still on the meta device.

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
    here = _Here()
    try:
        whole = _whole(as_plan(plan, seed))
        source = source_of(
            target,
            backend=backend,
            checkpoints=checkpoints,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            streams=streams,
        )
        here.request = make_request(whole, None, source)
        here.digest = here.request.layout.digest
        here.look(_members(model), whole, globs(ignore), progress)
        if here.request.service is not None:
            if processes.is_alone:
                here.ask_for_parts(list(here.parts))
            elif processes.rank == 0:
                # Without what is to be ignored: the server may lack its checkpoint.
                wanted = wanted_regions(here.request.layout)
                wanted = [region for region in wanted if region.name not in here.left_out]
                asked = _asked(here.request, wanted)
                here.whole = {r.name: found for r, found in zip(wanted, asked, strict=True)}
        here.sum_up()
    except Exception as error:
        # The others wait for this process: they have to hear of it.
        here.error = error
    everybody = processes.gather(here.told())
    _raise_together(here, everybody, processes)
    assert here.request is not None
    rows = processes.add([row.numbers() for row in here.rows.values()])
    result = verdict(
        here.request.layout,
        {name: Row.of(numbers) for name, numbers in zip(here.rows, rows, strict=True)},
        everybody[0].whole,
        [mismatch for one in everybody for mismatch in one.findings],
        partial=partial,
        local=local,
        left_out=[name for one in everybody for name in one.left_out],
        locate=lambda names: _located(here, names, processes),
    )
    return result.checked()


@dataclass
class _Told:
    """What a process tells the others before the sums.

    Attributes:
        error: why it could not look at its parts, if it could not.
        digest: of its plan.
        findings: what it has that the plan does not know, or knows otherwise.
        left_out: names that it did not compare.
        whole: the plan's fingerprints, if it asked for them.
    """

    error: str | None
    digest: str
    findings: list[Mismatch]
    left_out: list[str]
    whole: dict[str, Fingerprint] | None


@dataclass
class _Here:
    """What this process has found among its own parts."""

    request: Request | None = None
    digest: str = ""
    error: Exception | None = None
    findings: list[Mismatch] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    whole: dict[str, Fingerprint] | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    parts: dict[str, list[Compared]] = field(default_factory=dict)

    def told(self) -> _Told:
        """What the others have to know."""
        error = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        return _Told(error, self.digest, self.findings, self.left_out, self.whole)

    def look(
        self,
        found: Sequence[Member],
        plan: Plan,
        ignore: tuple[str, ...],
        progress: Progress | None,
    ) -> None:
        """Compares what this process holds."""
        assert self.request is not None
        self.rows = {name: Row() for name in plan.tensors}
        self.left_out = [name for name in plan.tensors if is_ignored(name, ignore)]
        boxes: list[tuple[Member, Box, torch.Tensor]] = []
        for member in {member.name: member for member in found}.values():
            if not self._is_comparable(member, plan, ignore):
                continue
            self.rows[member.name].present = 1
            shard = shard_of(member)
            boxes += [(member, box, shard.tensor[box.local]) for box in shard.boxes()]
        self._compare(boxes, plan, progress)

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
        elif tensor.shape != member.shape:
            self.findings.append(other_shape(name, member.shape, tensor.shape))
        elif tensor.dtype != dtype:
            self.findings.append(other_dtype(name, dtype, tensor.dtype))
        elif member.tensor.is_meta:
            raise ValueError(f"{name!r} is on the meta device and has no values to verify")
        else:
            return True
        return False

    def _compare(
        self,
        boxes: Sequence[tuple[Member, Box, torch.Tensor]],
        plan: Plan,
        progress: Progress | None,
    ) -> None:
        assert self.request is not None
        # Parts of a tensor need names of their own, and all of them the tensor's values.
        parts = {}
        for member, box, _ in boxes:
            tensor = anchored(plan.tensors[member.name], member.name)
            key = f"{member.name}{list(box.bounds)}"
            parts[key] = replace(tensor, slices=box.bounds)
        request = self.request.of_plan(Plan(parts, plan.seed))
        comparison = Comparison(request, progress)
        for (member, _, values), entry in zip(boxes, request.layout.entries, strict=True):
            with torch.no_grad():
                result = comparison.compare(member.name, entry, _blocks(values))
            self.parts.setdefault(member.name, []).append(result)

    def ask_for_parts(self, names: Sequence[str]) -> None:
        """Asks a server for the plan's fingerprints of this process's parts."""
        assert self.request is not None
        mine = [(name, part) for name in names for part in self.parts.get(name, ())]
        asked = _asked(self.request, [Region(name, part.bounds) for name, part in mine])
        for (_, part), expected in zip(mine, asked, strict=True):
            part.expected = expected

    def sum_up(self) -> None:
        """Adds up the parts of each tensor."""
        for name, parts in self.parts.items():
            for part in parts:
                self.rows[name].add(part)


def _asked(request: Request, regions: Sequence[Region]) -> list[Fingerprint]:
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
        if cut := [
            Violation(name, "shape", message)
            for name, tensor in model.items()
            if (message := foreign_shape(tensor, None, name))
        ]:
            raise PlanError(cut)
        return [Member(name, name, tensor, ()) for name, tensor in model.items()]
    if isinstance(model, nn.Module):
        # After a forward, FSDP2 may have left gathered copies in the parameters' places.
        reshard(model)
    return members(model)


def _whole(plan: Plan) -> Plan:
    tensors = {name: replace(t, slices=None) for name, t in plan.tensors.items()}
    return replace(plan, tensors=tensors)


def _raise_together(here: _Here, everybody: Sequence[_Told], processes: Processes) -> None:
    """Ends the call on every process, if one of them cannot go on.

    Raises:
        Exception: the process's own error, if it has one.
        InitserveError: if another process has one, or has another plan.
    """
    if here.error is not None:
        raise here.error
    for rank, one in zip(processes.ranks, everybody, strict=True):
        if one.error is not None:
            raise InitserveError(f"rank {rank} could not verify its part: {one.error}")
    first = everybody[0].digest
    for rank, one in zip(processes.ranks, everybody, strict=True):
        if one.digest != first:
            raise InitserveError(
                f"rank {rank} verifies plan {one.digest}, and rank {processes.ranks[0]} plan "
                f"{first}; give the same plan and seed on every process"
            )


def _located(here: _Here, names: Sequence[str], processes: Processes) -> dict[str, list[WrongPart]]:
    """Which processes hold the wrong parts of these tensors. A collective call."""
    known = True
    if here.request is not None and here.request.service is not None and not processes.is_alone:
        try:
            here.ask_for_parts(names)
        except Exception:
            # Where the fault lies is good to know; that there is one is known already.
            known = False
    rank = processes.shown_rank
    mine = [
        (name, WrongPart(rank, part.bounds, part.differing or None, part.first))
        for name in names
        for part in here.parts.get(name, ())
        if known and part.found != part.expected
    ]
    located: dict[str, list[WrongPart]] = {}
    for theirs in processes.gather(mine):
        for name, wrong in theirs:
            located.setdefault(name, []).append(wrong)
    return located


def _blocks(values: torch.Tensor) -> Iterator[NDArray[Any]]:
    """A tensor's bits in row-major order, where they lie or brought to the host in blocks."""
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
