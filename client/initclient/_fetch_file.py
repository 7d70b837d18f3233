"""fetch_file: the weights of a plan as a safetensors file, or as several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from initcore import Layout, Plan
from initcore.backends import BackendName
from initcore.file import parse_shard_size

from initclient._checking import check_count, check_files
from initclient._compute import compute_in_order, compute_ranges
from initclient._exceptions import PartialFileWarning
from initclient._files import (
    InOrder,
    Outputs,
    PartialFiles,
    one_file,
    real_file,
    sharded,
)
from initclient._machine import ProgressLike, here, shown
from initclient._models import request_for
from initclient._plan import PlanLike, warn_about
from initclient._source import Credentials, Folder, Request, Retry, Target, source_of


def fetch_file(
    plan: PlanLike,
    path: str | os.PathLike[str],
    *,
    target: Target | None = None,
    backend: BackendName | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    shard_size: int | str | None = None,
    resume: bool = True,
    checkpoints: Folder | None = None,
    check: int = 0,
) -> Path:
    """Writes the weights of a plan to a safetensors file, in little memory.

    The file appears whole or not at all; an existing file is replaced at the end, in one step.
    The plan may be larger than memory. Its space on the disk is allocated first.

    A fetch that ends early keeps its complete blocks (of 8 MiB) in NAME.initserve.part and
    NAME.initserve.journal; the next fetch of the same plan to the same path compares them with
    their checksums and resumes there.

    Args:
        plan: as for `fetch`, like all arguments that are not explained here.
        path: the file to write; with `shard_size`, the folder.
        target: the servers.
        backend: the backend that computes in this process.
        seed: the plan's seed instead of its own.
        timeout: seconds for the transfer of each file from a server.
        progress: True for a bar, or a function of the bytes done and the bytes in all.
        retry: when to continue after a failure and when to give up.
        credentials: certificates and tokens.
        streams: parallel streams from servers.
        shard_size: writes the Hugging Face layout instead: files with at most this many bytes of
            tensors (a number, or text such as "5GB"), named model-00001-of-000NN.safetensors,
            and last model.safetensors.index.json; or one file, model.safetensors, if all tensors
            fit. A larger tensor has a file of its own. transformers loads the folder.
        resume: False neither uses nor leaves partial files, and needs no lock. A partial file of
            an earlier fetch stays.
        checkpoints: the folder of checkpoints, if this process makes the values.
        check: how many elements of each tensor this process recomputes after a download. If one
            differs, no file is written, and none is kept for resuming.

    Returns:
        The path.

    Raises:
        OSError: if the file cannot be written: no space (checked before the fetch starts), no
            permission, or another process that is writing it (BlockingIOError).
        InitserveError: as `fetch`, and so are PlanError, CheckpointError, ValueError, BackendError
            and MissingPackageError.

    Warns:
        PartialFileWarning: for a partial file of another plan, or a damaged one.
    """
    checked = check_count(check)
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
    outputs = outputs_of(request, path, shard_size)
    # Before the first write.
    request.check()
    warn_about(request.layout.warnings)
    warnings: tuple[str, ...] = ()
    with (
        shown(progress, Path(path).name) as report,
        PartialFiles(outputs, resume=resume) as partial,
    ):
        partial.check(report)
        warn_about(partial.warnings, PartialFileWarning)
        started = here().now()
        for number, output in enumerate(outputs.files):
            missing = partial.missing(number)
            file_progress = outputs.progress(number, report)
            if missing:
                with partial.sink(number) as sink:
                    part = request.of(output.layout).after(here().now() - started)
                    if request.service is None:
                        compute_ranges(part, sink, file_progress, missing)
                    else:
                        from initclient._transport import blocking

                        warnings += blocking.download(part, sink, file_progress, missing)
        warn_about(check_files(request, outputs, partial, checked))
        partial.publish()
    warn_about(request.new_warnings(dict.fromkeys(warnings)))
    return Path(path)


def fetch_stream(
    plan: PlanLike,
    stream: BinaryIO,
    *,
    target: Target | None = None,
    backend: BackendName | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    checkpoints: Folder | None = None,
) -> int:
    """Writes the bytes of a plan's file to a stream that takes them in order, such as a pipe.

    A download comes in one stream, and resumes where it broke. After an error the stream has a
    beginning of the file.

    Args:
        plan: as for `fetch_file`, like all arguments that are not explained here.
        stream: takes the bytes.
        target: the servers, as text.
        backend: the backend that computes in this process.
        seed: the plan's seed instead of its own.
        timeout: seconds for the transfer from a server.
        progress: True for a bar, or a function of the bytes done and the bytes in all.
        retry: when to continue after a failure and when to give up.
        credentials: certificates and tokens.
        checkpoints: the folder of checkpoints, if this process makes the values.

    Returns:
        The number of bytes.

    Raises:
        OSError: if the stream cannot be written.
        InitserveError: as `fetch`, and so are PlanError, CheckpointError, ValueError, BackendError
            and MissingPackageError.
    """
    source = source_of(
        target,
        backend=backend,
        checkpoints=checkpoints,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        streams=1,
    )
    request = request_for(plan, seed, source)
    request.check()
    warn_about(request.layout.warnings)
    sink = InOrder(stream)
    with shown(progress, "standard output") as report:
        if request.service is None:
            for offset, data in compute_in_order(request, report):
                sink.write_at(offset, data)
            return request.layout.size
        from initclient._transport import blocking

        warnings = blocking.download(request, sink, report)
    warn_about(request.new_warnings(warnings))
    return request.layout.size


def outputs_of(
    request: Request, path: str | os.PathLike[str], shard_size: int | str | None
) -> Outputs:
    """The files that a call of fetch_file writes.

    Raises:
        OSError: if they cannot be written there.
        ValueError: if the shard size is wrong.
    """
    if shard_size is None:
        try:
            final = real_file(path)
        except IsADirectoryError as error:
            raise IsADirectoryError(
                f"{error}, or a shard size (shard_size='5GB', --shard-size 5GB) for a folder"
            ) from None
        return one_file(final, Path(path), request.layout)

    def lay_out_part(part: Plan) -> Layout:
        return request.of_plan(part).layout

    return sharded(path, request.layout, parse_shard_size(shard_size), lay_out_part)
