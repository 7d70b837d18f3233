"""Remarks on a plan: settings that are allowed but may be mistakes.

They are computed from the resolved plan, change nothing, and only `describe` and `plot` show
them. A remark that several tensors share is given once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from initcore.resolve import LARGEST_Z, Applied, Constant, Norm, Resolved

_SHOWN = 2

# Names of matrices that are zero on purpose: projections that end a residual branch, the second
# factor of an adapter, modulation, heads, positions; and of tensors that are no weights.
_ZERO_ON_PURPOSE = (
    *("*bias*", "*pos_emb*", "*position*", "*token*", "*mask*", "*cache*", "*running_*"),
    *("*lora_b*", "*lora_up*", "*adapter*", "*adaln*", "*ada_ln*", "*modulation*", "*zero*"),
    *("*head.*", "*head", "*readout*", "*classifier*", "*score*", "*gamma*", "*delta*"),
    *("*_out.*", "*.out.*", "out.*", "*out_proj*", "*.proj.*", "*c_proj*", "*o_proj*", "*.wo.*"),
    *("*down_proj*", "*.fc2.*", "*.w2.*", "*.w3.*", "*dense_4h_to_h*", "*gate", "*gate.weight"),
)


def remarks(tensors: Iterable[Resolved]) -> tuple[str, ...]:
    """The remarks on these tensors and their parts, as sentences that begin with the names."""
    found: dict[str, list[str]] = {}
    for tensor in tensors:
        for text in dict.fromkeys(_of_tensor(tensor)):
            found.setdefault(text, []).append(tensor.name)
    return tuple(f"{_some(names)}: {text}" for text, names in found.items())


def _of_tensor(tensor: Resolved) -> Iterator[str]:
    if isinstance(tensor.content, Applied | Norm):
        # The parts are steps of a computation, not weights.
        return
    if tensor.parts:
        for part in tensor.parts:
            yield from _of_tensor(part)
        return
    yield from _constant(tensor)
    yield from _depthwise(tensor)
    yield from _never_cut(tensor)


def _constant(tensor: Resolved) -> Iterator[str]:
    if not isinstance(tensor.content, Constant) or tensor.dtype.kind != "float":
        return
    # A (1, n, 1, 1) scale is a vector too.
    if sum(size > 1 for size in tensor.shape) < 2:
        return
    value = tensor.parameters.low
    if value:
        yield (
            f"every element is {value:g}: all units of a layer with these weights compute the "
            "same, and gradients keep them the same; draw weights from a distribution"
        )
    elif value == 0.0 and not any(fnmatchcase(tensor.name.lower(), p) for p in _ZERO_ON_PURPOSE):
        yield (
            "a weight matrix of zeros passes on neither signals nor gradients; that suits the "
            "end of a residual branch, and elsewhere what lies before it does not learn at first"
        )


def _depthwise(tensor: Resolved) -> Iterator[str]:
    given, fan_out = tensor.arguments, tensor.parameters.fan_out
    if fan_out is None or "layout" not in given:
        return
    batch = set(given.get("batch_axes", ()))
    sizes = [size for axis, size in enumerate(tensor.shape) if axis not in batch]
    if len(sizes) < 3:
        return
    is_torch = given["layout"] == "torch"
    outputs, inputs = (sizes[0], sizes[1]) if is_torch else (sizes[-1], sizes[-2])
    # The fan in of a grouped convolution is right for any number of groups.
    if inputs != 1 or outputs == 1 or not _takes_fan_out(tensor):
        return
    yield (
        f"fan out counts all {outputs} outputs; in a depthwise convolution, whose weights have "
        "this shape, an input reaches those of its own group only and the weights come out too "
        "small: take mode fan_in, or a normal with the std that is meant"
    )


def _takes_fan_out(tensor: Resolved) -> bool:
    if "mode" in tensor.arguments:
        return bool(tensor.arguments["mode"] != "fan_in")
    return tensor.scheme.startswith(("xavier", "glorot"))


def _never_cut(tensor: Resolved) -> Iterator[str]:
    made = tensor.parameters
    if tensor.scheme != "trunc_normal" or not made.std or made.low is None or made.high is None:
        return
    mean = made.mean or 0.0
    low, high = (made.low - mean) / made.std, (made.high - mean) / made.std
    if low < -LARGEST_Z and high > LARGEST_Z:
        sigmas = f"{min(-low, high):.4g}"
        yield (
            f"cut at {sigmas} standard deviations, which no value reaches, so this is a normal; a "
            f"and b are absolute, as in torch: relative=True counts in standard deviations"
        )


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    shown = ", ".join(repr(name) for name in names[: _SHOWN + (rest == 1)])
    return f"{shown} and {rest} more" if rest > 1 else shown
