"""record: runs a model's own code and keeps what it drew, for plans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from initcore import Plan
from torch import nn

from initclient.torch._model import members
from initclient.torch._planning import Rule, given, plan, rule
from initclient.torch._record import Recorded, run

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Recording(Recorded):
    """A model, and what its own code drew for each of its tensors; `record` makes it.

    Example:
        >>> import initclient.torch as ict
        >>> from torch import nn
        >>> recording = ict.record(nn.Linear, 4, 4)
        >>> recording.plan(seed=7).tensors["weight"].scheme
        'uniform'
    """

    def plan(
        self,
        seed: int = 0,
        rules: Iterable[Rule] = (),
        dtype: Any = None,
        *,
        only: str | Iterable[str] | None = None,
        join: bool = False,
        group: ProcessGroup | None = None,
    ) -> Plan:
        """The plan of the recorded model.

        Args:
            seed: the plan's seed.
            rules: results of `rule`, which come before what was recorded.
            dtype: element type of all floating-point tensors, instead of the model's own.
            only: a glob for the names that the plan is for, or several, as for `plan`: with
                "*.lora_*" adapters start as PEFT draws them, and the base is kept as it is.
            join: each process of the group has recorded its part of one model, such as a pipeline
                stage, and the plan is that of all parts, as for `plan`.
            group: the processes whose parts are joined; None means all.

        Raises:
            PlanError: naming every parameter that no rule covers and that no plan can have, with
                what was recorded, its file and line; for a glob that matches nothing.
            InitserveError: if another process, whose part is joined, has an error or does not call.

        Warns:
            PlanWarning: for rules without effect, and for computed buffers that are left out.
        """
        return plan(self, rules, seed=seed, dtype=dtype, only=only, join=join, group=group)


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


def plan_and_values(
    recording: Recording, model: nn.Module, handed: Mapping[str, torch.Tensor]
) -> tuple[Plan, dict[str, torch.Tensor]]:
    """The plan by which `init_` fills a model as a recording says, and the values beside it.

    Args:
        recording: the recording.
        model: the model that is filled, which may be a part of the recorded one.
        handed: the user's values, by name, which no plan needs to have.

    Raises:
        PlanError: naming every parameter that no plan can have, and that has no values here.
    """
    places = members(recording.model)
    computed = {
        id(member.tensor): recording.values[member.name]
        for member in places
        if member.name in recording.values
    }
    taken = {id(member.tensor) for member in places if member.name in handed}
    first: dict[int, str] = {}
    for member in places:
        if member.persistent:
            first.setdefault(id(member.tensor), member.name)
    # By an expression, since a name may have characters that a glob takes for patterns.
    rules = [
        rule(re.compile(re.escape(name)), given, parameter=name.rpartition(".")[2])
        for key, name in first.items()
        if key in computed or key in taken
    ]
    there = {member.name for member in members(model)}
    values = {
        member.name: computed[id(member.tensor)]
        for member in places
        if member.name in there and id(member.tensor) in computed.keys() - taken
    }
    return plan(recording, rules), {**values, **handed}
