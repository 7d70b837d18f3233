"""PlanReader: `torch.distributed.checkpoint.load` fills a state dict from a plan, without a file.

Imported late, since `torch.distributed.checkpoint` takes seconds to import.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from initcore import STREAM_VERSION, Plan, PlanError, Tensor, Violation, __version__
from initcore.backends import BackendName
from initcore.dtypes import DTYPES, canonical_name
from initcore.plan import with_plain
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from initclient._exceptions import InitserveError
from initclient._machine import ProgressLike, check_progress, shown
from initclient._models import settled
from initclient._plan import PlanLike, as_plan, check_plan, lay_out, pinned, warn_about
from initclient._source import (
    Credentials,
    Folder,
    InProcess,
    Retry,
    Target,
    make_request,
    source_of,
)
from initclient.torch._checking import same_draw
from initclient.torch._filling import fill
from initclient.torch._layouts import Layout, Slot
from initclient.torch._model import Member, overlaps, process_count, process_rank, same_places


class PlanReader(StorageReader):
    """A plan as a checkpoint that `torch.distributed.checkpoint` reads.

    `dcp.load(state_dict, storage_reader=PlanReader(plan))` fills a state dict of any layout in
    place. Each process makes or fetches only the parts that it holds, directly in their memory,
    with the bits of `init_`; nothing is written to a disk.

    Args:
        plan: the result of `plan`, or anything that `ic.fetch` takes. Names are those of the
            state dict; the plan may have more tensors than the state dict.
        target: address of a server, an `ic.Client` or an `ic.Local`, as for `ic.fetch`; None
            means the environment variable INITSERVE_TARGET, else this process.
        prefix: the model's place in the state dict, joined with dots: "model" for
            `dcp.load({"model": model.state_dict()}, ...)`; "" for the model's own state dict.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds for each download from a server, as for `init_`.
        progress: True for a bar, which the process of rank 0 draws; or a function of the bytes
            filled and in all, of this process.
        retry: when to continue after a failure and when to give up, as for `ic.fetch`.
        credentials: certificates and tokens, as for `ic.fetch`.
        streams: parallel streams from servers, as for `ic.fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from, as for
            `ic.fetch`.

    Raises:
        PlanError: at once, for a wrong plan. While `dcp.load` runs (within its
            CheckpointException), before the first value is written: for a tensor of another
            element type or on the meta device, and for tensors that share memory and to which
            the plan gives different values. dcp itself refuses other shapes and names that the
            plan lacks.
        InitserveError: while `dcp.load` runs, on every rank and before the first value is
            written, if ranks have different plans or versions; or if no server delivers the
            values, and the state dict is partly filled then.

    Example:
        >>> import initclient.torch as ict
        >>> import torch.distributed.checkpoint as dcp
        >>> from torch import nn
        >>> model = nn.Linear(4, 2)
        >>> plan = ict.plan(model, seed=7)
        >>> dcp.load(model.state_dict(), storage_reader=ict.PlanReader(plan), no_dist=True)
        >>> bool(ict.verify(model, plan))
        True
    """

    def __init__(
        self,
        plan: PlanLike,
        target: Target | None = None,
        *,
        prefix: str = "",
        backend: BackendName | None = None,
        timeout: float | None = None,
        progress: ProgressLike = None,
        retry: Retry | None = None,
        credentials: Credentials | None = None,
        streams: int | None = None,
        checkpoints: Folder | None = None,
    ) -> None:
        check_progress(progress)
        self._source = source_of(
            target,
            backend=backend,
            checkpoints=checkpoints,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            streams=streams,
        )
        self._plan = as_plan(settled(plan, self._source, processes=process_count()))
        self._resolved = check_plan(self._plan, local=isinstance(self._source, InProcess))
        self._prefix = f"{prefix}." if prefix else ""
        self._progress = progress

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begins a load; called by dcp.

        Raises:
            ValueError: for a checkpoint, since the values are the plan's.
        """
        if checkpoint_id is not None:
            raise ValueError(
                f"checkpoint_id is {os.fspath(checkpoint_id)!r}, and a PlanReader reads no "
                "checkpoint but its plan; leave checkpoint_id out, or read the checkpoint with "
                "dcp.FileSystemReader"
            )

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The plan's tensors, each as one piece; called by dcp on every rank."""
        described = {
            self._prefix + name: TensorStorageMetadata(
                TensorProperties(dtype=_torch_dtype(tensor)),
                torch.Size(tensor.shape),
                [
                    ChunkStorageMetadata(
                        torch.Size([0] * len(tensor.shape)), torch.Size(tensor.shape)
                    )
                ],
            )
            for name, tensor in self._plan.tensors.items()
        }
        return Metadata(dict(described))

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to set up; called by dcp."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The load plan, with the terms of this rank: it reads what it holds; called by dcp."""
        return replace(plan, storage_data=self._terms())

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The same load plans; called by dcp on the coordinator.

        Raises:
            InitserveError: if ranks have different plans or versions; dcp sends it to all.
        """
        first = plans[0].storage_data
        for rank, one in enumerate(plans):
            if one.storage_data != first:
                raise InitserveError(
                    f"rank {rank} reads {one.storage_data}, and rank 0 {first}; give the same "
                    "plan, seed and version on every rank, or no_dist=True to dcp.load where "
                    "ranks load models of their own"
                )
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fills the parts of this rank; called by dcp."""
        parts = [self._part(item, planner) for item in plan.items]
        self._check(parts)
        wanted = _each_once(parts)
        mine = Plan({part.key: part.tensor for part in wanted}, self._plan.seed)
        request = make_request(mine, None, self._source, self._resolved)
        request.check(self._resolved)
        with torch.no_grad(), shown(self._progress, "load", silent=process_rank() > 0) as report:
            warnings = fill(request, [part.memory for part in wanted], report)
        for part in parts:
            planner.commit_tensor(part.item, part.memory)
        warn_about(dict.fromkeys(warnings))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """False: no address of a checkpoint names a plan; called by dcp."""
        return False

    def _terms(self) -> str:
        """The plan and the versions that all ranks must have."""
        digest = lay_out(self._plan, None, local=False).digest
        return f"plan {digest} with initserve {__version__} and stream {STREAM_VERSION}"

    def _part(self, item: ReadItem, planner: LoadPlanner) -> _Part:
        name = item.storage_index.fqn.removeprefix(self._prefix)
        sides = zip(item.storage_offsets, item.lengths, strict=True)
        bounds = tuple((begin, begin + length) for begin, length in sides)
        tensor = with_plain(pinned(self._plan.tensors[name], name), slices=bounds or None)
        memory = planner.resolve_tensor(item).detach()
        return _Part(f"{name}{list(bounds)}", name, tensor, memory, item)

    def _check(self, parts: Sequence[_Part]) -> None:
        """Refuses memory that would get other values than the plan's, before the first write."""
        violations, held = [], []
        for part in parts:
            found = canonical_name(part.memory.dtype)
            if part.memory.is_meta:
                message = (
                    "is on the meta device, which holds no values; give the model memory first, "
                    'as model.to_empty(device="cuda")'
                )
                violations.append(Violation(part.name, "device", message))
            elif found != part.tensor.dtype:
                message = (
                    f"is {part.tensor.dtype} in the plan and {found} in the state dict; make the "
                    "plan from the model as it is, or convert the model first"
                )
                violations.append(Violation(part.name, "dtype", message))
            else:
                held.append(Member(Layout(Slot(part.name, part.name, part.memory))))
        for one, other in overlaps(held):
            if one is other:
                message = "has several elements at one address (expand?); make a copy of it"
                violations.append(Violation(one.name, "strides", message))
            elif not (same_places(one, other) and same_draw(self._plan, other.name, one.name)):
                message = (
                    f"shares its memory with {other.name!r} in the state dict, and the plan gives "
                    "them different values; make the plan from the model as it is, or make copies"
                )
                violations.append(Violation(one.name, "storage", message))
        if violations:
            raise PlanError(violations)


@dataclass(frozen=True)
class _Part:
    """A rectangle that dcp wants.

    Attributes:
        key: a unique name.
        name: the tensor's name in the plan.
        tensor: the plan's tensor with the rectangle as its slices.
        memory: its memory in the state dict, of the rectangle's shape.
        item: dcp's own description.
    """

    key: str
    name: str
    tensor: Tensor
    memory: torch.Tensor
    item: ReadItem


def _each_once(parts: Sequence[_Part]) -> list[_Part]:
    """The parts that have elements, and of tied ones the first."""
    unique: dict[tuple[Any, ...], _Part] = {}
    for part in parts:
        if part.memory.numel():
            unique.setdefault(_place(part), part)
    return list(unique.values())


def _place(part: _Part) -> tuple[Any, ...]:
    memory = part.memory
    return memory.device, memory.data_ptr(), memory.dtype, memory.shape, memory.stride()


def _torch_dtype(tensor: Tensor) -> torch.dtype:
    found = getattr(torch, str(DTYPES[tensor.dtype].numpy))
    assert isinstance(found, torch.dtype)
    return found
