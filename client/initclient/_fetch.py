"""fetch: the weights of a plan, as arrays."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack, overload

from initcore.backends import BackendName
from numpy.typing import NDArray

from initclient._checking import check_count, check_elements
from initclient._compute import FrameworkName, compute_arrays, framework_of, take_all
from initclient._files import Buffer
from initclient._machine import ProgressLike, shown
from initclient._models import request_for
from initclient._plan import PlanLike, warn_about
from initclient._source import Credentials, Folder, Retry, Target, source_of


class Options(TypedDict, total=False):
    """The arguments of `fetch` that do not change the type of its result."""

    target: Target | None
    backend: BackendName | None
    seed: int | None
    timeout: float | None
    progress: ProgressLike
    retry: Retry | None
    credentials: Credentials | None
    streams: int | None
    checkpoints: Folder | None
    check: int


@overload
def fetch(
    plan: PlanLike,
    *,
    framework: Literal["numpy"] = "numpy",
    device: None = None,
    **options: Unpack[Options],
) -> dict[str, NDArray[Any]]: ...


@overload
def fetch(
    plan: PlanLike, *, framework: FrameworkName, device: Any = None, **options: Unpack[Options]
) -> dict[str, Any]: ...


def fetch(
    plan: PlanLike,
    *,
    target: Target | None = None,
    backend: BackendName | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    framework: FrameworkName = "numpy",
    device: Any = None,
    checkpoints: Folder | None = None,
    check: int = 0,
) -> dict[str, Any]:
    """The weights of a plan: the same bits from every server and in this process.

    A download that breaks resumes at its last good byte, on the same or another server.

    Args:
        plan: a Plan, a dict from names to tensors, the path of a plan file, or an `ic.Model` of
            the server.
        target: address of a server, as HOST:PORT; several, as a list or with commas; or a gRPC
            name such as dns:///NAME:PORT, whose addresses take turns. None means the environment
            variable INITSERVE_TARGET, else this process. "local" (or "") means this process even
            if the variable is set. Or an `ic.Client` or an `ic.Local`, which has its own
            backend, checkpoints, timeout, retry, credentials and streams; leave these arguments
            out then.
        backend: the backend that computes in this process: "auto", "numpy", "native" or "cupy".
            None means the environment variable INITSERVE_BACKEND, else "auto".
        seed: the plan's seed instead of its own; for a dict, its seed (default 0).
        timeout: seconds for the whole transfer from a server, failures and pauses included;
            None means no limit. It does not limit computing in this process.
        progress: True draws a bar: on a terminal, in a notebook, as lines in a log. Or a function
            that is called with the bytes done and the bytes in all, repeatedly; not always in the
            calling thread.
        retry: when to continue after a failure and when to give up; None means `Retry()`.
        credentials: certificates and tokens; None means those of INITSERVE_CA and the other
            variables (`Credentials.from_environment()`), if they are set.
        streams: parallel streams from servers; None chooses by size.
        framework: the library of the returned arrays, such as "numpy" or "torch";
            docs/client.md has the list.
        device: the device of the arrays: anything that torch.device accepts (None means the
            CPU); a jax.Device or a name such as "gpu:1" (None means JAX's default); CUDA's
            number or "cuda:1" for CuPy (None means the current device). Values that the cupy
            backend computes for a GPU never cross the host.
        checkpoints: the folder of the checkpoints that the plan takes values from, if this
            process makes them; None means the environment variable INITSERVE_CHECKPOINTS.
            Servers have a folder of their own.
        check: how many elements of each tensor this process recomputes after a download, at
            secret positions. Checksums do not find a server that computes other values; this
            does: if a share f of a tensor's elements is wrong, with probability
            1 - (1 - f) ** check. Orthogonal and pretrained tensors are not checked, and a
            PlanWarning names them; `verify` recomputes all elements.

    Returns:
        Arrays by name, in the plan's order, each of the shape of the part that the plan asks
        for. NumPy arrays are writable; bfloat16 and float8 have the types of ml_dtypes. NumPy
        arrays from a server share one block of memory, and so do torch tensors on the CPU.

    Raises:
        PlanError: if the plan is wrong, or a checkpoint does not have its tensors; raised before
            any call to a server.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        InitserveError: if no server delivers all weights, with the right bits.
        ValueError: for a backend or a folder of checkpoints together with a server, or another
            argument that is wrong.
        BackendError, MissingPackageError: if the backend or the framework cannot run here.

    Example:
        >>> import initclient as ic
        >>> weights = ic.fetch({"fc.bias": ic.zeros((3,))}, target="local")
        >>> weights["fc.bias"]
        array([0., 0., 0.], dtype=float32)
    """
    count = check_count(check)
    wanted = framework_of(framework, device)
    source = source_of(
        target,
        backend=backend,
        checkpoints=checkpoints,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        streams=streams,
    )
    request = request_for(plan, seed, source)
    wanted.check(request.layout)
    warn_about(request.layout.warnings)
    with shown(progress, "weights") as report:
        if request.service is None:
            return compute_arrays(request, wanted, report)
        from initclient._transport import blocking

        buffer = Buffer(request.layout)
        warnings = blocking.download(request, buffer, report)
    warn_about(request.new_warnings(warnings))
    warn_about(check_elements(request, count, buffer.read))
    return take_all(wanted, request.layout, buffer.arrays())
