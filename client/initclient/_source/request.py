"""A request: the layout of a plan's file, and the source of its values. One for each call."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from initcore import Checkpoints, Layout, Plan, VirtualFile
from initcore.backends import Backend, select
from initcore.generate import check_checkpoints
from initcore.resolve import Resolved
from initcore.show import MAX_FOREIGN, counted, printable, size_text
from initcore.wire import to_proto
from initserve.v1 import plan_pb2

from initclient._plan import PlanLike, lay_out
from initclient._source.checkpoints import open_checkpoints
from initclient._source.in_process import InProcess
from initclient._source.service import Service
from initclient._source.source import Source

# What calls do, for people who look for the reason of a failure; initclient -v prints it.
_LOG = logging.getLogger("initclient")


@dataclass(frozen=True)
class Request:
    """A plan's file and where its bytes come from.

    Attributes:
        layout: the file.
        source: a service, or this process.
        checkpoints: the opened folder, if this process reads values from checkpoints.
        model: the name of the server's model whose plan this is; "" sends the plan.
        seed: the seed that the server gives to the model's plan; None for its own.
    """

    layout: Layout
    source: Source
    checkpoints: Checkpoints | None = None
    model: str = ""
    seed: int | None = None

    @cached_property
    def message(self) -> plan_pb2.Plan:
        """The plan as a protobuf message."""
        message = to_proto(self.layout.plan)
        # For people; a server caches plans by their bytes.
        message.ClearField("provenance")
        return message

    @property
    def service(self) -> Service | None:
        """The service; None if this process makes the values."""
        return self.source if isinstance(self.source, Service) else None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return sum(entry.tensor.count for entry in self.layout.entries)

    def of(self, layout: Layout) -> Request:
        """A request with the same source for another file, such as a part of this one."""
        return self if layout is self.layout else replace(self, layout=layout, model="", seed=None)

    def naming(self, model: str, seed: int | None = None) -> Request:
        """The same request, which names the model, and the seed, whose plan it has."""
        return replace(self, model=model, seed=seed)

    def after(self, seconds: float) -> Request:
        """The same request with the timeout that is left after `seconds`.

        Raises:
            DeadlineError: if no time is left.
        """
        service = self.service
        return self if service is None else replace(self, source=service.after(seconds))

    def of_plan(self, plan: Plan) -> Request:
        """A request with the same source for another plan, such as a part of this one.

        Raises:
            PlanError: with everything that is wrong with the plan.
        """
        return self.of(lay_out(plan, None, local=self.service is None))

    def check(self, whole: Sequence[Resolved] | None = None) -> None:
        """Checks that the checkpoints have the plan's tensors, if this process makes the values.

        Args:
            whole: the tensors to check; None means those of the layout.

        Raises:
            PlanError: if a checkpoint lacks one, or there is no folder.
        """
        if self.service is None:
            own = [entry.tensor for entry in self.layout.entries]
            check_checkpoints(own if whole is None else whole, self.checkpoints)

    def backend(self, *, on_gpu: bool = False) -> Backend:
        """The backend that computes in this process.

        Args:
            on_gpu: whether the values stay on a GPU, where even few values are best made.
                Otherwise "auto" chooses NumPy for little work, since it starts at once.

        Raises:
            MissingPackageError, BackendError: if the requested backend cannot run here.
        """
        assert isinstance(self.source, InProcess)
        chosen = select(self.source.backend, elements=None if on_gpu else self.elements)
        _LOG.info("the backend %s computes in this process", chosen.name)
        return chosen

    def open(self, backend: Backend | None = None) -> VirtualFile:
        """The virtual file, whose bytes this process computes.

        Args:
            backend: the backend that computes; None means `backend()`.

        Raises:
            PlanError: if a checkpoint lacks a tensor of the plan, or there is no folder.
        """
        self.check()
        return VirtualFile(self.layout, backend or self.backend(), checkpoints=self.checkpoints)

    def new_warnings(self, received: Iterable[str]) -> list[str]:
        """A server's warnings without those that the client has issued already."""
        # As a server cuts them, and the client shows them.
        known = {printable(text[:MAX_FOREIGN]) for text in self.layout.warnings}
        return [text for text in received if text not in known]


def make_request(
    plan: PlanLike, seed: int | None, source: Source, whole: Sequence[Resolved] | None = None
) -> Request:
    """Makes a request; checks the plan before any call to a server and any read of a file.

    Args:
        plan: the plan.
        seed: replaces the plan's seed, if given.
        source: where the values come from.
        whole: the tensors of the whole plan, if `plan` is one process's part of it. So every
            process can check the same checkpoints, also those of tensors that it does not hold.

    Raises:
        PlanError: with everything that is wrong with the plan.
        CheckpointError: if there is no such folder of checkpoints.
    """
    layout = lay_out(plan, seed, local=not isinstance(source, Service))
    where = ", ".join(source.addresses) if isinstance(source, Service) else "this process"
    count, size = counted(len(layout.entries), "tensor"), size_text(layout.size)
    _LOG.info("plan %s: %s, %s, from %s", layout.digest, count, size, where)
    if isinstance(source, Service):
        return Request(layout, source)
    tensors = [entry.tensor for entry in layout.entries] if whole is None else whole
    return Request(layout, source, open_checkpoints(source.checkpoints, tensors))
