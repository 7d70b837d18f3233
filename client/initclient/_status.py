"""From a gRPC error to an exception of this package, which says where and what to do."""

from __future__ import annotations

import re

import grpc
from google.rpc import error_details_pb2
from initcore import Plan, PlanError, Violation

from initclient._exceptions import (
    DeadlineError,
    InitserveError,
    IntegrityError,
    ServerError,
    TransportError,
    UnavailableError,
)

_PATH = re.compile(r"tensors\[(\d+)\]\.(.+)", re.DOTALL)


def translate(
    error: grpc.RpcError, target: str, plan: Plan, progress: str = ""
) -> InitserveError | PlanError:
    """The exception to raise instead.

    Args:
        error: what gRPC raised.
        target: the server's address.
        plan: the plan that was sent.
        progress: what had arrived, such as "3 of 10 bytes", if anything had.
    """
    code, details = error.code(), error.details() or "no details"
    where = f" after {progress}" if progress else ""
    match code:
        case grpc.StatusCode.UNAVAILABLE if not progress:
            return UnavailableError(
                f"no answer from {target} ({_reason(details)}). Is initserver running at {target}?"
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return TransportError(f"the connection to {target} broke{where} ({details})")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"the timeout passed{where} while waiting for {target}")
        case grpc.StatusCode.INVALID_ARGUMENT:
            violations = violations_of(error, plan)
            if violations:
                return PlanError(violations)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return IntegrityError(
                f"{target} reads this plan differently ({details}); is it a server of the same "
                "version of initserve?"
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return ServerError(
                f"the server at {target} is not an initserver, or an older one ({details})",
                code.name,
            )
        case _:
            pass
    return ServerError(f"{target} answered {code.name}{where}: {details}", code.name)


def _reason(details: str) -> str:
    """The part that people read of gRPC's account of a failed connection."""
    return "connection refused" if "Connection refused" in details else details


def violations_of(error: grpc.RpcError, plan: Plan) -> list[Violation]:
    """The violations in the details of an INVALID_ARGUMENT answer, as the server found them."""
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # Details that contradict the status come from something between here and there.
        return []
    names = list(plan.tensors)
    found = []
    for detail in status.details if status else ():
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request):
            found += [_violation(item, names) for item in bad_request.field_violations]
    return found


def _violation(item: error_details_pb2.BadRequest.FieldViolation, names: list[str]) -> Violation:
    field, name, index = item.field, "", None
    match = _PATH.fullmatch(field)
    if match and int(match[1]) < len(names):
        index, field = int(match[1]), match[2]
        name = names[index]
    # The description is the violation as text, which starts with what is known by now.
    said = str(Violation(name, field, ""))
    message = item.description.removeprefix(said)
    return Violation(name, field, message, index)
