"""fingerprints: 16 bytes for each tensor of a live model, so that two jobs can compare weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from initcore import Fingerprint, PlanError, Tensor, Violation
from initcore.file import Fingerprinter, mixer

from initclient._checking import Compared, Row
from initclient._exceptions import InitserveError
from initclient._models import settled
from initclient._plan import PlanLike, as_plan
from initclient._source import Target, source_of
from initclient.torch._checking.collective import Model, bits_of, members_of
from initclient.torch._checking.engines import Engine
from initclient.torch._checking.processes import Processes
from initclient.torch._layouts import fits, planned_pieces
from initclient.torch._model import dtype_name, process_count

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def fingerprints(
    model: Model,
    plan: PlanLike,
    target: Target | None = None,
    *,
    engine: Engine | None = None,
    group: ProcessGroup | None = None,
    local: bool = False,
) -> Mapping[str, Fingerprint]:
    """The fingerprints of a model's weights as they are now, by the plan's names.

    The plan gives names, shapes and element types only; its values are not made. So a trainer after
    its steps and an inference engine that has received its weights may each call this, in layouts
    of their own, and exchange 16 bytes a tensor instead of the weights: equal fingerprints mean
    equal bits (docs/verify.md).

    Where torch.distributed runs, this is a collective call of the group's processes, which hold the
    model together.

    Args:
        model: the model, wrapped or not, or its state dict.
        plan: the plan of the whole model, or anything that `ic.fetch` takes.
        target: the server that has the plan, if it is given by name.
        engine: the layout of an inference engine; None means a model as torch has it.
        group: the processes that hold the model; None means all.
        local: without communication: this process holds the whole model.

    Returns:
        The fingerprint of each whole tensor of the plan that the model has, in the plan's order.

    Raises:
        PlanError: for a parameter that differs from the plan in shape or element type.
        InitserveError: on every process, if another one has an error or a plan of other names,
            shapes or element types, or if the processes do not hold whole tensors together, or hold
            copies that differ.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> model = nn.Linear(4, 2)
        >>> list(ict.fingerprints(model, ict.plan(model)))
        ['weight', 'bias']
    """
    processes = Processes.of(group, local)
    error, rows, form = None, {}, ""
    try:
        source = source_of(target)
        planned = as_plan(settled(plan, source, processes=process_count())).tensors
        rows, form = {name: Row() for name in planned}, _form(planned)
        mix, violations = mixer(), []
        found = members_of(model, engine, planned)
        for member in {one.name: one for one in found}.values():
            if (tensor := planned.get(member.name)) is None:
                continue
            if not fits(member.layout, tensor.shape):
                text = f"is {list(member.shape)} here and {list(tensor.shape)} in the plan"
                violations.append(Violation(member.name, "shape", text))
            elif (own := dtype_name(member.tensor.dtype)) != tensor.dtype:
                text = f"is {own} here and {tensor.dtype} in the plan"
                violations.append(Violation(member.name, "dtype", text))
            else:
                rows[member.name].present = 1
                for piece in planned_pieces(member.layout, tensor.shape):
                    maker = Fingerprinter(member.name, tensor.shape, piece.bounds, mix)
                    part, first = Compared(piece.bounds), 0
                    with torch.no_grad():
                        for block in bits_of(piece.values):
                            part.found += maker.stretch(first, block)
                            first += len(block)
                    rows[member.name].add(part)
        if violations:
            raise PlanError(violations)
    except Exception as failure:
        # The other processes wait, and learn of it here.
        error = failure
    reason = None if error is None else f"{type(error).__name__}: {error}"
    every = processes.gather((reason, form))
    if error is not None:
        raise error
    for rank, (failed, _) in zip(processes.ranks, every, strict=True):
        if failed is not None:
            raise InitserveError(f"rank {rank} has no fingerprints of its part: {failed}")
    for rank, (_, theirs) in zip(processes.ranks, every, strict=True):
        if theirs != every[0][1]:
            raise InitserveError(
                f"rank {rank} and rank {processes.ranks[0]} have plans of other names, shapes or "
                "element types, or in another order; give the same plan on every process"
            )
    sums = processes.add([row.numbers() for row in rows.values()])
    summed = {name: Row.of(numbers) for name, numbers in zip(rows, sums, strict=True)}
    return {
        name: row.one(name, math.prod(planned[name].shape))
        for name, row in summed.items()
        if row.present
    }


def _form(planned: Mapping[str, Tensor]) -> str:
    """A digest of names, shapes and element types, in the plan's order: rows of sums are that."""
    lines = [(name, tensor.shape, tensor.dtype) for name, tensor in planned.items()]
    return hashlib.sha256(repr(lines).encode()).hexdigest()
