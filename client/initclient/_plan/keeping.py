"""Plans of a model of which some tensors stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from initcore import Plan


@dataclass(frozen=True, repr=False)
class KeepingPlan(Plan):
    """A plan that also knows which tensors of its model stay as they are.

    They are no tensors of the plan, so its file, its digest and its bytes have nothing of them;
    `init_` and `verify` do not miss them in the plan.

    Attributes:
        kept: their names.
    """

    kept: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(KeepingPlan, provenance=dict(self.provenance))
        return made, (dict(self.tensors), self.seed, self.kept)

    def with_seed(self, seed: int) -> Plan:
        """The same plan with another seed."""
        return replace(self, seed=seed)

    def select(self, names: Iterable[str]) -> Plan:
        """The plan of just these tensors."""
        return replace(self, tensors=super().select(names).tensors)

    def shard(self, index: Mapping[str, Any]) -> Plan:
        """The plan that asks for a part of some tensors."""
        return replace(self, tensors=super().shard(index).tensors)


def kept(plan: Plan) -> tuple[str, ...]:
    """Names of the model's tensors that the plan leaves as they are."""
    return plan.kept if isinstance(plan, KeepingPlan) else ()
