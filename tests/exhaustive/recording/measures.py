"""What is measured of a model: how much of it a plan has, and whether the recording is right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import torch
from initclient import recipes
from initclient._laws import blocks
from initclient.torch._model import members
from initclient.torch._record import replay
from initclient.torch._trace import NoValueError, same_bytes
from scipy import stats
from torch import nn

from tests.torch.rectangles import pieces

Row = dict[str, Any]

SEED, OTHER_SEED = 5, 6

MOST_ELEMENTS = 100_000_000
"""Elements of a model whose values are compared."""

SAMPLE = 1 << 17
"""Elements of a tensor in a KS test."""

SMALLEST_SAMPLE = 100

UNLIKELY = 1e-8
"""A p-value that no right tensor of some hundred thousand should have."""


def coverage(make: Callable[[], nn.Module]) -> Row:
    """How many parameters and buffers a plan has, and why it has no others."""
    recording = ict.record(make)
    row: Row = {"class": type(recording.model).__name__, "notes": list(recording.notes)}
    row |= {"parameters": 0, "in_plan": 0, "elements": 0, "elements_in_plan": 0, "refused": {}}
    row |= {"buffers": 0, "buffers_left": {}}
    for member in _each_once(recording.model):
        finding = recording._found[member.name]
        count = math.prod(member.shape)
        if member.is_buffer:
            row["buffers"] += 1
            if finding.reason:
                row["buffers_left"][member.name] = finding.reason
            continue
        row["parameters"] += 1
        row["elements"] += count
        if finding.reason:
            row["refused"][member.name] = _refusal(finding)
        else:
            row["in_plan"] += 1
            row["elements_in_plan"] += count
    if not row["refused"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ic.PlanWarning)
            row["digest"] = recording.plan(seed=1).digest
    return row


def is_small(make: Callable[[], nn.Module], most: int = MOST_ELEMENTS) -> bool:
    """Whether the values of a model fit into memory some times."""
    with torch.device("meta"):
        model = make()
    return sum(parameter.numel() for parameter in model.parameters()) <= most


def comparison(make: Callable[[], nn.Module]) -> Row:
    """The recorded operations beside the plain model to the bit, and the plan in distribution.

    The row counts tensors: "equal" and "wrong" of the replay at the plain model's seed; "moved",
    random ones that another seed changes, and "still", those that it does not; "tested" in
    distribution, with their "pieces" of different laws each by itself; "exact" ones that no draw
    decides; and "unlike" ones, with the p-value.
    """
    recording = ict.record(make)
    row: Row = {"class": type(recording.model).__name__, "wrong": [], "still": [], "no_value": []}
    counted = ("equal", "random", "moved", "tested", "pieces", "exact", "small")
    row |= dict.fromkeys(counted, 0)
    row |= {"unlike": {}, "least_p": 1.0}
    built = recording._built
    right, other = replay(built, SEED), replay(built, OTHER_SEED)
    torch.manual_seed(SEED)
    plain = {member.name: member.tensor.detach() for member in members(make())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.PlanWarning)
        rules = [ict.rule(name, ict.given) for name in recording.refused]
        plan = recording.plan(seed=1, rules=rules)
    for member in _each_once(recording.model):
        name = member.name
        expression = built.trace.read(member.tensor)
        expected = plain[name]
        try:
            mine, moved = right.value(expression), other.value(expression)
        except NoValueError:
            row["no_value"].append(name)
            continue
        key = "equal" if same_bytes(mine, expected) else "wrong"
        if key == "equal":
            row["equal"] += 1
        else:
            row["wrong"].append(name)
        is_random = mine.numel() > 0 and _is_drawn(recording._found[name])
        if is_random:
            row["random"] += 1
            if same_bytes(mine, moved):
                row["still"].append(name)
            else:
                row["moved"] += 1
        made = None
        if name in plan:
            made = ic.fetch(plan.select([name]), target="local", framework="torch")[name]
        elif name in recording.values:
            made = recording.values[name]
        if made is not None:
            composition = recording._found[name].composition
            places = [] if composition is None else [place for place, _ in pieces(composition)]
            _compare(row, name, made, expected, places, is_random=is_random)
    return row


def by_recipes(make: Callable[[], nn.Module]) -> Row:
    """Recipes that repeat a library, beside what the model's own code draws.

    The row has the recipes that refuse the model; those with the recorded laws, or bits, for all
    tensors; and for others the tensors that differ, "silent" without a warning.
    """
    recording = ict.record(make)
    row: Row = {"refuse": [], "equal": [], "differ": {}, "silent": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.PlanWarning)
        own = recording.plan(rules=[ict.rule(name, ict.given) for name in recording.refused])
    laws = _laws(own)
    for name in recipes.names():
        recipe = recipes.load(name)
        if not recipe.repeats:
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                plan = ict.plan(recording.model, recipe=name)
            except ic.PlanError:
                row["refuse"].append(name)
                continue
        others = [one for one, law in _laws(plan).items() if law != laws.get(one, law)]
        if not others:
            row["equal"].append(name)
            continue
        warned = any(issubclass(one.category, ic.PlanWarning) for one in caught)
        row["differ" if warned else "silent"][name] = others[:4]
    return row


def _is_drawn(finding: Any) -> bool:
    """Whether a draw decides any of its values: constants may have been written over all draws."""
    if finding.composition is None:
        return bool(finding.expression.is_random)
    return any(cell.uses for block in blocks(finding.composition) for cell in block.cells)


def _laws(plan: ic.Plan) -> dict[str, Any]:
    """Mean, spread, bounds and rows of zeros of each tensor; of a composed one, the tensor."""
    return {
        one.name: (one.mean, one.std, one.low, one.high, one.zero_rows)
        if not one.parts
        else plan[one.name]
        for one in ic.describe(plan, target="local").tensors
    }


def _compare(
    row: Row,
    name: str,
    made: torch.Tensor,
    expected: torch.Tensor,
    places: list[tuple[slice, ...]],
    *,
    is_random: bool,
) -> None:
    if not is_random:
        row["exact"] += 1
        if not same_bytes(made, expected):
            row["unlike"][name] = "no draw decides it, and it differs"
        return
    found, wanted = (_doubles(one) for one in (made, expected))
    if found.shape != wanted.shape:
        row["unlike"][name] = f"shapes {found.shape} and {wanted.shape}"
        return
    if found.size < SMALLEST_SAMPLE:
        row["small"] += 1
        return
    row["tested"] += 1
    # A test of the whole does not see that two rectangles of it have changed places.
    for place in [..., *(places if len(places) > 1 else [])]:
        mine, theirs = found[place], wanted[place]
        if mine.size < SMALLEST_SAMPLE:
            continue
        row["pieces"] += place is not ...
        p = float(stats.ks_2samp(_sample(mine), _sample(theirs), method="asymp").pvalue)
        row["least_p"] = min(row["least_p"], p)
        if p < UNLIKELY:
            row["unlike"][name] = p
    zeros = [_zero_rows(one) for one in (found, wanted)]
    if zeros[0] != zeros[1]:
        row["unlike"][name] = f"rows of zeros: {zeros[0]} and {zeros[1]}"


def _doubles(tensor: torch.Tensor) -> Any:
    return tensor.detach().double().numpy()


def _sample(values: Any) -> Any:
    flat = values.ravel()
    # A stride that shares no factor with the sizes of models, so that it meets all rows.
    return flat[:: 2 * (flat.size // SAMPLE // 2) + 1]


def _zero_rows(values: Any) -> list[int]:
    rows = values.reshape(len(values), -1)
    return [int(row) for row in np.flatnonzero(~rows.any(axis=1))[:8]]


def _refusal(finding: Any) -> str:
    place = f" at {finding.source.called}" if finding.source is not None else ""
    return f"{finding.reason} ({finding.made}{place})"


def _each_once(model: nn.Module) -> list[Any]:
    found = {id(member.tensor): member for member in reversed(members(model))}
    return list(reversed(found.values()))
