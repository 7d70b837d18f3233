"""Writes the golden vectors, once: `python tests/golden/write.py`. Existing files stay as they are.

One JSON file a scheme; what a later release added lies in a folder of its own. Each case has a plan
(as in plan files), its digest, and for its one tensor the SHA-256 of the wanted part's bytes and
the first 64 of them in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent.parent))

from initcore import Plan, Tensor, VirtualFile, layout  # noqa: E402
from initcore.backends import load  # noqa: E402
from initcore.plan.composed_builders import retyped  # noqa: E402
from initcore.wire.plan_file import format_plan  # noqa: E402

from tests.plans import CASES, FLOATS, INTEGERS, LATER_CASES  # noqa: E402

# Beyond tests.plans: sizes of several blocks, far positions, extreme parameters.
MORE: dict[str, tuple[Tensor, tuple[tuple[int, int], ...] | None]] = {
    "uniform.large": (Tensor(scheme="uniform", shape=(1000, 1000)), None),
    "uniform.narrow": (Tensor(scheme="uniform", shape=(100,), a=1.0, b=1.0 + 2**-22), None),
    "normal.large": (Tensor(scheme="normal", shape=(1000, 1000)), None),
    "normal.far": (
        Tensor(scheme="normal", shape=(2**20, 2**20), std=0.02),
        ((2**14 - 2, 2**14 + 2), (2**20 - 50, 2**20)),
    ),
    "normal.farthest": (
        Tensor(scheme="normal", shape=(2**30, 2**30)),
        ((2**30 - 3, 2**30), (2**30 - 70, 2**30)),
    ),
    "normal.column": (
        Tensor(scheme="normal", shape=(70_000, 70_001)),
        ((61_350, 61_400), (70_000, 70_001)),
    ),
    "trunc_normal.large": (Tensor(scheme="trunc_normal", shape=(300, 1000), std=0.02), None),
    "trunc_normal.narrow": (Tensor(scheme="trunc_normal", shape=(500,), a=3.0, b=3.01), None),
    "trunc_normal.wide": (Tensor(scheme="trunc_normal", shape=(500,), a=-9.0, b=9.0), None),
    "trunc_normal.half": (Tensor(scheme="trunc_normal", shape=(500,), a=0.0, b=9.0), None),
    "orthogonal.blocks": (Tensor(scheme="orthogonal", shape=(400, 300), gain=1.5), None),
    "orthogonal.wide_blocks": (Tensor(scheme="orthogonal", shape=(130, 2, 100)), None),
    "orthogonal.shard": (
        Tensor(scheme="orthogonal", shape=(300, 300)),
        ((17, 250), (299, 300)),
    ),
    "delta_orthogonal.large": (Tensor(scheme="delta_orthogonal", shape=(140, 135, 3)), None),
    "delta_orthogonal.even": (Tensor(scheme="delta_orthogonal", shape=(6, 4, 4, 2)), None),
    "sparse.tall": (Tensor(scheme="sparse", shape=(5000, 20), sparsity=0.9), None),
    "sparse.columns": (
        Tensor(scheme="sparse", shape=(500, 2**40), sparsity=0.5),
        ((100, 400), (2**39, 2**39 + 5)),
    ),
    "eye.shard": (
        Tensor(scheme="eye", shape=(2**30, 2**30)),
        ((2**29, 2**29 + 9), (2**29, 2**29 + 7)),
    ),
}


def cases() -> dict[str, list[Plan]]:
    """Plans of one tensor each, by scheme."""
    plans: dict[str, list[Plan]] = {}
    for seed, (name, tensor) in enumerate(CASES.items()):
        for dtype in FLOATS:
            _add(plans, Plan({name: replace(tensor, dtype=dtype)}, seed))
    for name in INTEGERS:
        for scheme in ("ones", "zeros", "constant"):
            tensor = Tensor(scheme=scheme, shape=(5,), dtype=name)
            if scheme == "constant":
                tensor = replace(tensor, val=0.0 if name == "BOOL" else 100.0)
            _add(plans, Plan({name: tensor}, 0))
    for name, (tensor, bounds) in MORE.items():
        plan = Plan({name: tensor}, 2**64 - 1)
        _add(plans, plan.shard({name: bounds}) if bounds else plan)
    own = Tensor(scheme="normal", shape=(64,), stream="größe.weight", seed=12345)
    _add(plans, Plan({"stream and seed of its own": own}, 1))
    return plans


def later_cases(cases: dict[str, Tensor]) -> dict[str, list[Plan]]:
    """Plans of one tensor each, by the first word of their names."""
    plans: dict[str, list[Plan]] = {}
    for seed, (name, tensor) in enumerate(cases.items()):
        for dtype in FLOATS:
            plan = Plan({name: retyped(tensor, dtype)}, seed)
            plans.setdefault(name.partition(".")[0], []).append(plan)
        bounds = tuple((size // 3, size) for size in tensor.shape)
        plans[name.partition(".")[0]].append(Plan({name: tensor}, seed).shard({name: bounds}))
    return plans


def _add(plans: dict[str, list[Plan]], plan: Plan) -> None:
    (tensor,) = plan.tensors.values()
    plans.setdefault(tensor.scheme, []).append(plan)


def measure(plan: Plan, backend: str) -> dict[str, Any]:
    """The case of a plan: what the golden file holds of it."""
    file = VirtualFile(layout(plan), load(backend))
    (entry,) = file.layout.entries
    data = bytes(file.read(entry.begin, entry.end - entry.begin))
    return {
        "plan": json.loads(format_plan(plan, json_form=True)),
        "digest": file.layout.digest,
        "sha256": hashlib.sha256(data).hexdigest(),
        "head": data[:64].hex(),
    }


def main() -> None:
    """Writes the files that are not there yet."""
    files = {FOLDER / f"{scheme}.json": plans for scheme, plans in cases().items()}
    for folder, later in LATER_CASES.items():
        for name, plans in later_cases(later).items():
            files[FOLDER / folder / f"{name}.json"] = plans
    for path, plans in files.items():
        if path.exists():
            print(f"{path.name} stays as it is")
            continue
        form = {"stream_version": 1, "cases": [measure(plan, "numpy") for plan in plans]}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"{path.name}: {len(plans)} cases")


if __name__ == "__main__":
    main()
