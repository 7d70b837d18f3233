"""Finds tensors of a model that are still on meta, since they are neither parameters nor buffers.

torch moves parameters and buffers only. An attribute such as `self.table = torch.eye(4)` stays on
meta, without values, and torch multiplies it with tensors on the CPU without an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import nn

from initclient.torch._model.named_tensors import children_of, class_name

# Looked at in one attribute, and named in one warning.
_MOST = 10_000
_DEPTH = 3
_SHOWN = 3

# They have names of their own, and memory by now.
_REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})

_REMEDY = (
    "make each a buffer (register_buffer(..., persistent=False)), or build the model on its device "
    "and call init_ there"
)


def left_on_meta(model: nn.Module) -> list[str]:
    """What the user should know of tensors that are still on meta: one sentence, or none.

    Looks at the attributes of each module, and into lists, tuples and dicts there.
    """
    names = list(_names(model, "", set()))
    if not names:
        return []
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [
        f"{', '.join(names[:_SHOWN])}{rest}: no parameter or buffer, so still on the meta device; "
        f"it has no values, and what torch computes with it may be garbage without an error; "
        f"{_REMEDY}"
    ]


def _names(module: nn.Module, prefix: str, seen: set[int]) -> Iterator[str]:
    if id(module) in seen:
        return
    seen.add(id(module))
    computed = _computed(module)
    for attribute, value in vars(module).items():
        is_one = isinstance(value, torch.Tensor | list | tuple | dict)
        if is_one and attribute not in _REGISTERED and attribute not in computed:
            for place in _places(attribute, value):
                yield f"{prefix}{place} of {class_name(module)}"
    for name, child in children_of(module, prefix):
        yield from _names(child, name, seen)


def _computed(module: nn.Module) -> set[object]:
    """Attributes that a hook computes before each forward: of weight and spectral norm, pruning."""
    hooks = module._forward_pre_hooks.values()
    return {getattr(hook, key, None) for hook in hooks for key in ("name", "_tensor_name")}


def _places(name: str, value: Any) -> Iterator[str]:
    """The tensors on meta in an attribute, by expressions."""
    waiting = deque([(name, value, 0)])
    count = 0
    while waiting and count < _MOST:
        name, value, depth = waiting.popleft()
        count += 1
        if isinstance(value, torch.Tensor):
            if value.is_meta:
                yield name
        elif depth < _DEPTH and len(waiting) < _MOST:
            waiting += [(f"{name}[{key}]", one, depth + 1) for key, one in _content(value)]


def _content(value: Any) -> Iterator[tuple[str, Any]]:
    # By the methods of the built-in types: those of a subclass may run code, such as an import.
    if isinstance(value, dict):
        for key, one in islice(dict.items(value), _MOST):
            yield repr(key) if isinstance(key, str | int) else "...", one
    elif isinstance(value, list):
        yield from ((str(i), one) for i, one in enumerate(islice(list.__iter__(value), _MOST)))
    elif isinstance(value, tuple):
        yield from ((str(i), one) for i, one in enumerate(islice(tuple.__iter__(value), _MOST)))
