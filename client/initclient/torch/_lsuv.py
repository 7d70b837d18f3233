"""lsuv: layer-sequential unit-variance initialization, a plan with gains measured on data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from initcore import Plan, PlanError, Violation
from initcore.backends import BackendName
from torch import nn

from initclient._plan import PlanLike, as_plan, pinned, scaled
from initclient._source import Folder, InProcess, make_request
from initclient.torch._filling import fill
from initclient.torch._init import init_
from initclient.torch._model import Member, members, places

LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Bilinear,
)
"""The types of layers that are measured by default."""


def lsuv(
    model: nn.Module,
    plan: PlanLike,
    batch: Any,
    *,
    layers: tuple[type[nn.Module], ...] = LAYERS,
    tolerance: float = 0.02,
    attempts: int = 10,
    backend: BackendName | None = None,
    checkpoints: Folder | None = None,
) -> Plan:
    """The plan with gains under which every layer's output has variance one on a batch.

    Mishkin and Matas 2015, "All you need is a good init", algorithm 1: layer by layer, in the
    order in which the model runs them, the weight is divided by the standard deviation of the
    layer's output until its variance is one. The paper starts from orthogonal weights; here the
    plan's own schemes are kept, and the measured factors go into their arguments. So the plan's
    file is the whole record: a fetch of it gives these weights, without the batch.

    Args:
        model: the model, in one process and not sharded. It holds the plan's weights afterwards.
            It runs in its current mode, training or evaluation; buffers that a run changes, and
            torch's random state, are restored.
        plan: the plan to start from, such as `ict.plan(model, rules=[rule(nn.Linear,
            ic.orthogonal, parameter="weight"), ...])`.
        batch: the model's input: a tensor, a tuple of arguments, or a mapping of keywords. Take
            a few hundred examples, as in training.
        layers: types of modules that are measured.
        tolerance: the largest distance of a variance from one.
        attempts: the largest number of measurements of one layer.
        backend: the backend that computes, as for `ic.fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from, as for
            `ic.fetch`.

    Returns:
        The plan. Layers that do not run, or whose weights are fixed (`pretrained`, `dirac`,
        zeros), do not change.

    Raises:
        PlanError: as for `init_`; and for a layer whose output is not finite, does not vary, or
            does not reach variance one, with the name of its weight.
        ValueError: for attempts below 1, or a tolerance that is not above 0.

    Example:
        >>> import initclient as ic, initclient.torch as ict, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        >>> start = ict.plan(model, rules=[
        ...     ict.rule(nn.Linear, ic.orthogonal, parameter="weight"),
        ...     ict.rule(nn.Linear, ic.zeros, parameter="bias"),
        ... ])
        >>> plan = ict.lsuv(model, start, torch.randn(512, 64))
        >>> plan.tensors["2.weight"].gain > 1.2
        True
    """
    if attempts < 1 or not tolerance > 0:
        raise ValueError(
            f"attempts is {attempts} and tolerance {tolerance}; give 1 or more, and more than 0"
        )
    current = as_plan(plan)
    source = InProcess(backend=backend, checkpoints=checkpoints)
    init_(model, current, source, agree=False)
    weights = _weights(model, current, layers)
    with _undisturbed(model):
        for layer in _order(model, list(weights), batch):
            current = _scale_layer(
                model, layer, weights[layer], current, batch, tolerance, attempts, source
            )
    return current


def _weights(
    model: nn.Module, plan: Plan, layers: tuple[type[nn.Module], ...]
) -> dict[nn.Module, Sequence[str]]:
    """The layers to measure, with the names of their weights: the layer's own, then tied ones."""
    planned = [member for member in members(model) if member.name in plan.tensors]
    names: dict[tuple[Any, ...], list[str]] = {}
    for member in planned:
        names.setdefault(places(member), []).append(member.name)
    found: dict[nn.Module, Sequence[str]] = {}
    for member in planned:
        # The first of several layers that share a weight sets it.
        if _is_weight(member, layers) and (tied := names.pop(places(member), None)):
            tied.remove(member.name)
            found[member.owner] = (member.name, *tied)
    return found


def _is_weight(member: Member, layers: tuple[type[nn.Module], ...]) -> bool:
    is_parameter = member.attribute == "weight" and not member.is_buffer
    return is_parameter and isinstance(member.owner, layers)


def _order(model: nn.Module, layers: Sequence[nn.Module], batch: Any) -> list[nn.Module]:
    """The layers that run, in the order of their calls."""
    order: dict[nn.Module, None] = {}

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        order.setdefault(layer)

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        _call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def _scale_layer(
    model: nn.Module,
    layer: nn.Module,
    names: Sequence[str],
    plan: Plan,
    batch: Any,
    tolerance: float,
    attempts: int,
    source: InProcess,
) -> Plan:
    name, variance = names[0], math.nan
    if scaled(plan.tensors[name], 1.0) is None or plan.tensors[name].scheme == "zeros":
        return plan
    for _ in range(attempts):
        variance = _output_variance(model, layer, batch)
        if not math.isfinite(variance) or variance <= 0.0:
            text = f"the output has variance {variance} on the batch; no gain can make it one"
            raise PlanError([Violation(name, "gain", text)])
        if abs(variance - 1.0) <= tolerance:
            return plan
        plan = _with_factor(plan, names, 1.0 / math.sqrt(variance))
        whole = replace(pinned(plan.tensors[name], name), slices=None)
        request = make_request(Plan({name: whole}, plan.seed), None, source)
        fill(request, [layer.get_parameter("weight").detach()])
    raise PlanError(
        [
            Violation(
                name,
                "gain",
                f"after {attempts} attempts the layer's output has variance {variance:.4g}; a "
                "large bias, or an output that does not follow the weight, keeps it from one",
            )
        ]
    )


def _with_factor(plan: Plan, names: Sequence[str], factor: float) -> Plan:
    tensors = dict(plan.tensors)
    for name in names:
        changed = scaled(tensors[name], factor)
        assert changed is not None
        tensors[name] = changed
    return replace(plan, tensors=tensors)


class _Measured(Exception):  # noqa: N818 - ends a run, and is always caught
    """The layer has run."""


def _output_variance(model: nn.Module, layer: nn.Module, batch: Any) -> float:
    found: list[float] = []

    def measure(layer: nn.Module, inputs: Any, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        found.append(float(values.detach().double().var(correction=0)))
        raise _Measured

    handle = layer.register_forward_hook(measure)
    try:
        _call(model, batch)
    except _Measured:
        pass
    finally:
        handle.remove()
    return found[0] if found else math.nan


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Restores buffers and torch's random state after the body."""
    devices = {tensor.device for tensor in model.parameters() if tensor.device.type != "cpu"}
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[d for d in devices if d.index is not None]),
    ):
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)
