"""verify: compares a file, arrays or a model with the weights of a plan, to the bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from initcore import Entry, Layout, MissingPackageError
from initcore.backends import BackendName
from initcore.dtypes import canonical_name
from initcore.file import Progress, blocks
from numpy.typing import NDArray

from initclient._checking import (
    Compared,
    Comparison,
    Mismatch,
    Verification,
    WrongPart,
    globs,
    is_ignored,
    missing,
    other_dtype,
    other_shape,
    other_values,
    require_some,
    unexpected,
    without_effect,
)
from initclient._files import metadata_of, orbax_folder, orbax_tensors, stored_tensors
from initclient._machine import ProgressLike, shown
from initclient._models import request_for
from initclient._plan import PlanLike, Region, kept, warn_about
from initclient._source import Credentials, Folder, Request, Retry, Target, source_of

# Makes a folder one of torch.distributed.checkpoint.
_SAVED = ".metadata"

# What Orbax adds to the name of an array in a box of Flax (nnx.Variable, linen's Partitioned).
_BOX = "/value"

Verifiable: TypeAlias = Any
"""A checkpoint's path, arrays by name, or a torch.nn.Module."""


def verify(
    what: Verifiable,
    plan: PlanLike,
    *,
    target: Target | None = None,
    seed: int | None = None,
    partial: bool = False,
    ignore: str | Iterable[str] = (),
    backend: BackendName | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    checkpoints: Folder | None = None,
    prefix: str = "",
) -> Verification:
    """Makes sure that a file, arrays or a model hold the weights of a plan, to the bit.

    This process makes the plan's values again, a few MiB at a time, and compares them. A server
    sends only fingerprints, 16 bytes a tensor, and no values.

    Args:
        what: the path of a safetensors file, of a Hugging Face index, of a folder with either, of a
            folder of torch.distributed.checkpoint (needs torch), or of a folder of Orbax (needs
            orbax-checkpoint); arrays by name (NumPy, ml_dtypes, torch, CuPy, JAX arrays that this
            process holds whole); or a torch.nn.Module, which goes to `initclient.torch.verify`:
            with torch.distributed every process has to call it.
        plan: a Plan, a dict from names to tensors, or the path of a plan file. If the plan has
            slices, files and arrays hold those parts.
        target: the source of the plan's values or fingerprints, as for `fetch`.
        seed: the plan's seed instead of its own.
        partial: whether tensors of the plan may be missing.
        ignore: a glob for names that are not compared, or several; `*` also matches dots.
        backend: the backend that computes in this process, as for `fetch`.
        timeout: seconds in which servers must answer; None means no limit.
        progress: True for a bar, or a function of the bytes read and the bytes in all.
        retry: when to call a server again and when to give up.
        credentials: certificates and tokens.
        streams: as for `fetch`; fingerprints come in one call at a time.
        checkpoints: the folder of the checkpoints that the plan takes values from, if this
            process makes them; None means the environment variable INITSERVE_CHECKPOINTS.
        prefix: the place of the plan's tensors in the file or among the arrays, such as "model" for
            the checkpoint of {"model": ..., "optim": ...}: their names begin with it and a dot
            or a slash. Others are left out.

    Returns:
        The report: the compared tensors, which all agree, with their fingerprints.

    Raises:
        VerificationError: naming every tensor that differs, is missing, is not in the plan, or
            has another shape or element type; its `report` is a `Verification`.
        PlanError: if the plan is wrong, or a checkpoint does not have its tensors.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        InitserveError: if a server does not answer.
        OSError, ValueError: if a file cannot be read, or is no checkpoint.
        ValueError: if no tensor was compared, since all are ignored or missing.
        TypeError: if `what` is of another type.

    Warns:
        PlanWarning: for a glob of `ignore` that matches nothing.

    Example:
        >>> import initclient as ic
        >>> plan = {"fc.bias": ic.normal((3,))}
        >>> weights = ic.fetch(plan, target="local")
        >>> ic.verify(weights, plan, target="local").agreed
        ('fc.bias',)
    """
    if _is_for_torch(what):
        if prefix:
            raise ValueError(
                f"prefix is {prefix!r}, which is for files; give the module or the state dict that "
                "the plan is of"
            )
        from initclient.torch._checking.collective import verify as verify_torch

        return verify_torch(
            what,
            plan,
            target=target,
            seed=seed,
            partial=partial,
            ignore=ignore,
            backend=backend,
            timeout=timeout,
            progress=progress,
            retry=retry,
            credentials=credentials,
            streams=streams,
            checkpoints=checkpoints,
        )
    items = _items(what)
    under = items if not prefix else _under(prefix, items)
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
    under = _unboxed(under, request.layout)
    is_path = isinstance(what, str | os.PathLike)
    with shown(progress, os.path.basename(os.path.normpath(what)) if is_path else "verify") as bar:
        report = _verified(under, request, partial, globs(ignore), bar)
    require_some(report, [entry.tensor.name for entry in request.layout.entries], globs(ignore))
    warn_about(without_effect(globs(ignore), {*request.layout.plan.tensors, *under}))
    if report.mismatches and is_path:
        remark = _of_another_plan(what, request.layout) or _elsewhere(set(items), request.layout)
        report = replace(report, remark=remark)
    return report.checked()


@dataclass(frozen=True)
class _Item:
    """A tensor to verify: element type, shape, and a reader of its bits."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[NDArray[Any]]]


def _is_for_torch(what: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if not isinstance(what, Mapping):
        return isinstance(what, torch.nn.Module)
    tensors = [name for name, value in what.items() if isinstance(value, torch.Tensor)]
    if tensors and len(tensors) < len(what):
        other = next(name for name in what if name not in tensors)
        raise TypeError(
            f"{tensors[0]!r} is a torch.Tensor and {other!r} is a {type(what[other]).__name__}; "
            "give arrays of one library"
        )
    return bool(tensors)


def _items(what: Verifiable) -> dict[str, _Item]:
    if isinstance(what, str | os.PathLike):
        saved = _saved(Path(what))
        if saved is not None:
            return saved
        orbax = orbax_folder(Path(what))
        if orbax is not None:
            found = orbax_tensors(orbax)
            return {name: _Item(one.dtype, one.shape, one.blocks) for name, one in found.items()}
        return {
            name: _Item(tensor.dtype, tensor.shape, tensor.blocks)
            for name, tensor in stored_tensors(what).items()
        }
    if isinstance(what, Mapping):
        return {name: _item(_on_host(value)) for name, value in what.items()}
    raise TypeError(
        f"cannot verify {what!r}; give the path of a safetensors file or of a folder, a dict from "
        "names to arrays, or a torch.nn.Module"
    )


def _saved(folder: Path) -> dict[str, _Item] | None:
    """The tensors in a folder of torch.distributed.checkpoint; None for other paths."""
    if not (folder / _SAVED).is_file():
        return None
    try:
        import torch as _torch  # noqa: F401
    except ModuleNotFoundError as error:
        purpose = f"verify of {folder}, a folder of torch.distributed.checkpoint,"
        raise MissingPackageError("torch", "torch", purpose) from error
    from initclient.torch._checking.saved import saved_tensors

    found = saved_tensors(folder)
    return {name: _Item(one.dtype, one.shape, one.blocks) for name, one in found.items()}


def _under(prefix: str, items: Mapping[str, _Item]) -> dict[str, _Item]:
    """The tensors below a prefix, without it.

    Raises:
        ValueError: if there is none.
    """
    for end in (".", "/"):
        start = prefix.rstrip("./") + end
        found = {name.removeprefix(start): i for name, i in items.items() if name.startswith(start)}
        if found:
            return found
    shown = ", ".join(sorted({name.partition(".")[0].partition("/")[0] for name in items})[:8])
    raise ValueError(f"no name begins with the prefix {prefix!r}; names begin with {shown}")


def _unboxed(items: Mapping[str, _Item], layout: Layout) -> dict[str, _Item]:
    """Arrays in boxes of Flax, which Orbax names kernel/value, by the plan's name, kernel."""
    names = {entry.tensor.name for entry in layout.entries}
    found = {}
    for name, item in items.items():
        own = name.removesuffix(_BOX)
        found[own if name not in names and own in names and own not in items else name] = item
    return found


def _elsewhere(found: set[str], layout: Layout) -> str:
    """Where all the plan's tensors are, if that is further down; the least deep of such places."""
    wanted = [entry.tensor.name for entry in layout.entries]
    names = found | {name.removesuffix(_BOX) for name in found}
    if not wanted or any(name in names for name in wanted):
        return ""
    for name in sorted(names, key=lambda name: (name.count(".") + name.count("/"), name)):
        for end in (".", "/"):
            if name.endswith(f"{end}{wanted[0]}"):
                start = name.removesuffix(wanted[0])
                if all(f"{start}{one}" in names for one in wanted):
                    return f"all names are there behind {start!r}: give prefix={start[:-1]!r}"
    return ""


def _on_host(value: Any) -> NDArray[Any]:
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
        value = value.get()  # CuPy never copies to the host by itself
    return np.asarray(value)


def _item(array: NDArray[Any]) -> _Item:
    return _Item(canonical_name(array.dtype.name), array.shape, lambda: blocks(array))


def _verified(
    items: Mapping[str, _Item],
    request: Request,
    partial: bool,
    ignore: tuple[str, ...],
    progress: Progress | None,
) -> Verification:
    layout = request.layout
    entries = {entry.tensor.name: entry for entry in layout.entries}
    wrong: dict[str, Mismatch] = {}
    stays = kept(layout.plan)
    left_out = [n for n in {**entries, **items} if is_ignored(n, ignore) or n in stays]
    to_compare: list[Entry] = []
    for name, entry in entries.items():
        tensor = entry.tensor
        if name in left_out:
            continue
        item = items.get(name)
        if item is None:
            if partial:
                left_out.append(name)
            else:
                wrong[name] = missing(name)
        elif item.shape != tensor.shard_shape:
            wrong[name] = other_shape(name, item.shape, tensor.shard_shape)
        elif item.dtype != tensor.dtype.name:
            wrong[name] = other_dtype(name, item.dtype, tensor.dtype.name)
        else:
            to_compare.append(entry)
    results = _compare(items, to_compare, request, progress)
    for name, result in results.items():
        if result.found != result.expected:
            wrong[name] = _other_values(name, result)
    for name in items:
        if name not in entries and name not in left_out:
            wrong[name] = unexpected(name)
    order = {name: position for position, name in enumerate({**entries, **items})}
    return Verification(
        layout.digest,
        tuple(name for name in results if name not in wrong),
        {name: result.found for name, result in results.items()},
        tuple(wrong[name] for name in sorted(wrong, key=order.__getitem__)),
        tuple(left_out),
    )


def _of_another_plan(path: str | os.PathLike[str], layout: Layout) -> str:
    """The seed or plan that a file of ours was written from, if it is another one."""
    if (Path(path) / _SAVED).is_file() or orbax_folder(Path(path)) is not None:
        return ""
    said = metadata_of(path)
    digest, seed = said.get("initserve.plan_digest", ""), said.get("initserve.seed", "")
    if digest in ("", layout.digest):
        return ""
    if seed != str(layout.plan.seed):
        return f"the file says seed {seed}, the plan {layout.plan.seed}"
    return f"the file says that it was written from plan {digest}"


def _other_values(name: str, result: Compared) -> Mismatch:
    if not result.differing:
        return other_values(name, result.found, result.expected)
    part = WrongPart(None, result.bounds, result.differing, result.first)
    return other_values(name, result.found, result.expected, [part])


def _compare(
    items: Mapping[str, _Item],
    entries: list[Entry],
    request: Request,
    progress: Progress | None,
) -> dict[str, Compared]:
    # Only of the compared tensors: a checkpoint may lack the rest.
    compared = request.of_plan(request.layout.plan.select(e.tensor.name for e in entries))
    comparison = Comparison(compared, progress)
    results = {
        entry.tensor.name: comparison.compare(
            entry.tensor.name, entry, items[entry.tensor.name].blocks()
        )
        for entry in compared.layout.entries
    }
    if request.service is not None:
        from initclient._transport import blocking

        regions = [Region(entry.tensor.name, entry.tensor.bounds) for entry in entries]
        for region, expected in zip(regions, blocking.fingerprints(request, regions), strict=True):
            results[region.name].expected = expected
    return results
