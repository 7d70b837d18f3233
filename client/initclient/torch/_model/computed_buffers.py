"""Computes buffers that are not in the plan, such as rotary frequencies, by their module's code.

On the meta device a buffer loses its values; `to_empty` gives it memory, but not the values, and
garbage looks like values. Code that computes them may exist: the module's reset_parameters, or
the _init_weights of a transformers model around it. To test whether that code writes the buffer,
it runs twice, over zeros and over ones; the values count only if both runs leave the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import nn

from initclient.torch._model.named_tensors import Member

# In the order of the attempts.
_OWN = ("reset_buffers", "reset_parameters", "_reset_parameters")


def recompute(wanted: Sequence[Member]) -> tuple[list[str], list[str]]:
    """Calls modules to compute their buffers.

    The modules' parameters may change; the caller fills them afterwards. torch's random state
    does not change.

    Args:
        wanted: buffers, each with memory of any content.

    Returns:
        The names of the computed buffers, and of the others, which keep their content.
    """
    done, failed = [], []
    before = [member.tensor.clone() for member in wanted]
    owners = {id(member.owner): member for member in wanted}
    cuda = [m.tensor.device for m in wanted if m.tensor.is_cuda]
    with torch.no_grad(), torch.random.fork_rng(sorted({d.index for d in cuda})):
        for key, any_member in owners.items():
            left = [member for member in wanted if id(member.owner) == key]
            for compute in _candidates(any_member):
                written = _written(left, compute)
                done += [member.name for member in written]
                left = [member for member in left if member not in written]
                if not left:
                    break
            failed += [member.name for member in left]
        for member, values in zip(wanted, before, strict=True):
            if member.name in failed:
                member.owner._buffers[member.attribute] = member.tensor.copy_(values)
    return done, failed


def is_computable(member: Member) -> bool:
    """Whether a module has code that may compute the buffer, and may change its parameters."""
    return any(True for _ in _candidates(member))


def _candidates(member: Member) -> Iterator[Callable[[], object]]:
    """Functions that may compute a module's buffers, the module's own first."""
    owner = member.owner
    for name in _OWN:
        method = getattr(owner, name, None)
        if callable(method) and _takes_nothing(method):
            yield method
    for module in reversed(member.path):
        method = getattr(module, "_init_weights", None)
        if callable(method):
            # transformers: a model's method that initializes any module of it.
            yield partial(method, owner)
            return


def _takes_nothing(method: Callable[..., object]) -> bool:
    try:
        inspect.signature(method).bind()
    except TypeError:
        return False
    return True


def _written(left: Sequence[Member], compute: Callable[[], object]) -> list[Member]:
    """The buffers to which the function gives the same values over zeros and over ones."""
    results = []
    for value in (0, 1):
        for member in left:
            _buffer(member).fill_(value)
        try:
            compute()
        except Exception:
            # The method cannot run here. The buffer is reported if no other one computes it.
            return []
        results.append([_buffer(member).clone() for member in left])
    return [member for member, a, b in zip(left, *results, strict=True) if _stays(member, a, b)]


def _stays(member: Member, first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.is_meta or first.shape != second.shape or not torch.equal(first, second):
        return False
    _set(member.owner, member.attribute, second.to(member.tensor.device))
    return True


def _set(owner: nn.Module, attribute: str, value: torch.Tensor) -> None:
    """Puts a computed buffer back on the model's device, if the code made it on another one."""
    current = owner._buffers[attribute]
    if current is None or current.device != value.device:
        owner._buffers[attribute] = value


def _buffer(member: Member) -> torch.Tensor:
    buffer = getattr(member.owner, member.attribute)
    assert isinstance(buffer, torch.Tensor)
    return buffer
