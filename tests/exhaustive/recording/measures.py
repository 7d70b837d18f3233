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
from initclient.torch._model import members
from initclient.torch._record import replay
from initclient.torch._trace import NoValueError, same_bytes
from scipy import stats
from torch import nn

Row = dict[str, Any]

SEED, OTHER_SEED = 5, 6

MOST_ELEMENTS = 60_000_000
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


def is_small(make: Callable[[], nn.Module]) -> bool:
    """Whether the values of a model fit into memory some times."""
    with torch.device("meta"):
        model = make()
    return sum(parameter.numel() for parameter in model.parameters()) <= MOST_ELEMENTS


def comparison(make: Callable[[], nn.Module]) -> Row:
    """The recorded operations beside the plain model to the bit, and the plan in distribution.

    The row counts tensors: "equal" and "wrong" of the replay at the plain model's seed; "moved",
    random ones that another seed changes, and "still", those that it does not; "tested" in
    distribution, "exact" ones that no draw decides, and "unlike" ones, with the p-value.
    """
    recording = ict.record(make)
    row: Row = {"class": type(recording.model).__name__, "wrong": [], "still": [], "no_value": []}
    row |= dict.fromkeys(("equal", "random", "moved", "tested", "exact", "small"), 0)
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
        if expression.is_random and mine.numel():
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
            _compare(row, name, made, expected, is_random=expression.is_random)
    return row


def _compare(
    row: Row, name: str, made: torch.Tensor, expected: torch.Tensor, *, is_random: bool
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
    p = float(stats.ks_2samp(_sample(found), _sample(wanted), method="asymp").pvalue)
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
