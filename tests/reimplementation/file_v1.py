"""Slices, the file and the digest, written again from docs/stream-v1.md, sections 11 to 13.

The elements are those of stream_v1.py, which says how a plan is given.
"""

import hashlib
import itertools
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from tests.reimplementation.samples_v1 import item_size
from tests.reimplementation.stream_v1 import (
    Data,
    arguments_of,
    batch_axes,
    rule,
    seed_and_stream,
    widened,
)

# -- section 11: slices --


def bounds(tensor: Data) -> list[list[int]]:
    return [list(pair) for pair in tensor.get("slices") or [[0, size] for size in tensor["shape"]]]


def tensor_bytes(tensor: Data, plan_seed: int) -> bytes:
    ranges = [range(start, stop) for start, stop in bounds(tensor)]
    if not all(ranges) or 0 in tensor["shape"]:
        return b""
    element = rule(tensor, plan_seed)

    def elements() -> Iterator[bytes]:
        for at in itertools.product(*ranges):
            index = 0
            for size, coordinate in zip(tensor["shape"], at, strict=True):
                index = index * size + coordinate
            yield element(index, at)

    return b"".join(elements())


# -- sections 12 and 13: the file and the digest --


def json_text(value: object, sort: bool = False) -> bytes:
    """json.dumps has the escapes of the page when it does not keep to ASCII."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
    return text.encode()


def digest_argument(name: str, value: Any, dimensions: int) -> Any:
    if name == "batch_axes":
        return batch_axes(value, dimensions)
    if name == "values":
        return [struct.pack(">d", number).hex() for number in value]
    if value is None or isinstance(value, str) or name in ("relative", "axis", "axes"):
        return value
    return struct.pack(">d", value).hex()


def digest_tensor(tensor: Data, plan_seed: int) -> Data:
    seed, stream = seed_and_stream(tensor, plan_seed)
    dimensions = len(tensor["shape"])
    arguments = {
        name: digest_argument(name, value, dimensions)
        for name, value in arguments_of(tensor).items()
    }
    form: Data = {
        "arguments": arguments,
        "bounds": bounds(tensor),
        "dtype": tensor["dtype"],
        "name": tensor["name"],
        "scheme": tensor["scheme"],
        "seed": seed,
        "shape": list(tensor["shape"]),
        "stream": stream,
    }
    if tensor.get("zero_rows"):
        form["zero_rows"] = sorted(set(tensor["zero_rows"]))
    if "parts" in tensor:
        wide = tensor["scheme"] == "apply"
        parts = [widened(part) if wide else part for part in tensor["parts"]]
        form["parts"] = [digest_tensor(part, seed) for part in parts]
    return form


def plan_digest(plan: Data) -> str:
    tensors = [digest_tensor(tensor, plan["seed"]) for tensor in plan["tensors"]]
    document = {"format": "initserve.v1", "seed": plan["seed"], "tensors": tensors}
    return hashlib.sha256(json_text(document, sort=True)).hexdigest()


def header(plan: Data) -> bytes:
    """The length and the JSON."""
    shapes = [[stop - start for start, stop in bounds(tensor)] for tensor in plan["tensors"]]
    metadata = {
        "initserve.plan_digest": plan_digest(plan),
        "initserve.stream_version": "1",
        "initserve.seed": str(plan["seed"]),
    }
    entries: Data = {"__metadata__": metadata}
    for tensor, shape in zip(plan["tensors"], shapes, strict=True):
        entries[tensor["name"]] = {"dtype": tensor["dtype"], "shape": shape, "data_offsets": []}
    position = 0
    for tensor in data_order(plan):
        entry = entries[tensor["name"]]
        end = position + math.prod(entry["shape"]) * item_size(tensor["dtype"])
        entry["data_offsets"], position = [position, end], end
    text = json_text(entries)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def data_order(plan: Data) -> list[Data]:
    """sorted() keeps the order of equals."""
    return sorted(plan["tensors"], key=lambda tensor: -item_size(tensor["dtype"]))


def file_bytes(plan: Data) -> bytes:
    data = [tensor_bytes(tensor, plan["seed"]) for tensor in data_order(plan)]
    return header(plan) + b"".join(data)
