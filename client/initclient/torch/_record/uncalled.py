"""Methods that initialize a model, and that the recorded code did not call.

Constructors of torchtitan's models, and of mmcv's, leave what torch's modules draw; their trainers
call `init_weights` afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from initclient.torch._model import initializes_when_called

_METHOD = "init_weights"


@contextmanager
def calls_noted(model: nn.Module) -> Iterator[set[type]]:
    """Notes which classes of such a model have their `init_weights` called.

    Args:
        model: a model of the same classes, whose own methods are not called here.

    Yields:
        The classes whose method was not called so far, outermost ones only.
    """
    left = {type(module) for module in _outermost(model)}
    own = {kind: vars(kind).get(_METHOD) for kind in left}
    for kind in own:
        setattr(kind, _METHOD, _noting(getattr(kind, _METHOD), kind, left))
    try:
        yield left
    finally:
        for kind, method in own.items():
            if method is None:
                delattr(kind, _METHOD)
            else:
                setattr(kind, _METHOD, method)


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    if initializes_when_called(module):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _noting(method: Any, kind: type, left: set[type]) -> Any:
    @functools.wraps(method)
    def noted(self: Any, *arguments: Any, **keywords: Any) -> Any:
        left.discard(kind)
        return method(self, *arguments, **keywords)

    return noted
