"""Buffers that no plan knows, such as rotary frequencies: their module computes them.

On the meta device such a buffer loses its values, and memory alone (`to_empty`) does not bring
them back; whether it holds values or garbage cannot be seen afterwards. The code that computed
them may be at hand: the module's reset_parameters, or the _init_weights of a transformers model
around it. Whether that code writes the buffer cannot be asked, but it can be seen: it is run
twice, over zeros and over ones, and only if both runs leave the same values do they count.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import nn

from initclient.torch._model.named_tensors import Member

# In the order in which they are tried.
_OWN = ("reset_buffers", "reset_parameters", "_reset_parameters")


def recompute(wanted: Sequence[Member]) -> tuple[list[str], list[str]]:
    """Has modules compute their buffers anew.

    The modules' parameters may change on the way, and are filled afterwards. torch's random
    state does not change.

    Args:
        wanted: buffers, each with memory of whatever content.

    Returns:
        The names of those that were computed, and of the others, which are as they were.
    """
    done, failed = [], []
    before = [member.tensor.clone() for member in wanted]
    owners = {id(member.owner): member for member in wanted}
    cuda = [m.tensor.device for m in wanted if m.tensor.is_cuda]
    with torch.no_grad(), torch.random.fork_rng(sorted({d.index for d in cuda})):
        for key, any_member in owners.items():
            left = [member for member in wanted if id(member.owner) == key]
            for compute in _ways(any_member):
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


def _ways(member: Member) -> Iterator[Callable[[], object]]:
    """What may compute a module's buffers, nearest first."""
    owner = member.owner
    for name in _OWN:
        method = getattr(owner, name, None)
        if callable(method) and _takes_nothing(method):
            yield method
    for module in reversed(member.path):
        method = getattr(module, "_init_weights", None)
        if callable(method):
            # transformers: how a model initializes any one module of it.
            yield partial(method, owner)
            return


def _takes_nothing(method: Callable[..., object]) -> bool:
    try:
        inspect.signature(method).bind()
    except TypeError:
        return False
    return True


def _written(left: Sequence[Member], compute: Callable[[], object]) -> list[Member]:
    """Those of the buffers to which the function gives the same values, whatever was there."""
    results = []
    for value in (0, 1):
        for member in left:
            _buffer(member).fill_(value)
        try:
            compute()
        except Exception:
            # Made for another moment. The buffer is reported if nothing else computes it.
            return []
        results.append([_buffer(member).clone() for member in left])
    return [member for member, a, b in zip(left, *results, strict=True) if _stays(member, a, b)]


def _stays(member: Member, first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.is_meta or first.shape != second.shape or not torch.equal(first, second):
        return False
    _set(member.owner, member.attribute, second.to(member.tensor.device))
    return True


def _set(owner: nn.Module, attribute: str, value: torch.Tensor) -> None:
    """Puts a computed buffer back where the model had it, if the code made it elsewhere."""
    current = owner._buffers[attribute]
    if current is None or current.device != value.device:
        owner._buffers[attribute] = value


def _buffer(member: Member) -> torch.Tensor:
    buffer = getattr(member.owner, member.attribute)
    assert isinstance(buffer, torch.Tensor)
    return buffer
