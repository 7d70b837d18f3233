"""fetch, fetch_file and describe for asyncio, with the arguments of the blocking ones.

>>> import asyncio
>>> import initclient as ic
>>> from initclient import aio
>>> asyncio.run(aio.fetch({"fc.bias": ic.zeros((3,))}, target="local"))
{'fc.bias': array([0., 0., 0.], dtype=float32)}

An `ic.Client` and an `ic.Local` are targets here too. Calls open connections of their own, since
one that stayed open would belong to an event loop that may have ended.

A cancelled call closes its connections and leaves no file but a partial one. Computing in this
process runs in a thread and does not block the event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial as partial_function
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, overload

from initcore.backends import BackendName
from initcore.file import Progress
from initcore.show import Description
from numpy.typing import NDArray

from initclient._checking import check_count, check_elements, check_files
from initclient._compute import (
    FrameworkName,
    compute_arrays,
    compute_fingerprints,
    compute_ranges,
    framework_of,
    take_all,
)
from initclient._exceptions import PartialFileWarning
from initclient._fetch import Options
from initclient._fetch_file import outputs_of
from initclient._files import Buffer, PartialFiles
from initclient._inspect import agreed, from_request
from initclient._machine import ProgressLike, shown
from initclient._machine import here as machine
from initclient._models import request_for
from initclient._plan import PlanLike, wanted_regions, warn_about
from initclient._source import Credentials, Folder, Retry, Target, source_of

__all__ = ["describe", "fetch", "fetch_file"]

_T = TypeVar("_T")


@overload
async def fetch(
    plan: PlanLike,
    *,
    framework: Literal["numpy"] = "numpy",
    device: None = None,
    **options: Unpack[Options],
) -> dict[str, NDArray[Any]]: ...


@overload
async def fetch(
    plan: PlanLike, *, framework: FrameworkName, device: Any = None, **options: Unpack[Options]
) -> dict[str, Any]: ...


async def fetch(
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
    """The weights of a plan, as `initclient.fetch` gives them and with its arguments."""
    count = check_count(check)
    # In a thread: it may have to import the framework.
    wanted = await _to_the_end(framework_of, framework, device)
    source = source_of(
        target,
        backend=backend,
        checkpoints=checkpoints,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        streams=streams,
    )
    request = await _to_the_end(request_for, plan, seed, source)
    layout = request.layout
    wanted.check(layout)
    warn_about(layout.warnings)
    with shown(progress, "weights") as report:
        if request.service is None:
            return await _in_thread(partial_function(compute_arrays, request, wanted), report)
        from initclient._transport import asynchronous

        buffer = Buffer(layout)
        warnings = await asynchronous.download(request, buffer, report)
    warn_about(request.new_warnings(warnings))
    warn_about(await _to_the_end(check_elements, request, count, buffer.read))
    return await _to_the_end(take_all, wanted, layout, buffer.arrays())


async def fetch_file(
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
    """Writes a plan's safetensors file, as `initclient.fetch_file` does, with its arguments."""
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
    request = await _to_the_end(request_for, plan, seed, source)
    outputs = outputs_of(request, path, shard_size)
    await _to_the_end(request.check)
    warn_about(request.layout.warnings)
    warnings: tuple[str, ...] = ()
    async with (
        _shown(progress, Path(path).name) as report,
        _in_threads(PartialFiles(outputs, resume=resume)) as partial,
    ):
        await _in_thread(partial.check, report)
        warn_about(partial.warnings, PartialFileWarning)
        started = machine().now()
        for number, output in enumerate(outputs.files):
            missing = partial.missing(number)
            file_progress = outputs.progress(number, report)
            if missing:
                async with _in_threads(partial.sink(number)) as sink:
                    part = request.of(output.layout).after(machine().now() - started)
                    if request.service is None:
                        make = partial_function(compute_ranges, part, sink, missing=missing)
                        await _in_thread(make, file_progress)
                    else:
                        from initclient._transport import asynchronous

                        warnings += await asynchronous.download(part, sink, file_progress, missing)
        warn_about(await _to_the_end(check_files, request, outputs, partial, checked))
        await _to_the_end(partial.publish)
    warn_about(request.new_warnings(dict.fromkeys(warnings)))
    return Path(path)


async def describe(
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
    """Resolves a plan, without its data, as `initclient.describe` does, with its arguments."""
    source = source_of(
        target, checkpoints=checkpoints, timeout=timeout, retry=retry, credentials=credentials
    )
    request = await _to_the_end(request_for, plan, seed, source)
    # In a thread: it may have to read a whole checkpoint.
    here = await _to_the_end(from_request, request)
    if request.service is None:
        if not fingerprints:
            return here
        with shown(progress, "fingerprints") as report:
            found = await _in_thread(partial_function(compute_fingerprints, request), report)
        return here.with_fingerprints(list(found.values()))
    from initclient._transport import asynchronous

    check = partial_function(agreed, here)
    started = machine().now()
    there = agreed(here, await asynchronous.describe(request, check=check))
    if not fingerprints:
        return there
    wanted, rest = wanted_regions(request.layout), request.after(machine().now() - started)
    with shown(progress, "fingerprints") as report:
        return there.with_fingerprints(await asynchronous.fingerprints(rest, wanted, report))


class _Cancelled(Exception):  # noqa: N818 - ends a thread, and never leaves it
    """The call was cancelled."""


async def _in_thread(work: Callable[[Progress], _T], progress: Progress | None) -> _T:
    """Runs `work` in a thread; if this call is cancelled, the thread ends at its next step.

    The call returns after the thread has ended, so that no write comes later.
    """
    cancelled = threading.Event()

    def report(done: int, total: int) -> None:
        if cancelled.is_set():
            raise _Cancelled
        if progress:
            progress(done, total)

    return await _to_the_end(work, report, on_cancel=cancelled.set)


@asynccontextmanager
async def _shown(progress: ProgressLike, title: str) -> AsyncIterator[Progress | None]:
    with shown(progress, title) as report:
        yield report


@asynccontextmanager
async def _in_threads(manager: AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """A context manager whose enter and exit run in a thread."""
    entered: list[_T] = []
    try:
        # If the call is cancelled here, the manager may have been entered.
        await _to_the_end(lambda: entered.append(manager.__enter__()))
        yield entered[0]
    except BaseException as error:
        if not entered:
            raise
        if not manager.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        await _to_the_end(manager.__exit__, None, None, None)


async def _to_the_end(
    work: Callable[..., _T], *arguments: Any, on_cancel: Callable[[], None] | None = None
) -> _T:
    """Runs `work` in a thread and returns after it has ended, cancelled or not."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if on_cancel:
            on_cancel()
        while not running.done():
            # A second cancellation has to wait too: the thread may be writing.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            # asyncio logs an exception that no code has retrieved.
            running.exception()
        raise
