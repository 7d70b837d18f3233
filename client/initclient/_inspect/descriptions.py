"""describe: what a plan resolves to, without its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from initcore.file import Progress
from initcore.show import Description, TensorDescription, from_layout
from initserve.v1 import plan_pb2, service_pb2

from initclient._exceptions import IntegrityError
from initclient._plan import PlanLike
from initclient._source import Credentials, Folder, Request, Retry, Target, make_request
from initclient._transport.fingerprints import Questions, compute, wanted_parts


def describe(
    plan: PlanLike,
    *,
    target: Target | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    fingerprints: bool = False,
    progress: Progress | None = None,
    checkpoints: Folder | None = None,
) -> Description:
    """What a plan resolves to: places in the file, fans, spreads, warnings; no data.

    Args:
        plan: a Plan, a dict from names to tensors, or the path of a plan file.
        target: servers to ask, with the same meaning as for `fetch`. Their answer is the one
            that this process would give, or an error.
        seed: the plan's seed instead of its own.
        timeout: seconds until a server must have answered; None means no limit.
        retry: when to ask again after a failure and when to give up.
        credentials: certificates and tokens.
        fingerprints: have the tensors' fingerprints computed, which makes every value.
        progress: with fingerprints, called now and then with the bytes done and in all.
        checkpoints: the folder of the checkpoints that the plan takes values from, to make sure
            that it has them: names, shapes, element types and, where the plan says them,
            SHA-256s, for which whole files are read. None means the environment variable
            INITSERVE_CHECKPOINTS; without a folder nobody looks.

    Raises:
        PlanError: if the plan is wrong, or a checkpoint does not have what it says.
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
    request = make_request(
        plan,
        seed=seed,
        target=target,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        checkpoints=checkpoints,
    )
    here = from_request(request)
    if request.service is None:
        if not fingerprints:
            return here
        found = compute(request.layout, request.checkpoints, progress)
        return here.with_fingerprints(list(found.values()))
    from initclient._transport import blocking

    there = agreed(here, blocking.describe(request.layout, request.service))
    if not fingerprints:
        return there
    questions = Questions(request.layout, wanted_parts(request.layout), progress)
    return there.with_fingerprints(blocking.fingerprints(questions, request.service))


def agreed(here: Description, message: service_pb2.DescribeResponse) -> Description:
    """A server's description, which must be this side's.

    Raises:
        IntegrityError: if its tensors are other ones.
    """
    there = _from_message(message)
    # What servers do not tell, this side knows from the plan.
    told = (replace(each, parts=(), origin=None, zero_rows=0) for each in here.tensors)
    if there.tensors != tuple(told):
        raise IntegrityError(
            "the server resolves the plan's tensors differently than this client; is it a server "
            "of the same version of initserve?"
        )
    return replace(there, tensors=here.tensors, remarks=here.remarks)


def from_request(request: Request) -> Description:
    """What this side makes of a plan, and whether its checkpoints have what it takes from them.

    Raises:
        PlanError: if they do not.
    """
    described = from_layout(request.layout)
    if request.checkpoints is None:
        return described
    request.check()
    return replace(described, checkpoints=request.checkpoints.folder)


def _from_message(message: service_pb2.DescribeResponse) -> Description:
    info = message.info
    return Description(
        digest=info.plan_digest,
        size=info.total_size,
        stream_version=info.stream_version,
        warnings=tuple(info.warnings),
        tensors=tuple(_from_info(tensor) for tensor in message.tensors),
    )


def _from_info(info: service_pb2.TensorInfo) -> TensorDescription:
    names = ("fan_in", "fan_out", "mean", "std", "low", "high")
    parameters: dict[str, Any] = {n: getattr(info, n) for n in names if info.HasField(n)}
    return TensorDescription(
        name=info.name,
        dtype=_name(plan_pb2.DType.DESCRIPTOR, info.dtype),
        shape=tuple(info.shape),
        shard_shape=tuple(info.shard_shape),
        scheme=_name(plan_pb2.Scheme.DESCRIPTOR, info.scheme).lower(),
        begin=info.begin,
        end=info.end,
        **parameters,
    )


def _name(enum: EnumDescriptor, number: int) -> str:
    """The name of an enum's value; its number where this version does not know it."""
    value = enum.values_by_number.get(number)
    return str(number) if value is None else str(value.name)
