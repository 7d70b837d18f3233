"""The plan's digest: two plans with the same digest stand for the same file.

docs/stream-v1.md, section "Digest", gives the canonical form.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

from initcore.resolution import Resolved

_TOGETHER = 64


def plan_digest(seed: int, tensors: Sequence[Resolved]) -> str:
    """SHA-256 of the plan in canonical form, as 64 hexadecimal digits.

    Args:
        seed: the plan's seed, which the file's metadata holds.
        tensors: the resolved tensors, in the plan's order.
    """
    # Some tensors at a time: the text of a large plan need not exist as a whole.
    digest = hashlib.sha256(f'{{"format":"initserve.v1","seed":{seed},"tensors":['.encode())
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
    comma = ""
    for start in range(0, len(tensors), _TOGETHER):
        some = [_canonical(tensor) for tensor in tensors[start : start + _TOGETHER]]
        digest.update((comma + encode(some)[1:-1]).encode())
        comma = ","
    digest.update(b"]}")
    return digest.hexdigest()


def _canonical(tensor: Resolved) -> dict[str, Any]:
    form: dict[str, Any] = {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "bounds": [list(pair) for pair in tensor.bounds],
        "dtype": tensor.dtype.name,
        "scheme": tensor.scheme,
        "seed": tensor.seed,
        "stream": tensor.stream_name,
        "arguments": {name: _value(value) for name, value in tensor.arguments.items()},
    }
    # Keys that plans without these do not have: their digests are older.
    if tensor.zero_rows:
        form["zero_rows"] = list(tensor.zero_rows)
    if tensor.parts:
        form["parts"] = [_canonical(part) for part in tensor.parts]
    return form


def _value(value: Any) -> Any:
    if isinstance(value, float):
        # The bits, since no two languages print doubles alike.
        return struct.pack(">d", value).hex()
    return list(value) if isinstance(value, tuple) else value
