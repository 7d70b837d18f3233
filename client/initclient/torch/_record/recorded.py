"""Recorded: a model and what its own code drew, read twice so that chance shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from initcore import PlanError, Tensor, Violation
from torch import nn

from initclient._laws import Normed, guard_notes, laws, norm_tensor, tensor, unknown
from initclient._laws.surroundings import LATER
from initclient.torch._model import Member, members
from initclient.torch._record.building import (
    DEVICES,
    Built,
    as_function,
    build,
    generators_restored,
)
from initclient.torch._record.caches import cache_notes, kept_in, meet_attributes
from initclient.torch._record.explaining import explanation
from initclient.torch._record.findings import Finding, findings
from initclient.torch._record.provenance import provenance
from initclient.torch._record.uncalled import calls_noted, uncalled
from initclient.torch._trace import BEGINNING, Evaluation, NoValueError, identity, same_bytes

_DIFFERS = (
    "its values differ between two runs of the code: they depend on the time, or on numbers that "
    "do not come from torch's generator (NumPy, Python's random, the operating system)"
)
_CHANGED = (
    "its memory was changed without an operation of torch, as writing to tensor.numpy() does, so "
    "that the recording missed it"
)


class Recorded:
    """A model and the findings of its recording.

    Args:
        built: the model, and the trace of the code that made it.
        found: the findings, by the name of each tensor's first place.
        names: for each name of a tensor in the model, the name of its first place.
        values: the values of tensors that are computed.
    """

    def __init__(
        self,
        built: Built,
        found: Mapping[str, Finding],
        names: Mapping[str, str],
        values: Mapping[str, torch.Tensor],
    ) -> None:
        self._built = built
        self._found = dict(found)
        self._names = dict(names)
        self._values = dict(values)
        self._provenance = provenance(built.model, built.trace)

    @property
    def model(self) -> nn.Module:
        """The model that the code made: on the meta device, unless it was recorded on the CPU."""
        return self._built.model

    @property
    def uncalled(self) -> tuple[str, ...]:
        """Names of classes in the model whose `init_weights` the recorded code does not call."""
        return self._built.uncalled

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing about the recorded code, as sentences."""
        compositions = {name: one.composition for name, one in self._found.items()}
        zeros = guard_notes(compositions, "torch", 1 << 24)
        return (*self._built.notes, *zeros)

    @property
    def provenance(self) -> Mapping[str, str]:
        """The class, the versions of libraries and the configuration that the model came from."""
        return MappingProxyType(self._provenance)

    @property
    def values(self) -> Mapping[str, torch.Tensor]:
        """The values of parameters and buffers that no plan has, and no draw decides, by name.

        These are computed tensors that are too large, and buffers that the state dict leaves out.
        `init_(model, plan, values=...)` takes them. Names of values that were computed alike may
        have one tensor: clone it before you change it.
        """
        return MappingProxyType(self._values)

    @property
    def refused(self) -> Mapping[str, str]:
        """Parameters and buffers that no plan can have, each with the reason, by name."""
        found = {name: one for name, one in self._found.items() if one.reason}
        return MappingProxyType({name: _refusal(one).message for name, one in found.items()})

    @property
    def unplanned(self) -> tuple[str, ...]:
        """Buffers that a draw decides and the state dict leaves out, so that no plan has them."""
        places = members(self.model)
        planned = {id(member.tensor) for member in places if member.persistent}
        outside = {member.name for member in places if id(member.tensor) not in planned}
        return tuple(
            name
            for name, one in self._found.items()
            if name in outside and one.expression is not None and one.expression.is_random
        )

    def explain(self, name: str) -> str:
        """What a parameter or buffer is drawn from, and by which lines of code.

        Args:
            name: its name in the model.

        Returns:
            Text of a few lines.

        Raises:
            KeyError: if the model has no tensor of this name.
        """
        if name not in self._names:
            raise unknown(name, self._names, "the model has no parameter or buffer")
        first = self._names[name]
        told = explanation(self._found[first])
        return told if first == name else f"{name} is tied to {first}:\n{told}"

    @property
    def norms(self) -> Mapping[str, str]:
        """For each tensor that is the norm of another one in the model, the other one's name."""
        return {
            name: one.composition.of
            for name, one in self._found.items()
            if isinstance(one.composition, Normed) and one.composition.of
        }

    def norm(self, name: str, part: Tensor) -> Tensor:
        """The tensor of a plan for a name in `norms`, of a part that a rule decided.

        Args:
            name: the tensor's name.
            part: what the plan has for the tensor that it is the norm of.
        """
        composition = self._found[name].composition
        assert isinstance(composition, Normed)
        return norm_tensor(composition, composition.of, part)

    def tensor(self, member: Member, dtype: Any, streams: dict[str, str]) -> Tensor | None:
        """The tensor of a plan for a member of the model; None for a computed buffer.

        Args:
            member: the member, at its first place.
            dtype: the element type that it gets.
            streams: the names of the streams of draws that several tensors hold, by the first of
                them. The first one that has its recorded law gives its name, and is added here.

        Raises:
            PlanError: if no plan can have it.
        """
        finding = self._found.get(member.name)
        if finding is None:
            message = "the recorded model did not have this tensor; record the code that adds it"
            raise PlanError([Violation(member.name, "scheme", message)])
        if finding.composition is None:
            if member.is_buffer and finding.is_computed:
                return None
            raise PlanError([_refusal(finding)])
        stream = streams.setdefault(finding.shares or member.name, member.name)
        return tensor(finding.composition, member.name, dtype, stream)


def run(
    function: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any], device: str
) -> tuple[Built, dict[str, Finding], dict[str, str], dict[str, torch.Tensor]]:
    """Runs the code twice, and compares what was found.

    Raises:
        PlanError: if a recording cannot be made.
        TypeError: for what cannot be called.
        ValueError: for another device.
    """
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; give 'meta' or 'cpu'")
    code, model = as_function(function, arguments, keywords)
    with generators_restored():
        built = build(code, device, model)
        parts = members(built.model)
        values = Evaluation()
        found = findings(built.trace, parts, values)
        found = _without_changed(built, parts, found, values)
        with calls_noted(built.model) as called:
            again = build(code, device, model, ahead=LATER, earlier=built.trace)
        meet_attributes(built.model, built.trace)
        meet_attributes(again.model, again.trace)
        others = findings(again.trace, members(again.model), values)
        if built.trace.memory.kept or again.trace.memory.kept:
            found = _without_kept(found, others)
        found = _without_chance(found, others)
    kept = cache_notes((built.trace, again.trace))
    built = replace(built, notes=(*built.notes, *kept))
    if model is None:
        built = replace(built, uncalled=uncalled(again.model, called))
    names: dict[int, str] = {}
    first = {member.name: names.setdefault(id(member.tensor), member.name) for member in parts}
    outside = {member.name for member in parts if not member.persistent}
    computed = {
        name: one.expression
        for name, one in found.items()
        if one.expression is not None and (one.is_computed or (name in outside and _is_fixed(one)))
    }
    # One copy for all layers that compute the same.
    each = {identity(one): one for one in computed.values()}
    copies = {key: values.value(one).clone() for key, one in each.items()}
    return built, found, first, {name: copies[identity(one)] for name, one in computed.items()}


def _is_fixed(finding: Finding) -> bool:
    """Whether a plan could have the tensor, and no draw takes part in its values."""
    expression = finding.expression
    return not finding.reason and expression is not None and not expression.is_random


def _without_kept(
    found: Mapping[str, Finding], others: Mapping[str, Finding]
) -> dict[str, Finding]:
    """The findings, without those of tensors that an earlier run made and the code keeps."""
    checked = dict(found)
    for name, one in found.items():
        expressions = one.expression, others[name].expression if name in others else None
        if kept := next(filter(None, map(kept_in, expressions)), None):
            checked[name] = _refused(one, kept.reason)
    return checked


def _without_chance(
    found: Mapping[str, Finding], others: Mapping[str, Finding]
) -> dict[str, Finding]:
    """The findings, without those that another run of the code does not have."""
    if found.keys() != others.keys():
        name = next(iter(found.keys() ^ others.keys()))
        message = "only one of two runs of the code made this tensor; record code that repeats"
        raise PlanError([Violation(name, "record", message)])
    checked = {}
    for name, one in found.items():
        other = others[name]
        if one.reason and not one.is_computed:
            checked[name] = one
            continue
        same = one.shape == other.shape and _laws(one) == _laws(other)
        if same and one.is_computed:
            same = other.is_computed and _same_values(one, other)
        checked[name] = one if same else _refused(one, _DIFFERS)
    return checked


def _without_changed(
    built: Built, parts: list[Member], found: dict[str, Finding], values: Evaluation
) -> dict[str, Finding]:
    """The findings, without tensors whose memory has other values than the recording says."""
    if built.trace.memory.has_changed_data:
        # Which tensors took these data is not worth finding out: the code is to be mended.
        message = (
            "data that became a tensor were changed afterwards through their NumPy array; change "
            "the tensor instead"
        )
        raise PlanError([Violation("", "record", message)])
    if built.trace.on_meta:
        return found
    replayed = replay(built)
    checked = dict(found)
    for member in parts:
        one = found.get(member.name)
        if one is None or one.reason:
            continue
        try:
            expected = replayed.value(built.trace.read(member.tensor))
        except (NoValueError, NotImplementedError):
            continue
        if not same_bytes(member.tensor.detach(), expected):
            checked[member.name] = _refused(one, _CHANGED)
    return checked


def replay(built: Built, seed: int | None = None) -> Evaluation:
    """The recorded operations over the draws of torch's generator, on the CPU.

    Args:
        built: a recording.
        seed: the seed of torch's generator; None means its state when the recording began.
    """
    draws: dict[int, torch.Tensor] = {}
    made = [drawn for drawn in built.trace.draws if not drawn.own_generator]
    # Where the code puts the generator back to.
    places = {drawn.number: drawn.start.state for drawn in made if drawn.start is not None}
    again = {place for place in places.values() if isinstance(place, int)}
    state = torch.get_rng_state()
    try:
        if seed is None:
            torch.set_rng_state(built.state)
        else:
            torch.manual_seed(seed)
        with torch.no_grad():
            reached = {BEGINNING: torch.get_rng_state()}
            for drawn in made:
                place = places.get(drawn.number)
                if place is not None:
                    torch.set_rng_state(reached[place] if isinstance(place, int) else place)
                try:
                    draws[drawn.number] = drawn.draw()
                except NotImplementedError:
                    # It reads values that are gone, and the state that it would leave is not known.
                    break
                if drawn.number in again:
                    reached[drawn.number] = torch.get_rng_state()
    finally:
        torch.set_rng_state(state)
    return Evaluation(draws)


def _laws(finding: Finding) -> Any:
    return None if finding.composition is None else laws(finding.composition)


def _same_values(one: Finding, other: Finding) -> bool:
    if one.expression is None or other.expression is None:
        return False
    if identity(one.expression) == identity(other.expression):
        return True
    values = Evaluation()
    return same_bytes(values.value(one.expression), values.value(other.expression))


def _refused(finding: Finding, reason: str) -> Finding:
    expression = finding.expression
    source = None if expression is None else expression.source
    return replace(finding, composition=None, reason=reason, source=source, is_computed=False)


def _refusal(finding: Finding) -> Violation:
    place = f", at {finding.source}" if finding.source is not None else ""
    message = f"the recording found {finding.made}{place}: {finding.reason}"
    if finding.is_computed:
        message += (
            f"; ict.rule({finding.name!r}, ict.given) leaves it out of the plan, and "
            "init_(..., values=recording.values) fills it"
        )
    else:
        message += "; give it a rule"
    return Violation(finding.name, "scheme", message)
