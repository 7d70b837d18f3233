"""describe: resolves a plan, without its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from operator import attrgetter
from typing import Any

from initcore.show import Description, TensorDescription, from_layout, printable_texts
from initserve.v1 import service_pb2

from initclient._compute import compute_fingerprints
from initclient._exceptions import IntegrityError
from initclient._machine import ProgressLike, shown
from initclient._machine import here as machine
from initclient._models import request_for
from initclient._plan import PlanLike, wanted_regions
from initclient._source import Credentials, Folder, Request, Retry, Target, source_of


def describe(
    plan: PlanLike,
    *,
    target: Target | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    fingerprints: bool = False,
    progress: ProgressLike = None,
    checkpoints: Folder | None = None,
) -> Description:
    """Resolves a plan: places in the file, fans, spreads, warnings; no data.

    Args:
        plan: a Plan, a dict from names to tensors, or the path of a plan file.
        target: the servers, with the same meaning as for `fetch`. Their answer is the one that
            this process would give, or an error.
        seed: the plan's seed instead of its own.
        timeout: seconds in which a server must answer; None means no limit.
        retry: when to call again after a failure and when to give up.
        credentials: certificates and tokens.
        fingerprints: compute the tensors' fingerprints, which makes every value.
        progress: with fingerprints, True for a bar, or a function of the bytes done and in all.
        checkpoints: the folder of the checkpoints that the plan takes values from, to check
            names, shapes, element types and, where the plan has them, SHA-256s, for which whole
            files are read. None means the environment variable INITSERVE_CHECKPOINTS; without a
            folder there is no check.

    Raises:
        PlanError: if the plan is wrong, or a checkpoint does not have its tensors.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        ValueError: for a folder of checkpoints together with a server.
        InitserveError: if a server does not answer, or resolves the plan differently.

    Example:
        >>> import initclient as ic
        >>> plan = {"fc.weight": ic.kaiming_normal((512, 256), nonlinearity="relu")}
        >>> tensor = ic.describe(plan, target="local").tensors[0]
        >>> tensor.fan_in, tensor.nbytes
        (256.0, 524288)
    """
    source = source_of(
        target, checkpoints=checkpoints, timeout=timeout, retry=retry, credentials=credentials
    )
    request = request_for(plan, seed, source)
    here = from_request(request)
    if request.service is None:
        if not fingerprints:
            return here
        with shown(progress, "fingerprints") as report:
            found = compute_fingerprints(request, report)
        return here.with_fingerprints(list(found.values()))
    from initclient._transport import blocking

    started = machine().now()
    there = agreed(here, blocking.describe(request, check=partial(agreed, here)))
    if not fingerprints:
        return there
    wanted, rest = wanted_regions(request.layout), request.after(machine().now() - started)
    with shown(progress, "fingerprints") as report:
        return there.with_fingerprints(blocking.fingerprints(rest, wanted, report))


def agreed(here: Description, message: service_pb2.DescribeResponse) -> Description:
    """The client's description with the server's warnings, if both resolve the plan alike.

    Raises:
        IntegrityError: if a field of a tensor differs.
    """
    tensors = [_sent(info) for info in message.tensors]
    if tensors != [_compared(tensor) for tensor in here.tensors]:
        raise IntegrityError(
            "the server resolves the plan's tensors differently than this client; is it a server "
            "of the same version of initserve?"
        )
    return replace(here, warnings=tuple(printable_texts(message.info.warnings, "warning")))


def from_request(request: Request) -> Description:
    """The description that this process gives of a plan; checks its checkpoints.

    Raises:
        PlanError: if a checkpoint lacks a tensor of the plan.
    """
    described = from_layout(request.layout)
    if request.checkpoints is None:
        return described
    request.check()
    return replace(described, checkpoints=request.checkpoints.folder)


_INFO = service_pb2.TensorInfo.DESCRIPTOR.fields_by_name

# The fields of a tensor that both sides have. Fingerprints have a call of their own.
_COMPARED = tuple(
    field.name
    for field in fields(TensorDescription)
    if field.name in _INFO and field.name != "fingerprint"
)


_compared = attrgetter(*_COMPARED)


def _sent(info: service_pb2.TensorInfo) -> tuple[Any, ...]:
    """The compared fields of a message, as values of a description."""
    return tuple([read(info) for read in _READERS])


def _reader(name: str) -> Callable[[service_pb2.TensorInfo], Any]:
    """What takes a field's value out of a message."""
    described, value = _INFO[name], attrgetter(name)
    if described.enum_type is not None:
        known = {number: v.name for number, v in described.enum_type.values_by_number.items()}
        if name == "scheme":
            known = {number: text.lower() for number, text in known.items()}
        # An unknown value is shown as its number.
        return lambda info: known.get(value(info), str(value(info)))
    if hasattr(value(service_pb2.TensorInfo()), "extend"):
        return lambda info: tuple(value(info))
    if described.has_presence:
        return lambda info: value(info) if info.HasField(name) else None
    return value


_READERS = tuple(map(_reader, _COMPARED))
