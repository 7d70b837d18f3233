"""verify: compares a tree, on one process or many, with the weights of a plan, to the bit.

Each process compares the shards of its own devices, every copy of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from initcore.backends import BackendName
from initcore.file import Progress, blocks
from numpy.typing import NDArray

from initclient._checking import Findings, Verification, globs
from initclient._compute import refuse_tracing
from initclient._machine import ProgressLike, shown
from initclient._models import settled
from initclient._plan import PlanLike, as_plan
from initclient._source import Credentials, Folder, Retry, Target, source_of
from initclient.jax._leaves import Leaf, Naming, leaves
from initclient.jax._processes import Processes
from initclient.jax._shards import Copies, copies_of


def verify(
    tree: Any,
    plan: PlanLike,
    target: Target | None = None,
    *,
    name: Naming | None = None,
    local: bool = False,
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
) -> Verification:
    """Makes sure that a tree of arrays holds the weights of a plan, to the bit.

    Where jax.distributed runs, this is a collective call: every process makes it, with its own
    view of the tree, and all return the same report or raise together. Each process compares
    only the shards of its own devices, and every copy of a shard that several devices hold.
    Processes exchange some integers a tensor.

    Args:
        tree: a pytree of jax.Array, in any sharding, or of NumPy arrays.
        plan: the result of `plan`, or anything that `ic.fetch` takes. Slices are ignored.
        target: as for `ic.fetch`, and the same on every process: one process fetches the plan's
            fingerprints from a server for all; or, in process, each makes the plan's values of
            its own shards.
        name: as for `plan`.
        local: compare only this process's shards, without any communication.
        seed: the plan's seed instead of its own.
        partial: whether tensors of the plan may be missing.
        ignore: a glob for names that are not compared, or several; `*` also matches slashes.
        backend: the backend that computes in this process, as for `ic.fetch`.
        timeout: seconds in which servers must answer; None means no limit.
        progress: True for a bar, which the first process draws; or a function of the bytes
            compared in this process and in all.
        retry: when to call a server again and when to give up.
        credentials: certificates and tokens.
        streams: as for `ic.fetch`; fingerprints come in one call at a time.
        checkpoints: the folder of checkpoints, if processes make the plan's values.

    Returns:
        The report: the compared tensors, with the fingerprints of whole tensors.

    Raises:
        VerificationError: on every process, naming every leaf that differs, is missing, is not
            in the plan, or has another shape or element type, and which processes and devices
            hold the wrong parts; its `report` is a `Verification`.
        InitserveError: on every process, if one of them could not compare its shards; that one
            raises its own error.
        PlanError: if the plan or the tree is wrong, or a checkpoint does not have its tensors.
        CheckpointError: if there is no such folder, or a checkpoint cannot be read.
        ValueError: for leaves without values, as jax.eval_shape makes them.
        RuntimeError: under jit, or another transformation that traces; and for arrays that were
            donated or deleted.

    Example:
        >>> import jax, initclient.jax as icj
        >>> tree = {"kernel": jax.ShapeDtypeStruct((4, 2), "float32")}
        >>> plan = icj.plan(tree, seed=7)
        >>> icj.verify(icj.init(tree, plan, target="local"), plan, target="local").agreed
        ('kernel',)
    """
    refuse_tracing("initclient.jax.verify")
    processes = Processes.of(local)
    own = _TreeFindings()
    try:
        source = source_of(
            target,
            backend=backend,
            checkpoints=checkpoints,
            timeout=timeout,
            retry=retry,
            credentials=credentials,
            streams=streams,
        )
        given = settled(plan, source, seed, processes=jax.process_count())
        own.begin(as_plan(given, seed), source, globs(ignore))
        with shown(progress, "verify", silent=jax.process_index() > 0) as bar:
            own.compare(leaves(tree, name)[0], bar)
        own.finish(processes)
    except Exception as error:
        # The other processes wait in `together`, which sends them the error.
        own.error = error
    return own.together(processes, partial=partial, local=local).checked()


class _TreeFindings(Findings):
    """The results of this process, for the shards of its own devices."""

    def compare(self, found: Sequence[Leaf], progress: Progress | None) -> None:
        """Compares the shards that this process holds."""
        parts: list[tuple[Leaf, Copies]] = []
        for leaf in found:
            if self.is_comparable(leaf.name, leaf.shape, leaf.dtype):
                parts += [(leaf, copies) for copies in copies_of(leaf)]
        bounds = [(leaf.name, copies.bounds) for leaf, copies in parts]
        comparison, entries = self.comparison(bounds, _at_most_all(progress))
        for (leaf, copies), entry in zip(parts, entries, strict=True):
            # The plan's values are made once for all copies that are alike.
            first, *others = copies.arrays
            bits = _on_host(first)
            alike = comparison.compare(leaf.name, entry, blocks(bits))
            self.add(leaf.name, replace(alike, device=copies.devices[0]))
            for device, values in zip(copies.devices[1:], others, strict=True):
                copy = _on_host(values)
                is_alike = all(map(np.array_equal, blocks(bits), blocks(copy)))
                result = alike if is_alike else comparison.compare(leaf.name, entry, blocks(copy))
                self.add(leaf.name, replace(result, device=device))


def _on_host(values: Any) -> NDArray[Any]:
    if isinstance(values, jax.Array):
        # An array keeps the copy that NumPy got, so a copy of the array is asked, which goes.
        alias = jax.make_array_from_single_device_arrays(values.shape, values.sharding, [values])
        return np.asarray(alias)
    return np.asarray(values)


def _at_most_all(progress: Progress | None) -> Progress | None:
    """Progress for comparisons that may see a part again, in copies that differ."""
    if progress is None:
        return None
    return lambda done, total: progress(min(done, total), total)
