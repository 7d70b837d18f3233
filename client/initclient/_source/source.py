"""The source of one call's values, chosen from its arguments and the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from initcore import Checkpoints
from initcore.backends import BackendName

from initclient._source.checkpoints import Folder
from initclient._source.credentials import Credentials
from initclient._source.in_process import InProcess
from initclient._source.retry import Retry
from initclient._source.service import Service, check_limits, service_at
from initclient._source.target import VARIABLE, is_local, target_of_environment

Source: TypeAlias = Service | InProcess
"""A service, or this process."""

Target: TypeAlias = str | Sequence[str] | Source
"""HOST:PORT or any gRPC name, several of them in a sequence or with commas, "local", an
`initclient.Client` or an `initclient.Local`."""


def source_of(
    target: Target | None,
    *,
    backend: BackendName | None = None,
    checkpoints: Folder | Checkpoints | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
) -> Source:
    """The source that a call's arguments and the environment name.

    Args:
        target: None means the environment variable INITSERVE_TARGET, else this process; "local"
            and "" are this process even if the variable is set.
        backend: the backend; only if this process computes.
        checkpoints: the folder of checkpoints; only if this process computes.
        timeout: seconds for each call of a service.
        retry: when to continue after a failure.
        credentials: certificates and tokens.
        streams: parallel streams.

    Raises:
        PlanError: for a backend that is not known.
        TypeError: for a target or another argument of another kind.
        ValueError: for a value out of range, or an argument that the target already has.
    """
    for_service: dict[str, object] = {
        "timeout": timeout,
        "retry": retry,
        "credentials": credentials,
        "streams": streams,
    }
    in_process: dict[str, object] = {"backend": backend, "checkpoints": checkpoints}
    if isinstance(target, Service):
        _refuse(for_service | in_process, target, "ic.Client")
        return target
    check_limits(timeout, streams, retry, credentials)
    if isinstance(target, InProcess):
        _refuse(in_process, target, "ic.Local")
        return target
    named_by = "target"
    if target is None:
        target, named_by = target_of_environment(), VARIABLE
    if is_local(target):
        return InProcess(backend=backend, checkpoints=checkpoints)
    service = service_at(
        target,
        named_by=named_by,
        credentials=credentials,
        retry=retry,
        streams=streams,
        timeout=timeout,
    )
    addresses = ", ".join(service.addresses)
    if backend is not None:
        raise ValueError(
            f"backend is {backend!r}, but the values come from the server at {addresses}, which "
            "chose its own (initserver --backend); leave backend out, or give target='local' "
            "(--target local) to compute in this process. The bits are the same"
        )
    if checkpoints is not None:
        folder = checkpoints.folder if isinstance(checkpoints, Checkpoints) else str(checkpoints)
        raise ValueError(
            f"checkpoints is {folder!r}, but the values come from the server at {addresses}, which "
            "reads a folder of its own (initserver --checkpoints); leave checkpoints out, or give "
            "target='local' (--target local) to make the values in this process"
        )
    return service


def _refuse(arguments: Mapping[str, object], target: Source, kind: str) -> None:
    """Refuses arguments beside an `ic.Client` or `ic.Local`, which has its own."""
    for name, value in arguments.items():
        if value is None:
            continue
        if hasattr(target, name):
            why = f"which has its own; give {name} to {kind}(...) instead"
        else:
            why = f"where the server has its own; leave {name} out"
        raise ValueError(f"{name} is {value!r}, and the target is {target!r}, {why}")
