"""Methods that initialize a model, and that the recorded code did not call.

Constructors of torchtitan's models, and of mmcv's, leave what torch's modules draw; their trainers
call `init_weights` afterwards.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from initclient.torch._model import initializes_when_called

_METHOD = "init_weights"
_DEFINED = "__init_subclass__"


@contextmanager
def calls_noted(model: nn.Module) -> Iterator[set[type]]:
    """Notes on modules of which classes the body calls `init_weights`.

    Args:
        model: a model that the same code made before. Its classes are followed, and those that the
            body defines.

    Yields:
        The classes of modules whose method was called so far.
    """
    called: set[type] = set()
    replaced: dict[Any, Any] = {}

    def follow(kind: type) -> None:
        method = vars(kind).get(_METHOD)
        if inspect.isfunction(method) and kind not in replaced:
            replaced[kind] = method
            setattr(kind, _METHOD, _noting(method, called))

    def defined(kind: type[nn.Module], /, **keywords: Any) -> None:
        super(nn.Module, kind).__init_subclass__(**keywords)
        follow(kind)

    for module in _outermost(model):
        for kind in type(module).__mro__:
            follow(kind)
    setattr(nn.Module, _DEFINED, classmethod(defined))
    try:
        yield called
    finally:
        delattr(nn.Module, _DEFINED)
        for kind, method in replaced.items():
            setattr(kind, _METHOD, method)


def uncalled(model: nn.Module, called: Collection[type]) -> tuple[str, ...]:
    """Names of the classes in a model, outermost ones only, whose `init_weights` nobody called.

    Args:
        model: the model.
        called: the classes of modules whose method was called.
    """
    kinds = {type(module) for module in _outermost(model)}
    return tuple(sorted(kind.__name__ for kind in kinds.difference(called)))


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    if initializes_when_called(module):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _noting(method: Any, called: set[type]) -> Any:
    @functools.wraps(method)
    def noted(self: Any, *arguments: Any, **keywords: Any) -> Any:
        called.add(type(self))
        return method(self, *arguments, **keywords)

    return noted
