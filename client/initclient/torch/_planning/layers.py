"""What a layer of torch knows about its weight, the shape does not show, and a scheme ignores.

Schemes count fans by torch's axes, [out, in, *kernel]. Transposed convolutions have [in, out, ...],
groups reach a part of the channels, recurrent layers and attention stack several matrices in one
weight, and the weight of a parametrized layer is computed from what the plan draws. Torch's own
defaults take all this into account, so that only rules and recipes are checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from initcore import Tensor
from initcore.plan import COMPOSED, SCHEMES
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod

from initclient._plan import is_random
from initclient.torch._model import Member, class_name
from initclient.torch._planning.defaults import default
from initclient.torch._planning.doubts import Decision, singles_out, some

# What each row of weight_ih and weight_hh belongs to, in torch's order.
_GATES = {
    nn.LSTM: ("input", "forget", "cell", "output"),
    nn.LSTMCell: ("input", "forget", "cell", "output"),
    nn.GRU: ("reset", "update", "new"),
    nn.GRUCell: ("reset", "update", "new"),
}

_CONVOLUTIONS = ("dirac", "delta_orthogonal")

# Of the whole matrix, not of the blocks it is made of.
_WHOLE = ("orthogonal", "eye", "identity", "hadamard", "delta_orthogonal")

_ANYWAY = "; layout='torch' in the rule counts so without this warning"


def notes(decisions: Sequence[Decision]) -> list[str]:
    """What rules ignore, as sentences: one for all parameters that it is the same for."""
    found: dict[str, list[str]] = {}
    checked = [one for one in decisions if one.origin is not None and _is_plain(one.tensor)]
    for look in _LOOKS:
        others = {id(one.origin) for one in decisions if not look.applies(one.member)}
        for one in checked:
            if look.applies(one.member):
                is_meant = singles_out(one, others)
                for text in look.texts(one, is_meant):
                    if not _is_torchs(one):
                        found.setdefault(text, []).append(one.member.name)
    return [f"{some(names)}: {text}" for text, names in found.items()]


def _is_plain(tensor: Tensor) -> bool:
    # The parts of a composed tensor were written for this layer.
    return (
        tensor.scheme in SCHEMES and tensor.scheme not in COMPOSED and SCHEMES[tensor.scheme].draws
    )


def _is_torchs(one: Decision) -> bool:
    """Whether torch's module draws the same by itself."""
    initializer = default(one.member)
    if one.member.is_buffer or initializer is None:
        return False
    theirs = initializer(one.tensor.shape, dtype=one.tensor.dtype)
    return theirs == replace(one.tensor, zero_rows=None, seed=None, stream=None)


Texts: TypeAlias = Callable[[Decision, bool], Iterator[str]]


class _Look:
    """One kind of layer, and what a scheme may ignore of it."""

    def __init__(self, applies: Callable[[Member], bool], texts: Texts) -> None:
        self.applies = applies
        self.texts = texts


def _transposed(one: Decision, is_meant: bool) -> Iterator[str]:
    tensor, counted = one.tensor, _counted(one)
    axes = "a transposed convolution's axes are [in, out, *kernel]"
    if counted == {"in"}:
        takes_mode = "mode" in SCHEMES[tensor.scheme].arguments
        remedy = "mode='fan_out'" if takes_mode else "ic.variance_scaling with mode='fan_out'"
        yield f"{axes}, so that fan in counts its outputs; {remedy} counts its inputs{_ANYWAY}"
    elif counted == {"out"} and not is_meant:
        text = f"{axes}, so that fan out counts its inputs; mode='fan_in' counts its outputs"
        yield text + _ANYWAY
    elif tensor.scheme in ("hadamard", "delta_orthogonal") and tensor.shape[0] != tensor.shape[1]:
        yield f"{axes}, and {tensor.scheme} takes the first for the outputs; take another scheme"


def _grouped(one: Decision, is_meant: bool) -> Iterator[str]:
    tensor, groups = one.tensor, _groups(one.member)
    is_transposed = isinstance(one.member.owner, _ConvTransposeNd)
    whole = "inputs" if is_transposed else "outputs"
    if "out" in _counted(one):
        yield (
            f"fan out counts all {tensor.shape[0]} {whole}, and the layer has {groups} groups, "
            f"each with {tensor.shape[0] // groups} of them, so that weights come out smaller than "
            f"meant: {_instead(tensor, groups, is_transposed)}{_ANYWAY}"
        )
    elif tensor.scheme == "dirac" and (tensor.groups or 1) != groups:
        yield (
            f"dirac with groups={tensor.groups or 1} copies the first channels only, since the "
            f"layer has {groups} groups: give groups={groups}"
        )
    elif tensor.scheme in _WHOLE and tensor.shape[0] > math.prod(tensor.shape[1:]):
        yield (
            f"{tensor.scheme} is so for the rows of all {groups} groups together, not of each; "
            "give a function that returns ic.concatenate of one tensor a group"
        )


def _instead(tensor: Tensor, groups: int, is_transposed: bool) -> str:
    if tensor.scheme == "variance_scaling" or is_transposed:
        return "take ic.normal with the std that is meant"
    if "mode" in SCHEMES[tensor.scheme].arguments:
        return "take mode='fan_in', which is right for groups, or ic.normal with the std"
    return "take ic.kaiming_normal, whose fan in is right for groups, or ic.normal with the std"


def _stacked(one: Decision, is_meant: bool) -> Iterator[str]:
    tensor, names = one.tensor, _blocks(one.member)
    each = f"its rows are {len(names)} matrices ({', '.join(names)})"
    remedy = "give a function that returns ic.concatenate of one tensor for each"
    if len(tensor.shape) == 2 and "out" in _counted(one):
        yield f"{each}, and fan out counts the rows of all; {remedy}{_ANYWAY}"
    elif len(tensor.shape) == 2 and tensor.scheme in _WHOLE:
        yield f"{each}, and {tensor.scheme} is so for all together, not for each; {remedy}"
    elif len(tensor.shape) == 1 and _value(tensor):
        text = (
            f"its entries are the biases of {len(names)} gates ({', '.join(names)}), all of which "
        )
        text += f"get {_value(tensor):g}, and torch adds bias_ih and bias_hh"
        if "forget" in names:
            text += "; for the forget gate alone"
        yield f"{text}{',' if 'forget' in names else ';'} {remedy}"


def _bilinear(one: Decision, is_meant: bool) -> Iterator[str]:
    axes = "a bilinear layer's axes are [out, in1, in2]"
    if "out" in _counted(one):
        yield (
            f"{axes}, and fan out counts in2 as the size of a kernel; take mode='fan_in', which "
            f"counts in1 * in2, or ic.normal with the std that is meant{_ANYWAY}"
        )
    elif one.tensor.scheme in _CONVOLUTIONS:
        yield f"{axes}, and {one.tensor.scheme} takes the last for a kernel; take another scheme"


def _embedding(one: Decision, is_meant: bool) -> Iterator[str]:
    tensor, owner = one.tensor, one.member.owner
    if "out" in _counted(one):
        yield (
            f"fan out counts all {tensor.shape[0]} rows, and a lookup reads one of them, so that "
            "weights come out smaller than meant: take mode='fan_in', which counts the columns, "
            f"or ic.normal with the std{_ANYWAY}"
        )
    largest = getattr(owner, "max_norm", None)
    if tensor.scheme == "normal" and largest is not None and _std(tensor):
        root = math.sqrt(tensor.shape[1])
        if _std(tensor) * root > largest:
            yield (
                f"rows have a norm of about {_std(tensor) * root:.3g}, and each lookup cuts them "
                f"to the layer's max_norm, {largest:g}: take a std of at most {largest / root:.3g}"
            )


def _added(one: Decision, is_meant: bool) -> Iterator[str]:
    if _counted(one) or one.tensor.scheme in _CONVOLUTIONS:
        yield (
            f"is a vector that attention adds to its keys or values, and {one.tensor.scheme} takes "
            "its shape for a layer's; take ic.normal with the std that is meant"
        )


def _slopes(one: Decision, is_meant: bool) -> Iterator[str]:
    start = one.member.owner.init
    if not is_meant and (is_random(one.tensor) or _value(one.tensor) != start):
        yield (
            f"are slopes of PReLU, which the module starts at {start:g}, and a rule for other "
            f"layers too gives them {one.tensor.scheme}; ict.rule(nn.PReLU, ic.constant, "
            f"val={start:g}) before that rule keeps the module's"
        )


def _buffer(one: Decision, is_meant: bool) -> Iterator[str]:
    if not is_meant:
        yield (
            f"a buffer of {class_name(one.member.owner)}, whose values were set when the module "
            f"was made, gets {one.tensor.scheme} by a rule for parameters too; "
            f"ict.rule({one.member.name!r}, ict.keep) before that rule leaves what is there"
        )


def _computed(one: Decision, is_meant: bool) -> Iterator[str]:
    if not is_meant and is_random(one.tensor):
        yield (
            f"the layer's weight is computed from it by {_computation(one.member)}, so that it "
            f"does not have the distribution of {one.tensor.scheme}; fill the model before "
            "that is registered, or add rules for these parameters alone"
        )


def _turned(one: Decision, is_meant: bool) -> Iterator[str]:
    tensor = one.tensor
    # Both fans of a matrix: their order does not matter.
    is_either = len(tensor.shape) == 2 and _counted(one) == {"in", "out"}
    if tensor.layout == "jax" and len(tensor.shape) > 1 and not is_either:
        yield (
            "layout='jax' means axes [*kernel, in, out], and those of torch's "
            f"{class_name(one.member.owner)} are others; leave layout out"
        )


def _conv1d(one: Decision, is_meant: bool) -> Iterator[str]:
    if one.tensor.layout == "torch" and len(_counted(one)) == 1:
        yield (
            "the axes of transformers' Conv1D are [in, out], and torch's layout counts them as "
            f"[out, in]; give layout='jax'{_ANYWAY}"
        )


def _counted(one: Decision) -> set[str]:
    """Which fans the tensor's scheme counts by torch's axes, without being asked to."""
    scheme = SCHEMES[one.tensor.scheme]
    rule: Any = one.origin
    if not scheme.has_fans or getattr(rule, "arguments", {}).get("layout") == "torch":
        return set()
    mode = one.tensor.mode or scheme.arguments.get("mode")
    if mode is None:
        mode = "fan_avg" if scheme.name.startswith(("xavier", "glorot")) else "fan_in"
    return {"fan_in": {"in"}, "fan_out": {"out"}}.get(mode, {"in", "out"})


def _value(tensor: Tensor) -> float:
    """The value of a constant; 0 for what is drawn."""
    return {"ones": 1.0, "constant": float(tensor.val or 0)}.get(tensor.scheme, 0.0)


def _std(tensor: Tensor) -> float:
    return 1.0 if tensor.std is None else float(tensor.std)


def _groups(member: Member) -> int:
    owner = member.owner
    return owner.groups if isinstance(owner, _ConvNd) and member.attribute == "weight" else 1


def _blocks(member: Member) -> tuple[str, ...]:
    """Names of the matrices, or biases, that are stacked in a parameter; () for one alone."""
    owner, attribute = member.owner, member.attribute
    if isinstance(owner, nn.MultiheadAttention):
        return ("query", "key", "value") if attribute == "in_proj_weight" else ()
    if isinstance(owner, nn.RNNBase | RNNCellBase) and "_hr_" not in attribute:
        return next((g for kind, g in _GATES.items() if isinstance(owner, kind)), ())
    return ()


def _computation(member: Member) -> str:
    """What computes the layer's weight from this parameter; "" if it is the weight itself."""
    owner, name = member.owner, member.attribute
    if isinstance(owner, ParametrizationList):
        return ", ".join(type(step).__name__.lstrip("_") for step in owner)
    base = name.removesuffix("_g").removesuffix("_v").removesuffix("_orig")
    for hook in owner._forward_pre_hooks.values() if base != name else ():
        kind: Any = type(hook)
        of = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
        is_norm = kind.__name__ in ("WeightNorm", "SpectralNorm")
        if of == base and (is_norm or isinstance(hook, BasePruningMethod)):
            return str(kind.__name__)
    return ""


def _is_weight_of(*kinds: type[nn.Module]) -> Callable[[Member], bool]:
    return lambda member: isinstance(member.owner, kinds) and member.attribute == "weight"


def _is_of_torch(member: Member) -> bool:
    kinds = (nn.Linear, _ConvNd, nn.Bilinear, nn.RNNBase, RNNCellBase, nn.MultiheadAttention)
    return isinstance(member.owner, kinds)


def _is_conv1d(member: Member) -> bool:
    kinds = (kind for kind in type(member.owner).__mro__ if kind.__name__ == "Conv1D")
    is_theirs = any(kind.__module__.startswith("transformers.") for kind in kinds)
    return is_theirs and member.attribute == "weight"


_LOOKS = (
    _Look(_is_weight_of(_ConvTransposeNd), _transposed),
    _Look(lambda member: _groups(member) > 1, _grouped),
    _Look(lambda member: len(_blocks(member)) > 1, _stacked),
    _Look(_is_weight_of(nn.Bilinear), _bilinear),
    _Look(_is_weight_of(nn.Embedding, nn.EmbeddingBag), _embedding),
    _Look(lambda member: member.attribute in ("bias_k", "bias_v"), _added),
    _Look(_is_weight_of(nn.PReLU), _slopes),
    _Look(lambda member: member.is_buffer, _buffer),
    _Look(lambda member: bool(_computation(member)), _computed),
    _Look(_is_of_torch, _turned),
    _Look(_is_conv1d, _conv1d),
)
