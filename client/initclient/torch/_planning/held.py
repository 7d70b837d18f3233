"""The values that a model has already, beside the defaults that its plan draws.

Code outside of a model's classes may initialize it: a function that builds it, a helper, a hook.
No look at the classes finds that, but a few values of each parameter do.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from initcore import Plan, Tensor, layout
from numpy.typing import NDArray
from torch import nn

from initclient._plan import is_random
from initclient.torch._model import Member, OwnCode
from initclient.torch._planning.doubts import some

# Values of a parameter that are read, at most.
_READ = 1024

# From so many on, equal values or a wrong spread are no chance, in half types too.
_ENOUGH = 16

# Memory of fewer elements is often that of a tensor that is gone, with values of its own or of a
# default.
_LARGE = 4096
_MANY = 256

# Standard errors of mean and spread: one right parameter in 10^14 is beyond them.
_ERRORS = 8.0

# Its layers are copies of one layer, which have equal values in torch and other ones in plans.
_COPIES = (nn.TransformerEncoder, nn.TransformerDecoder)

_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


class HeldValues:
    """Collects parameters that hold other values than the default of their layer draws.

    Args:
        own_code: knows the line that records a model.
    """

    def __init__(self, own_code: OwnCode) -> None:
        self._own_code = own_code
        self._others: list[tuple[Member, str]] = []
        self._defaults = 0
        # Of parameters with other values.
        self._looks: Counter[str] = Counter()
        self._first: dict[bytes, str] = {}

    def compare(self, member: Member, tensor: Tensor) -> None:
        """Notes a parameter whose values, some of them, are none of its default.

        Args:
            member: the parameter; on the meta device, and where it is sharded, none is read.
            tensor: its default.
        """
        values = None if member.is_buffer else _some_values(member)
        if values is None or not values.size:
            return
        if other := _difference(values, tensor, _resolution(member.tensor.dtype)):
            self._others.append((member, other))
            look = _look(values)
            # A vector of zeros may be anything, and so may a small matrix with plausible values.
            is_large = member.tensor.numel() >= _LARGE
            self._looks[look] += look == "remains" or (
                len(member.shape) > 1 and (look == "zeros" or is_large)
            )
            return
        is_drawn = is_random(tensor)
        # Blank memory, too, has zeros, and a few values within bounds.
        self._defaults += values.size >= _MANY if is_drawn else bool(values.any())
        if is_drawn and values.size >= _ENOUGH and not _is_within_copies(member):
            first = self._first.setdefault(values.tobytes(), member.name)
            if first != member.name:
                self._others.append((member, f"the values of {first}"))

    def texts(self) -> list[str]:
        """What the user should know of them: at most one sentence.

        Memory that nobody has initialized, as after `to_empty`, is nothing to speak of: it has
        zeros, or what was there before, which may be values of a layer that is gone.
        """
        zeros, remains, own = (self._looks[look] for look in ("zeros", "remains", "own"))
        is_initialized = not remains and self._defaults >= zeros and bool(self._defaults or own)
        if not self._others or not is_initialized:
            return []
        member, other = self._others[0]
        names = some([one.name for one, _ in self._others])
        return [
            f"the plan draws torch's defaults for {names}, and the model has other values there "
            f"({member.name} has {other}): code of its own, a checkpoint or training set them. "
            f"To draw as that code does: {self._own_code.recording_line(member)}; to leave what is "
            f"there: ict.rule({member.name!r}, ict.keep); other rules, too, decide without this "
            "warning"
        ]


def _some_values(member: Member) -> NDArray[np.float64] | None:
    """Values from all over a parameter, but none of a padding row; None if they are not at hand."""
    tensor = member.tensor
    if type(tensor) not in (nn.Parameter, torch.Tensor) or tensor.dtype not in _FLOATS:
        return None
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_contiguous():
        return None
    # FSDP frees memory that it does not need now, and to read there would end the process.
    if not tensor.data_ptr():
        return None
    # An odd step, so that not all of them lie in one column.
    step = max(1, tensor.numel() // _READ) | 1
    read = tensor.detach().view(-1)[::step].double().cpu().numpy()
    if member.padding_row is not None:
        places = np.arange(0, tensor.numel(), step)
        read = read[places // max(1, math.prod(member.shape[1:])) != member.padding_row]
    return read


def _difference(values: NDArray[np.float64], tensor: Tensor, resolution: float) -> str:
    """What the values are that the default does not draw, for a message; "" if it may draw them."""
    mean, std, low, high = _law(tensor)
    least, most = float(values.min()), float(values.max())
    if not math.isfinite(least) or not math.isfinite(most):
        return "values that are not finite"
    if not std:
        slack = resolution * abs(mean)
        return "" if max(most - mean, mean - least) <= slack else _range(least, most)
    slack = resolution * max(abs(low), abs(high)) if math.isfinite(high - low) else 0.0
    if least < low - slack or most > high + slack:
        return _range(least, most)
    if values.size < _ENOUGH:
        return ""
    # Normals have the largest fourth moment of the defaults, so the largest error of a spread.
    middle = float(values.mean())
    found = math.sqrt(max(0.0, float(values @ values) / values.size - middle * middle))
    if least == most:
        return _range(least, most)
    if abs(middle - mean) > _ERRORS * std / math.sqrt(values.size):
        return f"mean {middle:.3g}, where the default has {mean:.3g}"
    if abs(found / std - 1) > resolution + _ERRORS / math.sqrt(2 * values.size):
        return f"std {found:.3g}, where the default has {std:.3g}"
    return ""


def _look(values: NDArray[np.float64]) -> str:
    """What values look like: "zeros", "remains" of other data, or its "own"."""
    sizes = np.abs(values)
    if not sizes.any():
        return "zeros"
    # A matrix of zeros with a diagonal is one's own, too.
    is_plausible = ((sizes > 1e-6) & (sizes < 1e3)) | (sizes == 0)
    return "own" if float(is_plausible.mean()) > 0.9 else "remains"


def _range(least: float, most: float) -> str:
    return f"{least:.3g} everywhere" if least == most else f"values from {least:.3g} to {most:.3g}"


@lru_cache(maxsize=1024)
def _law(tensor: Tensor) -> tuple[float, float, float, float]:
    """Mean, std and bounds of a default."""
    (entry,) = layout(Plan({"default": tensor}, 0)).entries
    found = entry.tensor.parameters
    low = -math.inf if found.low is None else found.low
    high = math.inf if found.high is None else found.high
    return found.mean or 0.0, found.std or 0.0, low, high


def _resolution(dtype: Any) -> float:
    """The relative distance of neighbours."""
    return 2 * float(torch.finfo(dtype).eps)


def _is_within_copies(member: Member) -> bool:
    return any(isinstance(module, _COPIES) for module in member.path)
