"""flow: the spread of a model's outputs and gradients, layer by layer.

He et al. 2015 (arXiv:1502.01852) and Glorot and Bengio 2010 choose the spread of weights so that
neither grows nor shrinks from layer to layer; `flow` measures both for any model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from initcore import Tensor
from initcore.backends import BackendName
from initcore.report import Flow, LayerFlow
from torch import nn

from initclient._plan import PlanLike
from initclient._source import Folder, Target
from initclient.torch._init import init_
from initclient.torch._model import class_name

Loss: TypeAlias = Callable[[Any], torch.Tensor]


def flow(
    model: nn.Module,
    plans: PlanLike | Mapping[str, PlanLike],
    batch: Any,
    loss: Loss | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    seed: int = 0,
    target: Target | None = None,
    backend: BackendName | None = None,
    checkpoints: Folder | None = None,
) -> dict[str, Flow]:
    """The spread of a batch and its gradients through a model's layers, for one plan or several.

    The model does not change: for each plan a copy of it is filled and run once, forward and
    backward, with the same random numbers, such as those of dropout.

    Args:
        model: the model, possibly on the meta device; it runs in its current mode, training or
            evaluation.
        plans: a plan, or several by labels, such as one for each recipe.
        batch: the model's input: a tensor; several positional arguments as a tuple or list;
            keyword arguments as a dict. A model on the meta device goes to the device of the
            batch's tensors.
        loss: a function from the model's output to a scalar. None sends gradients of independent
            normal numbers, with variance 1, into all floating outputs; an output with a `loss`
            attribute, as in transformers, uses that one.
        layers: globs for the names of the modules to show, such as "layers.*"; None shows
            modules that own parameters, and the entries of module lists.
        seed: the seed of dropout and of these gradients.
        target: address of a server, as for `init_`.
        backend: the backend that computes in this process, as for `init_`.
        checkpoints: the folder of the checkpoints that plans take values from, as for `init_`.

    Returns:
        By label (for a single plan: "plan"), the layers in the order in which their calls end.
        `ic.plot(plan, path, flows=...)` draws them.

    Raises:
        PlanError: if a plan does not fit the model.
        ValueError: if the loss is no scalar, no output of the model has gradients, or `layers`
            matches no module that runs.

    Example:
        >>> import torch, initclient.torch as ict
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        >>> found = ict.flow(model, ict.plan(model, seed=7), torch.ones(8, 64), target="local")
        >>> [layer.name for layer in found["plan"].layers]
        ['0', '2']
    """
    found = {}
    for label, plan in _labelled(plans).items():
        copied = copy.deepcopy(model)
        init_(
            copied,
            plan,
            target,
            device=_device(batch),
            backend=backend,
            checkpoints=checkpoints,
            agree=False,
        )
        found[label] = Flow(label, _measure(copied, batch, loss, layers, seed))
    return found


def _labelled(plans: Any) -> dict[str, PlanLike]:
    # A dict of tensors is a plan too.
    if isinstance(plans, Mapping) and not any(isinstance(one, Tensor) for one in plans.values()):
        return {str(label): plan for label, plan in plans.items()}
    return {"plan": plans}


def _measure(
    model: nn.Module,
    batch: Any,
    loss: Loss | None,
    layers: str | Sequence[str] | None,
    seed: int,
) -> tuple[LayerFlow, ...]:
    watched = list(_layers(model) if layers is None else _named(model, layers))
    calls: list[_Call] = []
    device = _device(batch)
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.enable_grad(), _watched(watched, calls):
        torch.manual_seed(seed)
        returned = _called(model, batch)
        _backward(returned, loss)
    if not calls:
        raise ValueError(
            f"no module was called that layers={layers!r} names; the model's modules are "
            f"{', '.join([name for name, _ in model.named_modules() if name][:20])}"
        )
    return tuple(call.result() for call in calls)


class _Call:
    """The measurement of one call of a layer."""

    def __init__(self, name: str, module: nn.Module, output: torch.Tensor) -> None:
        self.name, self.kind = name, class_name(module)
        self.output = _spread(output)
        self.gradient = (math.nan, math.nan)
        if output.requires_grad:
            output.register_hook(self._came_back)  # type: ignore[no-untyped-call]

    def _came_back(self, gradient: torch.Tensor) -> None:
        self.gradient = _spread(gradient)

    def result(self) -> LayerFlow:
        return LayerFlow(self.name, self.kind, *self.output, *self.gradient)


@contextmanager
def _watched(layers: Iterable[tuple[str, nn.Module]], calls: list[_Call]) -> Iterator[None]:
    """Records the layers' calls while the body runs."""
    seen: dict[str, int] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensors = _tensors(output)
            if tensors:
                seen[name] = seen.get(name, 0) + 1
                again = f" ({seen[name]})" if seen[name] > 1 else ""
                calls.append(_Call(name + again, module, tensors[0]))

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that own parameters, and blocks: entries of module lists that have layers."""
    blocks = {
        id(block)
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        for block in module
    }
    for name, module in model.named_modules():
        owns = any(True for _ in module.parameters(recurse=False))
        if (name or not list(model.children())) and (owns or id(module) in blocks):
            yield name or class_name(module), module


def _named(model: nn.Module, globs: str | Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    wanted = [globs] if isinstance(globs, str) else list(globs)
    for name, module in model.named_modules():
        if any(fnmatchcase(name, glob) for glob in wanted):
            yield name or class_name(module), module


def _backward(returned: Any, loss: Loss | None) -> None:
    if loss is not None:
        value = loss(returned)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ValueError(f"the loss returned {value!r}; it must return a tensor of one element")
        value.sum().backward()  # type: ignore[no-untyped-call]
        return
    own = getattr(returned, "loss", None)
    if isinstance(own, torch.Tensor):
        own.sum().backward()  # type: ignore[no-untyped-call]
        return
    outputs = [tensor for tensor in _tensors(returned) if tensor.requires_grad]
    if not outputs:
        raise ValueError(
            "no output of the model has gradients; give loss=, a function from the model's output "
            "to a scalar"
        )
    torch.autograd.backward(outputs, [torch.randn_like(tensor) for tensor in outputs])


def _called(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


def _tensors(value: Any) -> list[torch.Tensor]:
    """The floating tensors in a module's inputs or outputs, in order."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for each in value for tensor in _tensors(each)]
    return []


def _device(batch: Any) -> torch.device | None:
    """The device of a batch's first tensor."""
    if isinstance(batch, torch.Tensor):
        return batch.device
    values = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(batch, Mapping | tuple | list):
        return next((found for each in values if (found := _device(each)) is not None), None)
    return None


def _spread(tensor: torch.Tensor) -> tuple[float, float]:
    values = tensor.detach().to(torch.float64 if tensor.device.type == "cpu" else torch.float32)
    if not values.numel():
        return math.nan, math.nan
    return float(values.mean()), float(values.std(correction=0))
