"""Orbax's CheckpointManager starts a run from a plan, which it stores as a checkpoint of some kB.

    from initclient.jax.orbax import PlanHandler

    registry = PlanHandler().registry()
    manager = ocp.CheckpointManager(folder, handler_registry=registry)
    manager.save(0, args=ocp.args.StandardSave(plan))
    state = manager.restore(0, args=ocp.args.StandardRestore(abstract_state))

A module of its own, since Orbax takes a second to import and few need it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from initcore import MissingPackageError, Plan
from initcore.backends import BackendName
from initcore.wire import parse_plan

try:
    import orbax.checkpoint as ocp
except ModuleNotFoundError as error:
    raise MissingPackageError("Orbax", "orbax", "initclient.jax.orbax") from error

from initclient._machine import ProgressLike
from initclient._plan import check_plan
from initclient._source import Credentials, Folder, Retry, Target
from initclient.jax._init import init
from initclient.jax._leaves import Naming

__all__ = ["PlanHandler"]

# The one key of the tree that a stored plan is.
_KEY = "initserve.plan"


class PlanHandler(ocp.StandardCheckpointHandler):  # type: ignore[misc]
    """Orbax's handler of trees, for which a plan is a checkpoint too.

    `StandardSave(plan)` stores the plan itself, some kB, as an ordinary checkpoint of Orbax.
    `StandardRestore(tree)` of such a checkpoint makes the plan's values in the shardings of the
    tree, as `init` does: each process only the shards of its own devices. All other checkpoints
    are saved and restored as Orbax does it, so that a trainer's own lines stay as they are.

    Args:
        target: as for `init`.
        name: as for `plan`.
        partial: whether the tree may lack tensors of the plan.
        backend: as for `init`.
        timeout: as for `init`.
        progress: as for `init`.
        retry: as for `init`.
        credentials: as for `init`.
        streams: as for `init`.
        checkpoints: as for `init`: a folder of safetensors files, from which a plan may take
            values.
        options: arguments of orbax.checkpoint.StandardCheckpointHandler.

    Raises:
        PlanError: at `save`, if the plan is wrong; at `restore`, if it does not fit the tree.

    Example:
        >>> import jax, tempfile, initclient.jax as icj, orbax.checkpoint as ocp
        >>> from initclient.jax.orbax import PlanHandler
        >>> tree = {"kernel": jax.ShapeDtypeStruct((4, 2), "float32")}
        >>> registry = PlanHandler().registry()
        >>> with ocp.CheckpointManager(tempfile.mkdtemp(), handler_registry=registry) as manager:
        ...     saved = manager.save(0, args=ocp.args.StandardSave(icj.plan(tree, seed=7)))
        ...     manager.wait_until_finished()
        ...     manager.restore(0, args=ocp.args.StandardRestore(tree))["kernel"].shape
        (4, 2)
    """

    def __init__(
        self,
        target: Target | None = None,
        *,
        name: Naming | None = None,
        partial: bool = False,
        backend: BackendName | None = None,
        timeout: float | None = None,
        progress: ProgressLike = None,
        retry: Retry | None = None,
        credentials: Credentials | None = None,
        streams: int | None = None,
        checkpoints: Folder | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._how: dict[str, Any] = {
            "target": target,
            "name": name,
            "partial": partial,
            "backend": backend,
            "timeout": timeout,
            "progress": progress,
            "retry": retry,
            "credentials": credentials,
            "streams": streams,
            "checkpoints": checkpoints,
        }

    def registry(self, item: str | None = None) -> Any:
        """A registry for `CheckpointManager(handler_registry=)` in which this handles trees.

        Args:
            item: the name of the one item that it handles; None means every item that is saved
                and restored by StandardSave and StandardRestore.
        """
        made = ocp.handlers.DefaultCheckpointHandlerRegistry()
        for kind in (ocp.args.StandardSave, ocp.args.StandardRestore):
            made.add(item, kind, self)
        return made

    async def async_save(self, directory: Any, *given: Any, args: Any = None, **more: Any) -> Any:
        """Saves a tree, or a plan; called by Orbax."""
        if args is not None and isinstance(args.item, Plan):
            check_plan(args.item)
            args = replace(args, item=_stored(args.item))
        return await super().async_save(directory, *given, args=args, **more)

    def restore(self, directory: Any, item: Any = None, args: Any = None) -> Any:
        """Restores a tree, or makes a plan's values; called by Orbax."""
        plan = self._plan(directory)
        if plan is None:
            return super().restore(directory, item, args)
        tree = item if args is None else args.item
        if tree is None:
            raise ValueError(
                f"{directory} holds a plan, of which arrays are made in the shardings of a tree; "
                "give the abstract tree: ocp.args.StandardRestore(tree)"
            )
        return init(tree, plan, **self._how)

    def _plan(self, directory: Any) -> Plan | None:
        """The plan that a checkpoint holds; None for other checkpoints."""
        tree = self.metadata(directory).tree
        if not isinstance(tree, dict) or set(tree) != {_KEY}:
            return None
        target = {_KEY: np.empty(tree[_KEY].shape, np.uint8)}
        stored = super().restore(directory, args=ocp.args.StandardRestore(target))
        return parse_plan(np.asarray(stored[_KEY]).tobytes().decode(), source=str(directory))


def _stored(plan: Plan) -> dict[str, Any]:
    """A plan as a tree of arrays: the bytes of its file."""
    return {_KEY: np.frombuffer(plan.to_yaml().encode(), np.uint8)}
