"""init_: fills a model with a plan's weights, in place, in any layout of the model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from initcore import Plan, PlanError, Tensor, Violation
from initcore.backends import BackendName
from initcore.machine import collection_paused
from initcore.plan import with_plain
from torch import nn

from initclient._machine import ProgressLike, check_progress, shown
from initclient._models import settled
from initclient._plan import PlanLike, as_plan, check_plan, lay_out, pinned, warn_about
from initclient._source import (
    Credentials,
    Folder,
    InProcess,
    Request,
    Retry,
    Source,
    Target,
    make_request,
    source_of,
)
from initclient.torch._checking import Processes, Terms, check_fit, terms_of
from initclient.torch._checking import agree as agree_together
from initclient.torch._filling import fill
from initclient.torch._layouts import is_dtensor, padding
from initclient.torch._model import (
    Member,
    left_on_meta,
    materialize,
    members,
    process_count,
    process_rank,
    recompute,
    reshard,
    views_on_meta,
)
from initclient.torch._planning import kept_names, preserved
from initclient.torch._recording import Recording, plan_and_values

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class InitReport:
    """The result of `init_`: names by the source of their values.

    Attributes:
        filled: parameters and buffers that hold the plan's values now.
        computed: buffers that are not in the plan, computed by their module's own code.
        given: parameters and buffers that got values from the argument `values`.
        kept: other buffers that are not in the plan, and the parameters and buffers that `keep`
            rules and the argument `keep` name; they keep their values.
        absent: tensors of the plan that the model lacks; empty unless `partial` is set.
    """

    filled: tuple[str, ...] = field(repr=False)
    computed: tuple[str, ...]
    given: tuple[str, ...]
    kept: tuple[str, ...]
    absent: tuple[str, ...] = field(repr=False)


def init_(
    model: nn.Module,
    plan: PlanLike | Recording,
    target: Target | None = None,
    *,
    seed: int | None = None,
    device: torch.device | str | None = None,
    values: Mapping[str, torch.Tensor] | None = None,
    keep: str | Iterable[str] = (),
    partial: bool = False,
    backend: BackendName | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    checkpoints: Folder | None = None,
    group: ProcessGroup | None = None,
    agree: bool = True,
) -> InitReport:
    """Fills a model with a plan's weights, in place.

    Tensors on the meta device get memory first. Of a sharded parameter (`fully_shard`, tensor
    parallel, any DTensor, Megatron-Core, DeepSpeed's ZeRO) each process makes or fetches only its
    own part, with the same values as in a single process. Processes exchange one digest of 32
    bytes, of plan, layout and versions, and nothing else.

    Args:
        model: the model, wrapped or not.
        plan: the result of `plan`; or anything that `ic.fetch` takes; or the result of `record`,
            whose plan is made, and whose computed values count as `values`.
        target: address of a server, an `ic.Client` or an `ic.Local`, as for `ic.fetch`; None
            means the environment variable INITSERVE_TARGET, else this process.
        seed: the plan's seed instead of its own; for a recording, its seed (default 0).
        device: the device for tensors on the meta device; None means the device type of the mesh
            if there are DTensors, else torch's default device.
        values: whole tensors, by name, for buffers that their module cannot compute and for
            parameters under the rule `given`.
        keep: a glob for names that stay as they are, or several, beside those of the plan's own
            `keep` rules; `*` also matches dots.
        partial: the model is a part of the planned model, such as a pipeline stage, with the
            same names; other tensors are neither computed nor fetched.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds for each download from a server: one for all values in contiguous host
            memory, and one for each 64 MiB of the others.
        progress: True for a bar, which the process of rank 0 draws; or a function of the bytes
            filled and in all, of this process.
        retry: when to continue after a failure and when to give up, as for `ic.fetch`.
        credentials: certificates and tokens, as for `ic.fetch`.
        streams: parallel streams from servers, as for `ic.fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from, if this
            process makes them; None means the environment variable INITSERVE_CHECKPOINTS.
        group: the processes that hold the model; None means all.
        agree: where torch.distributed runs, every process of the group makes this call, and they
            exchange 32 bytes each before any change. False: processes do not communicate.

    Returns:
        A report of filled, computed, given, kept and absent names.

    Raises:
        PlanError: before any change, if a parameter is missing from the plan, differs in shape,
            element type or ties, has a layout that is not known, or shares memory with another
            parameter; if a checkpoint lacks a tensor of the plan; or if the model lacks tensors
            of the plan and `partial` is not set. Before the first value is written, if a buffer
            on the meta device is not in the plan and its module does not compute it.
        ValueError: before any change, if the device is meta.
        CheckpointError: before any change, if there is no such folder.
        InitserveError: if no server delivers the weights; the model is partly filled then. On
            every process and before any change, if another one has an error, another plan,
            layout or version.

    Warns:
        PlanWarning: for tensors that are still on the meta device, since they are attributes of a
            module and neither parameters nor buffers; and for what the plan or a server reports.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> with torch.device("meta"):
        ...     model = nn.Linear(4, 2)
        >>> ict.init_(model, ict.plan(model, seed=7), target="local", device="cpu").filled
        ('weight', 'bias')
    """
    processes = Processes.of(group, local=not agree)
    own, error = None, None
    try:
        if device is not None and torch.device(device).type == "meta":
            raise ValueError("device is 'meta', which holds no values; give a device with memory")
        check_progress(progress)
        source = source_of(
            target,
            backend=backend,
            checkpoints=checkpoints,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            streams=streams,
        )
        handed = dict(values or {})
        if isinstance(plan, Recording):
            plan, handed = plan_and_values(plan, model, handed)
        whole = as_plan(settled(plan, source, seed, processes=process_count()), seed)
        own = _prepare(model, whole, source, handed, keep, partial)
    except Exception as failure:
        # The other processes wait in `agree`, which sends them the error.
        error = failure
    agree_together(processes, error, lambda: _terms(own, partial))
    assert own is not None
    found, whole, given, stays, absent = own.found, own.plan, own.given, own.stays, own.absent
    filled = own.planned
    lost = {m.name for m in found if m.is_buffer and m.tensor.is_meta}
    if lost:
        # A view of a tensor that is filled has its values.
        lost -= views_on_meta(
            found, [m for m in found if m.name in whole.tensors or m.name in given]
        )
    if materialize(model, found, device):
        found = members(model)
        filled = list(_planned(found, whole, given))
    others = [m for m in _unknown(found, whole) if m.name not in given and m.name not in stays]
    with preserved(model, stays, others):
        computed = _compute(others, lost)
    with torch.no_grad():
        if others:
            # Computing buffers may have replaced them.
            found = members(model)
            filled = list(_planned(found, whole, given))
        for member in found:
            if member.name in given:
                _put(member, given[member.name])
        destinations = [values for member in filled for values in _memory(member, whole)]
        with shown(progress, "init_", silent=process_rank() > 0) as report:
            warnings = fill(own.request, destinations, report)
        for member in filled:
            for rows in padding(member.layout, whole.tensors[member.name].shape):
                rows.zero_()
    for refresh in dict.fromkeys(member.layout.refresh for member in found):
        if refresh is not None:
            refresh()
    warn_about(dict.fromkeys([*warnings, *left_on_meta(model)]))
    known = {*computed, *given}
    left = {member.name for member in _unknown(found, whole)}
    return InitReport(
        filled=tuple(m.name for m in found if m.name in whole.tensors and m.name not in given),
        computed=tuple(computed),
        given=tuple(given),
        kept=tuple(
            m.name for m in found if m.name in stays or (m.name in left and m.name not in known)
        ),
        absent=absent,
    )


@dataclass(frozen=True)
class _Prepared:
    """Everything that is known before the first change.

    Attributes:
        asked: the plan as it was given.
        found: the model's members.
        planned: those that the plan fills, each tensor once.
        plan: the plan, without tensors that stay as they are.
        given: values by name.
        stays: names that stay as they are.
        absent: names of the plan that the model lacks.
        request: the plan's rectangles that this process holds.
    """

    asked: Plan
    found: list[Member]
    planned: list[Member]
    plan: Plan
    given: dict[str, torch.Tensor]
    stays: set[str]
    absent: tuple[str, ...]
    request: Request


@collection_paused()
def _prepare(
    model: nn.Module,
    asked: Plan,
    source: Source,
    values: Mapping[str, torch.Tensor],
    keep: str | Iterable[str],
    partial: bool,
) -> _Prepared:
    """Checks the model against the plan, before any change."""
    found = members(model)
    given = _under_every_name(found, values)
    whole = asked
    stays = kept_names(found, whole, keep, given, partial)
    if stays:
        whole = whole.select(name for name in whole.tensors if name not in stays)
    absent = check_fit(found, whole, given, stays, partial)
    missing = {*absent, *given}
    wanted = whole
    if missing:
        wanted = whole.select(name for name in whole.tensors if name not in missing)
    if reshard(model):
        found = members(model)
    planned = list(_planned(found, whole, given))
    own = Plan(dict(part for member in planned for part in _parts(member, whole)), whole.seed)
    # Laying out checks too, and most processes hold all that they want of the plan.
    is_all = len(own) == len(wanted) and all(
        own.tensors.get(n) is t for n, t in wanted.tensors.items()
    )
    resolved = None if is_all else check_plan(wanted, local=isinstance(source, InProcess))
    request = make_request(own, None, source, resolved)
    request.check(resolved)
    return _Prepared(asked, found, planned, whole, given, stays, absent, request)


def _terms(own: _Prepared | None, partial: bool) -> Terms:
    assert own is not None
    filled = [m for m in own.found if m.name in own.plan.tensors or m.name in own.given]
    digest = lay_out(own.asked, None, local=False).digest
    return terms_of(filled, digest, sorted({*own.given, *own.stays}), partial)


def _under_every_name(
    found: Sequence[Member], values: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The values under every name of their tensors: a tied tensor has several names.

    Raises:
        TypeError: for a value that is no tensor.
    """
    for name, value in values.items():
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise TypeError(f"the value of {name!r} is a {kind}; give a torch.Tensor")
        if is_dtensor(value):
            raise TypeError(f"the value of {name!r} is a DTensor; give the whole torch.Tensor")
    handed = {id(m.tensor): values[m.name] for m in found if m.name in values}
    tied = {m.name: handed[id(m.tensor)] for m in found if id(m.tensor) in handed}
    return tied | dict(values)


def _unknown(found: Sequence[Member], plan: Plan) -> list[Member]:
    """Buffers that are not in the plan, each once."""
    unknown: dict[int, Member] = {}
    for member in found:
        if member.is_buffer and member.name not in plan.tensors:
            unknown.setdefault(id(member.tensor), member)
    return list(unknown.values())


def _compute(wanted: Sequence[Member], lost: Collection[str]) -> list[str]:
    """Lets modules compute their buffers; refuses if one in `lost` cannot be computed."""
    done, failed = recompute(wanted)
    missing = [name for name in failed if name in lost]
    if missing:
        raise PlanError(
            Violation(member.name, "values", _lost_text(member))
            for member in wanted
            if member.name in missing
        )
    return done


def _lost_text(member: Member) -> str:
    text = (
        "this buffer is not in the plan, it was on the meta device, and its module does not "
        "compute it in reset_parameters; give its values, as "
        f"init_(..., values={{{member.name!r}: tensor}})"
    )
    if not member.persistent:
        text += ", or make it a part of the state dict (persistent=True), so that a plan has it"
    return text


def _put(member: Member, value: torch.Tensor) -> None:
    shape = tuple(value.shape)
    for piece in member.planned(shape):
        piece.values.copy_(value[tuple(slice(*bounds) for bounds in piece.bounds)])
    for rows in padding(member.layout, shape):
        rows.zero_()


def _planned(
    found: Sequence[Member], plan: Plan, given: Mapping[str, torch.Tensor]
) -> Iterator[Member]:
    """The members that the plan fills, each tensor once."""
    seen = set()
    for member in found:
        is_filled = member.name in plan.tensors and member.name not in given
        if is_filled and id(member.tensor) not in seen:
            seen.add(id(member.tensor))
            yield member


def _parts(member: Member, plan: Plan) -> Iterator[tuple[str, Tensor]]:
    """The rectangles of a member that this process holds, as tensors with unique names."""
    planned = plan.tensors[member.name]
    pieces = member.planned(planned.shape)
    if planned.slices is None and [piece.bounds for piece in pieces] == [_whole(planned.shape)]:
        # The whole tensor is the plan's, under its own name.
        yield member.name, planned
        return
    tensor = pinned(planned, member.name)
    for place, piece in enumerate(pieces):
        # Parts of a tensor keep the tensor's values.
        key = member.name if len(pieces) == 1 else f"{member.name}{list(piece.bounds)} {place}"
        yield key, with_plain(tensor, slices=piece.bounds or None)


def _memory(member: Member, plan: Plan) -> Iterator[torch.Tensor]:
    """The memory of these rectangles."""
    for piece in member.planned(plan.tensors[member.name].shape):
        yield piece.values


@lru_cache(maxsize=1024)
def _whole(shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The bounds of a whole tensor."""
    return tuple((0, size) for size in shape)
