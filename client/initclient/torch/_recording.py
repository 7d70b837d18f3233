"""record: runs a model's own code and keeps what it drew, for plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from initcore import Plan

from initclient.torch._planning import plan
from initclient.torch._record import Recorded, run
from initclient.torch._rules import Rule


class Recording(Recorded):
    """A model, and what its own code drew for each of its tensors; `record` makes it.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> recording = ict.record(nn.Linear, 4, 4)
        >>> recording.plan(seed=7).tensors["weight"].scheme
        'uniform'
    """

    def plan(self, seed: int = 0, rules: Iterable[Rule] = (), dtype: Any = None) -> Plan:
        """The plan of the recorded model.

        Args:
            seed: the plan's seed.
            rules: results of `rule`, which come before what was recorded.
            dtype: element type of all floating-point tensors, instead of the model's own.

        Raises:
            PlanError: naming every parameter that no rule covers and that no plan can have, with
                what was recorded, its file and line.

        Warns:
            PlanWarning: for rules without effect, and for computed buffers that are left out.
        """
        return plan(self, rules, seed=seed, dtype=dtype)


def record(build: Any, /, *arguments: Any, device: str = "meta", **keywords: Any) -> Recording:
    """Runs a constructor, or any function, and keeps what it drew for each tensor of the model.

    Nothing is guessed: the code runs on the meta device, and every operation of torch is noted.
    It runs twice, since values that differ between two runs come from elsewhere.

    Args:
        build: a class of models, with its arguments; a function that returns a model; a method
            of a model, such as `model.init_weights`; or a config of transformers, whose
            architectures name the class.
        arguments: arguments of `build`.
        device: "meta", where nothing takes memory; "cpu" builds the model with memory, for code
            that needs values.
        keywords: keyword arguments of `build`.

    Returns:
        The recording: the model, and what its tensors are drawn from.

    Raises:
        PlanError: if the code decides by the value of a draw, changes data behind torch's back,
            or makes no model.
        ValueError: for another device.
        TypeError: for what cannot be called.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> plan = ict.record(lambda: nn.Linear(4, 4)).plan(seed=7)
        >>> plan.tensors["bias"].a, plan.tensors["bias"].b
        (-0.5, 0.5)
    """
    return Recording(*run(build, arguments, keywords, device))
