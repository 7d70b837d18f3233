"""Records Megatron-Core's models, and prints how they compare with the plain ones, as JSON.

    python -m tests.launchers.megatron_recorded

Each line begins with "RESULT ".
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import initclient as ic
import initclient.torch as ict
import torch
from initclient.torch._model import members
from initclient.torch._record import replay
from initclient.torch._trace import same_bytes

from tests.exhaustive.recording import subjects
from tests.launchers import megatron_on_cpu  # noqa: F401


def main() -> None:
    for name in subjects.names("megatron-core"):
        make = subjects.maker("megatron-core", name)
        recording = ict.record(make)
        row: dict[str, Any] = {"name": name, "tensors": 0, "random": 0, "wrong": [], "still": []}
        built = recording._built
        right, other = replay(built, 5), replay(built, 6)
        torch.manual_seed(5)
        plain = {member.name: member.tensor.detach() for member in members(make())}
        for member in members(recording.model):
            content = built.trace.read(member.tensor)
            row["tensors"] += 1
            row["random"] += content.is_random
            if not same_bytes(right.value(content), plain[member.name]):
                row["wrong"].append(member.name)
            if content.is_random and same_bytes(other.value(content), plain[member.name]):
                row["still"].append(member.name)
        row["tied"] = _tied(recording)
        row |= _by_recipe(recording)
        print("RESULT", json.dumps(row))


def _tied(recording: ict.Recording) -> list[list[str]]:
    """The names in the plan of each tensor of several names, whose values are equal."""
    plan = recording.plan(seed=3)
    names: dict[int, list[str]] = {}
    for member in members(recording.model):
        names.setdefault(id(member.tensor), []).append(member.name)
    found = [its for its in names.values() if len(its) > 1]
    values = ic.fetch(plan.select([name for its in found for name in its]), target="local")
    return [its for its in found if len({values[name].tobytes() for name in its}) == 1]


def _by_recipe(recording: ict.Recording) -> dict[str, Any]:
    """Tensors to which the recipe `megatron` gives other values than the recording, or why none."""
    own = ic.fetch(recording.plan(seed=3), target="local")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plan = ict.plan(recording.model, recipe="megatron", seed=3)
        except ic.PlanError as error:
            return {"refused": str(error)}
    theirs = ic.fetch(plan, target="local")
    other = [name for name, values in theirs.items() if values.tobytes() != own[name].tobytes()]
    return {"other": other}


if __name__ == "__main__":
    main()
