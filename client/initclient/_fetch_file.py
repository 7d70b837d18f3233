"""fetch_file: the weights of a plan as a safetensors file."""

from __future__ import annotations

import os
from pathlib import Path

from initclient._credentials import Credentials
from initclient._files import replacing
from initclient._local import compute_to
from initclient._plans import PlanLike, warn_about
from initclient._progress import Progress
from initclient._request import make_request
from initclient._retry import Retry
from initclient._sinks import FileSink
from initclient._target import Target


def fetch_file(
    plan: PlanLike,
    path: str | os.PathLike[str],
    *,
    target: Target | None = None,
    backend: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
) -> Path:
    """Writes the weights of a plan to a safetensors file, in little memory.

    The file appears whole or not at all; one that is there already is replaced at the end,
    in one step. The plan may be larger than memory.

    Args:
        plan: as for `fetch`, like all arguments but the path.
        path: the file to write.
        target: where servers are.
        backend: what computes in this process.
        seed: the plan's seed instead of its own.
        timeout: seconds for the whole transfer from a server.
        progress: called now and then with the bytes done and the bytes in all.
        retry: when to go on after a failure and when to give up.
        credentials: certificates and tokens.
        streams: parallel streams from servers.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written.
        PlanError, InitserveError, ValueError, BackendError, MissingPackageError: as `fetch`.
    """
    request = make_request(
        plan,
        seed=seed,
        target=target,
        backend=backend,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        streams=streams,
    )
    warn_about(request.layout.warnings)
    said: tuple[str, ...] = ()
    with replacing(path) as file:
        sink = FileSink(file)
        if request.service is None:
            compute_to(request.layout, sink, backend, progress)
        else:
            from initclient import _remote

            said = _remote.download(request.layout, request.service, sink, progress)
    warn_about(request.news(said))
    return Path(path)
