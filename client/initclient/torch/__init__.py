"""initserve for torch: a plan from any model, and a plan into any model, to the bit.

    import initclient as ic
    import initclient.torch as ict

    plan = ict.plan(model, seed=7, rules=[
        ict.rule("*.bias", ic.zeros),
        ict.rule("fc.weight", ic.kaiming_normal),
        ict.rule(nn.Conv2d, ic.kaiming_normal, mode="fan_out", nonlinearity="relu"),
        ict.rule(nn.BatchNorm2d, ic.ones),
    ])
    ict.init_(model, plan)

No other part of initserve imports torch.
"""

from typing import TYPE_CHECKING

from initcore import MissingPackageError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingPackageError("torch", "torch", "initclient.torch") from error

from initcore.report import Flow, LayerFlow

from initclient.torch._checking import Engine, fingerprints, verify
from initclient.torch._flow import flow
from initclient.torch._init import InitReport, init_
from initclient.torch._layouts import Layout, Piece, Slot
from initclient.torch._lsuv import lsuv
from initclient.torch._planning import Initializer, Rule, given, keep, plan, rule
from initclient.torch._recording import Recording, record

if TYPE_CHECKING:
    from initclient.torch._plan_reader import PlanReader

__all__ = [
    "Engine",
    "Flow",
    "InitReport",
    "Initializer",
    "LayerFlow",
    "Layout",
    "Piece",
    "PlanReader",
    "Recording",
    "Rule",
    "Slot",
    "fingerprints",
    "flow",
    "given",
    "init_",
    "keep",
    "lsuv",
    "plan",
    "record",
    "rule",
    "verify",
]


def __getattr__(name: str) -> object:
    # torch.distributed.checkpoint takes seconds to import, and few need it.
    if name == "PlanReader":
        from initclient.torch._plan_reader import PlanReader

        return PlanReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
