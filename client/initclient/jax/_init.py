"""init: fills the sharded arrays of a pytree from a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
from initcore import Plan, PlanError, Tensor, Violation
from initcore.backends import BackendName
from initcore.dtypes import canonical_name

from initclient._compute import refuse_tracing, too_wide
from initclient._machine import ProgressLike, check_progress, shown
from initclient._models import settled
from initclient._plan import PlanLike, as_plan, check_plan, pinned, warn_about
from initclient._source import (
    Credentials,
    Folder,
    InProcess,
    Retry,
    Target,
    make_request,
    source_of,
)
from initclient.jax._leaves import Leaf, Naming, filled, leaves
from initclient.jax._meshes import on_devices, spread
from initclient.jax._parts import Placement, place
from initclient.jax._shards import Shards, shards_of


def init(
    tree: Any,
    plan: PlanLike,
    target: Target | None = None,
    *,
    name: Naming | None = None,
    out_shardings: Any = None,
    partial: bool = False,
    backend: BackendName | None = None,
    timeout: float | None = None,
    progress: ProgressLike = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
    streams: int | None = None,
    checkpoints: Folder | None = None,
) -> Any:
    """The arrays of a tree, with a plan's values and the tree's own shardings.

    Each process makes or fetches only the shards of its own devices, each shard once, even if
    several devices hold it. On the host it holds a few shards at a time: 64 MiB, or one larger
    shard, and as much again in transfer to the devices. Processes do not communicate. The values
    are the same in every sharding, on any number of devices.

    Args:
        tree: a pytree of jax.ShapeDtypeStruct, each with the sharding that its array is to have,
            or of arrays, whose shardings are used and whose values are ignored. Leaves without a
            sharding go to the default device. Under `jax.set_mesh` a PartitionSpec or an abstract
            mesh will do.
        plan: the result of `plan`, or anything that `ic.fetch` takes.
        target: address of a server, an `ic.Client` or an `ic.Local`, as for `ic.fetch`; None
            means the environment variable INITSERVE_TARGET, else this process.
        name: as for `plan`.
        out_shardings: shardings or partition specs in place of the tree's own, in a tree of the
            same structure or a prefix of it, as for `jax.jit`; None keeps a leaf's own.
        partial: the tree is a part of the planned tree, such as a pipeline stage, with the same
            names; other tensors are neither computed nor fetched.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds for each download from a server, one for each 64 MiB.
        progress: True for a bar, which the first process draws; or a function of the bytes made
            and in all, of this process.
        retry: when to continue after a failure and when to give up, as for `ic.fetch`.
        credentials: certificates and tokens, as for `ic.fetch`.
        streams: parallel streams from servers, as for `ic.fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from, if this
            process makes them; None means the environment variable INITSERVE_CHECKPOINTS.

    Returns:
        A tree of the same structure, of jax.Array. Leaves that are no arrays (functions, and the
        numbers of an Equinox module) stay as they are.

    Raises:
        PlanError: before the first value is made, naming every leaf that is missing from the
            plan, differs in shape or element type, has 64 bits while JAX has 64-bit types
            switched off, or has a sharding that does not fit its shape; a tensor that the tree
            lacks, if `partial` is not set; and tensors that a checkpoint lacks.
        CheckpointError: if there is no such folder.
        InitserveError: if no server delivers the weights.
        ValueError: if the trees of leaves and of shardings do not fit.
        RuntimeError: under jit, or another transformation that traces.

    Example:
        >>> import jax, initclient as ic, initclient.jax as icj
        >>> tree = {"kernel": jax.ShapeDtypeStruct((4, 2), "float32")}
        >>> icj.init(tree, icj.plan(tree, seed=7), target="local")["kernel"].shape
        (4, 2)
    """
    refuse_tracing("initclient.jax.init")
    check_progress(progress)
    source = source_of(
        target,
        backend=backend,
        checkpoints=checkpoints,
        timeout=timeout,
        retry=retry,
        credentials=credentials,
        streams=streams,
    )
    whole = as_plan(settled(plan, source, processes=jax.process_count()))
    found, _ = leaves(tree, name)
    found, shards = _checked(found, spread(out_shardings, tree), whole, partial)
    wanted = whole.select(leaf.name for leaf in found)
    resolved = check_plan(wanted, local=isinstance(source, InProcess))
    tensors: dict[str, Tensor] = {}
    holders: list[tuple[tuple[jax.Device | None, ...], str | None]] = []
    for leaf, cut in zip(found, shards, strict=True):
        tensors |= _parts(leaf, cut, whole)
        holders += [(devices, cut.memory_kind) for devices in cut.boxes.values()]
    request = make_request(Plan(tensors, whole.seed), None, source, resolved)
    request.check(resolved)
    entries = request.layout.entries
    placements = [Placement(entry, *each) for entry, each in zip(entries, holders, strict=True)]
    with shown(progress, "init", silent=jax.process_index() > 0) as report:
        placed, warnings = place(request, placements, report)
    warn_about(dict.fromkeys(warnings))
    made = iter(placed)
    arrays = []
    for leaf, cut in zip(found, shards, strict=True):
        pieces = [piece for _ in cut.boxes for piece in next(made)]
        arrays.append(_assembled(leaf, cut, pieces))
    return filled(tree, arrays)


def _assembled(leaf: Leaf, cut: Shards, pieces: Sequence[jax.Array]) -> jax.Array:
    if leaf.sharding is None:
        return pieces[0]
    if not pieces:
        # No device of this process holds a part; any use of the array raises.
        return jax.make_array_from_single_device_arrays(
            leaf.shape, leaf.sharding, [], dtype=leaf.dtype
        )
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, list(pieces))


def _parts(leaf: Leaf, cut: Shards, plan: Plan) -> dict[str, Tensor]:
    """The parts of a leaf that this process holds, each under a unique name."""
    tensor = pinned(plan.tensors[leaf.name], leaf.name)
    is_whole = len(cut.boxes) == 1
    return {
        leaf.name if is_whole else f"{leaf.name}{list(bounds)}": replace(tensor, slices=bounds)
        for bounds in cut.boxes
    }


def _checked(
    found: Sequence[Leaf], given: Sequence[Any], plan: Plan, partial: bool
) -> tuple[list[Leaf], list[Shards]]:
    """The leaves in their shardings, and their shards; checks the tree against the plan.

    Args:
        found: the leaves.
        given: for each leaf the sharding that it is to have; None means its own.
        plan: the plan.
        partial: whether the tree may lack tensors of the plan.
    """
    violations: list[Violation] = []
    kept: list[Leaf] = []
    shards: list[Shards] = []
    for leaf, own in zip(found, given, strict=True):
        if leaf.name not in plan.tensors:
            message = "the tree has this leaf and the plan does not; plan the same tree"
            violations.append(Violation(leaf.name, "name", message))
            continue
        tensor, dtype = plan.tensors[leaf.name], canonical_name(leaf.dtype)
        if tensor.shape != leaf.shape:
            message = f"is {list(tensor.shape)} in the plan and {list(leaf.shape)} in the tree"
            violations.append(Violation(leaf.name, "shape", message))
        if tensor.dtype != dtype:
            message = f"is {tensor.dtype} in the plan and {dtype} in the tree; make them alike"
            violations.append(Violation(leaf.name, "dtype", message))
        elif wide := too_wide(leaf.name, dtype):
            violations.append(wide)
        try:
            lying = replace(leaf, sharding=on_devices(leaf.sharding if own is None else own))
            shards.append(shards_of(lying))
            kept.append(lying)
        except ValueError as error:
            violations.append(Violation(leaf.name, "sharding", f"does not fit: {error}"))
    names = {leaf.name for leaf in found}
    absent = [name for name in plan.tensors if name not in names]
    if absent and not partial:
        rest = f", like {len(absent) - 1} others," if len(absent) > 1 else ""
        message = (
            f"the plan has this tensor{rest} and the tree does not; if the tree is a part of the "
            "planned tree, pass partial=True"
        )
        violations.append(Violation(absent[0], "name", message))
    if violations:
        raise PlanError(violations)
    return kept, shards
