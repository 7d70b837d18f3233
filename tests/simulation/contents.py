"""The right answers: the plans of the schedules, and what a server of this version says of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import initclient as ic
import numpy as np
from initclient._machine import Machine, running_on
from initcore import Layout, Plan, VirtualFile, layout
from initcore.backends import select
from initcore.file import fingerprints_between
from initcore.wire import crc32c
from initcore.wire.conversion import from_proto
from initserve.v1 import plan_pb2, service_pb2
from initserver.rpc.service import _add_tensor, file_info

PLANS = (
    Plan({"bias": ic.zeros((3,))}, seed=1),
    Plan({"a.weight": ic.normal((31, 17), std=0.02), "a.bias": ic.zeros((31,))}, seed=2),
    Plan({"a.weight": ic.normal((31, 17), std=0.02), "a.bias": ic.zeros((31,))}, seed=3),
    Plan(
        {
            "one": ic.uniform((40, 25), -1, 1),
            "none": ic.ones((0, 4)),
            "two": ic.kaiming_normal((30, 20), dtype="BF16"),
            "three": ic.ones((77,), dtype="F64"),
        },
        seed=4,
    ),
    Plan({"few": ic.normal((3, 4)), "many": ic.ones((40,), dtype="F64")}, seed=5),
)
"""Two differ in the seed alone: files of the same size, with the same header but for the digest."""

SMALL = (0, 4)
"""Plans of few elements, which a spot check recomputes one by one."""

SHARD_SIZE = 1500


@dataclass(frozen=True)
class Content:
    """The file of a plan.

    Attributes:
        layout: its layout.
        data: its bytes.
    """

    layout: Layout
    data: bytes

    @cached_property
    def info(self) -> service_pb2.FileInfo:
        """The first message of a download."""
        return file_info(self.layout)

    @cached_property
    def arrays(self) -> dict[str, bytes]:
        """The bytes of each tensor."""
        return {e.tensor.name: self.data[e.begin : e.end] for e in self.layout.entries}

    @cached_property
    def description(self) -> service_pb2.DescribeResponse:
        """The answer to Describe, with fingerprints."""
        response = service_pb2.DescribeResponse(info=self.info, header=self.layout.header)
        for entry in self.layout.entries:
            _add_tensor(response, entry)
        file = VirtualFile(self.layout, select("numpy"))
        found = fingerprints_between(file, 0, file.size)
        for tensor in response.tensors:
            tensor.fingerprint = bytes(found.get(tensor.name, ic.Fingerprint()))
        return response


def content_of(message: plan_pb2.Plan) -> Content:
    """The content of a plan that came over the wire."""
    return _content(message.SerializeToString(deterministic=True))


@cache
def _content(serialized: bytes) -> Content:
    found = layout(from_proto(plan_pb2.Plan.FromString(serialized)))
    return Content(found, bytes(VirtualFile(found, select("numpy")).read(0, found.size)))


@cache
def files_of(number: int, sharded: bool) -> dict[str, bytes]:
    """The files that `fetch_file` writes for a plan, by name; "" is the name of a single one."""
    with running_on(Machine()), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        ic.fetch_file(PLANS[number], path, target="local", shard_size=_shard_size(sharded))
        if not sharded:
            return {"": path.read_bytes()}
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@cache
def arrays_of(number: int) -> dict[str, bytes]:
    """The bytes of a plan's tensors, by name."""
    return {k: np.asarray(v).tobytes() for k, v in ic.fetch(PLANS[number], target="local").items()}


@cache
def fingerprints_of(number: int) -> list[object]:
    """The fingerprints of a plan's tensors."""
    described = ic.describe(PLANS[number], target="local", fingerprints=True)
    return [tensor.fingerprint for tensor in described.tensors]


def chunk(offset: int, data: bytes, crc: int | None = None) -> bytes:
    """A chunk as a server writes it."""
    found = crc32c(memoryview(data)) if crc is None else crc
    message = service_pb2.Chunk(offset=offset, data=data, crc32c=found)
    return service_pb2.FetchResponse(chunk=message).SerializeToString()


def _shard_size(sharded: bool) -> int | None:
    return SHARD_SIZE if sharded else None
