"""Writes the golden fingerprints, once: `python tests/golden_fingerprints/write.py`.

Two files. arrays.json has bits and their fingerprint: name, shape, bounds, bytes of one element,
the elements in hexadecimal. plans.json has plans of one tensor (as in plan files) and the
fingerprint of the part that each asks for.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent.parent))

from initcore import Plan, VirtualFile, layout  # noqa: E402
from initcore.backends import load  # noqa: E402
from initcore.file.fingerprints import fingerprints_between, mix_reference  # noqa: E402
from initcore.wire.plan_file import format_plan  # noqa: E402

from tests.plans import CASES  # noqa: E402
from tests.reimplementation.fingerprint_v1 import fingerprint  # noqa: E402

FAR = 2**30


def arrays() -> list[dict[str, Any]]:
    """Bits of every size, at every kind of position."""
    draw = random.Random(7)
    cases: list[tuple[str, list[int], list[list[int]], int, bytes]] = [
        ("w", [1], [[0, 1]], 4, bytes(4)),
        ("w", [], [], 8, bytes.fromhex("000000000000f87f")),
        ("w", [4], [[0, 4]], 4, bytes.fromhex("00000000000000800000803f0000c07f")),
        ("w", [0, 3], [[0, 0], [0, 3]], 2, b""),
        ("fc.bias", [4], [[0, 4]], 4, bytes.fromhex("00000000000000800000803f0000c07f")),
        ("größe \U0001f600", [3], [[0, 3]], 1, bytes([0, 1, 255])),
    ]
    for size in (1, 2, 4, 8):
        cases.append((f"whole.{size}", [5, 3, 2], [[0, 5], [0, 3], [0, 2]], size, b""))
        cases.append((f"part.{size}", [9, 7, 5], [[2, 8], [1, 4], [3, 5]], size, b""))
        far = [[FAR - 3, FAR], [FAR - 9, FAR]]
        cases.append((f"far.{size}", [FAR, FAR], far, size, b""))
    made = []
    for name, shape, bounds, size, data in cases:
        count = 1
        for start, stop in bounds:
            count *= stop - start
        data = data or draw.randbytes(count * size)
        made.append({"name": name, "shape": shape, "bounds": bounds, "size": size})
        pairs = [(start, stop) for start, stop in bounds]
        made[-1] |= {"data": data.hex(), "fingerprint": fingerprint(name, shape, pairs, data, size)}
    return made


def plans() -> list[dict[str, Any]]:
    """One plan for each case of tests.plans, and a large one."""
    made = []
    chosen = [Plan({name: tensor}, 7) for name, tensor in CASES.items()]
    for plan in chosen:
        file = VirtualFile(layout(plan), load("numpy"))
        found = fingerprints_between(file, file.layout.data_begin, file.size, mix=mix_reference)
        (text,) = map(str, found.values())
        form = json.loads(format_plan(plan, json_form=True))
        made.append({"plan": form, "fingerprint": text})
    return made


def main() -> None:
    """Writes the files that are not there yet."""
    for name, cases in (("arrays", arrays), ("plans", plans)):
        path = FOLDER / f"{name}.json"
        if path.exists():
            print(f"{path.name} stays as it is")
            continue
        form = {"fingerprint_version": 1, "cases": cases()}
        path.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
