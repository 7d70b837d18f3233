"""Parses requests tensor by tensor, so that limits apply before a request takes memory.

Two bytes on the wire make a message of some hundred bytes in memory, so a request of 64 MiB
could take gigabytes. Here the plan is found without parsing it, its tensors and their parts
are counted, and each is parsed alone. The plan's bytes also are its key in the cache, so a
recent plan is not parsed again. gRPC itself answers bytes that it cannot parse with INTERNAL,
although the client is at fault; here the answer is INVALID_ARGUMENT.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from initcore import Plan, PlanError, Violation
from initcore.generate import Pulse
from initcore.resolve import MAX_DEPTH
from initcore.wire import SHORT, Item, plan_of, read_varint, write_varint
from initserve.v1 import plan_pb2, service_pb2

from initserver.config import Limits
from initserver.wire.refusals import Refusal, above_limit, malformed

_PLAN = 1  # FetchRequest.plan and DescribeRequest.plan
_TENSORS = 2  # Plan.tensors
_SEED_TAG = bytes([1 << 3])  # Plan.seed, a varint
_PARTS = 24  # Tensor.parts

# Name and stream of 4,096 bytes each, 64 dimensions with their slices, and a reserve.
_MAX_TENSOR_BYTES = 16 << 10

# The first byte of the field `parts`, however its number is encoded, and of the field `name`.
_PARTS_BYTE = bytes([(_PARTS << 3 | 2) & 0x7F | 0x80])
_NAME_TAG = 1 << 3 | 2

# Most fields of a request, and of a plan beside its tensors. A message has less than ten; a
# request of 16 MiB could have eight million, which would take twenty seconds to read.
_MAX_FIELDS = 1000

# Most zero rows in all tensors of a plan: two bytes on the wire are some forty in memory.
_MAX_ZERO_ROWS = 1 << 18

# The header's JSON after a tensor's name: `:{"dtype":"U8","shape":[],"data_offsets":[0,0]},`.
_LEAST_HEADER = 48
_IN_JSON = json.JSONEncoder(ensure_ascii=False).encode

_FIXED_SIZES = {1: 8, 5: 4}
_VARINT, _DELIMITED = 0, 2

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class PlanBytes:
    """A plan before it is parsed: a serialized message `Plan`."""

    data: bytes

    def with_seed(self, seed: int) -> PlanBytes:
        """The same plan with another seed: of a field that is there twice, the last one counts."""
        return PlanBytes(self.data + _SEED_TAG + write_varint(seed))

    def parse(self, limits: Limits, pulse: Pulse, *, provenance: bool = False) -> Plan:
        """The plan. Calls `pulse` for each tensor; an exception from it ends the work.

        Args:
            limits: larger plans are refused.
            pulse: is called for each tensor.
            provenance: keep what the plan says of where it came from.

        Raises:
            PlanError: if the plan is invalid.
            Refusal: if the bytes are not a message, or the plan is above a limit.
        """
        tensors: list[tuple[int, int]] = []
        rest, others = bytearray(), 0
        for number, begin, start, end in _fields(self.data):
            if number == _TENSORS:
                tensors.append((start, end))
                if len(tensors) > limits.max_tensors:
                    raise _too_many_tensors(limits)
            else:
                others += 1
                if others > _MAX_FIELDS:
                    raise _too_many_fields("plan")
                rest += self.data[begin:end]
        message = _parsed(plan_pb2.Plan, bytes(rest))
        came_from = dict(message.provenance) if provenance else {}
        items = _Tensors(self.data, len(tensors), limits, pulse).items(tensors)
        return plan_of(message.seed, items, provenance=came_from)


class _Tensors:
    """Parses the tensors of one plan one by one, parts included.

    Args:
        data: the plan.
        count: how many tensors it has, without parts.
        limits: the limits of the server.
        pulse: called for each tensor and part.
    """

    def __init__(self, data: bytes, count: int, limits: Limits, pulse: Pulse) -> None:
        self._data = data
        self._count = count
        self._limits = limits
        self._pulse = pulse
        self._zero_rows = 0
        # Layers repeat: the bytes after a name have often been parsed before.
        self._known: set[bytes] = set()

    def items(self, places: list[tuple[int, int]]) -> Iterator[Item]:
        """The tensors at data[start:end] for each (start, end)."""
        header = 0
        for index, (start, end) in enumerate(places):
            item = self._item(start, end, index)
            header += len(_IN_JSON(item.name).encode()) + _LEAST_HEADER
            check_header(header, self._limits)
            yield item

    def _item(self, start: int, end: int, index: int, path: str = "", depth: int = 0) -> Item:
        self._pulse()
        # Most often the name comes first, and the rest holds no second name and no parts.
        data, at = self._data, start + 2
        if at < end and data[start] == _NAME_TAG and data[start + 1] < 0x80:
            at += data[start + 1]
            rest = data[at:end]
            if rest in self._known and at <= end:
                with suppress(UnicodeDecodeError):
                    return Item(data[start + 2 : at].decode(), rest)
        parts: list[Item] = []
        own = data[start:end]
        if _PARTS_BYTE in own:
            own = self._without_parts(start, end, index, path, depth, parts)
        where = f"tensors[{index}].{path}".rstrip(".")
        if len(own) > _MAX_TENSOR_BYTES:
            text = f"has {len(own)} bytes on the wire; at most {_MAX_TENSOR_BYTES} are taken"
            raise PlanError([Violation("", where, text)])
        message = _parsed(plan_pb2.Tensor, own, f"{where}: ")
        self._zero_rows += len(message.zero_rows)
        if self._zero_rows > _MAX_ZERO_ROWS:
            text = f"the plan's tensors have more than {_MAX_ZERO_ROWS} of them together"
            raise PlanError([Violation(message.name, f"{path}zero_rows", text, index)])
        name, rest, _ = Item.of(message)
        if not parts and len(rest) <= SHORT and not message.zero_rows:
            self._known.add(rest)
        return Item(name, rest, parts)

    def _without_parts(
        self, start: int, end: int, index: int, path: str, depth: int, parts: list[Item]
    ) -> bytes:
        """A tensor's own fields; appends its parts to `parts`."""
        data = self._data[start:end]
        own = []
        for number, begin, inner, stop in _fields(data):
            if number != _PARTS:
                own.append(data[begin:stop])
                continue
            if depth == MAX_DEPTH:
                text = f"are nested more than {MAX_DEPTH} deep"
                raise PlanError([Violation("", f"{path}parts", text, index)])
            self._count += 1
            if self._count > self._limits.max_tensors:
                raise _too_many_tensors(self._limits)
            inside = f"{path}parts[{len(parts)}]."
            parts.append(self._item(start + inner, start + stop, index, inside, depth + 1))
        return b"".join(own)


def _too_many_tensors(limits: Limits) -> Refusal:
    return above_limit(
        limits,
        "max_tensors",
        f"the plan has more than {limits.max_tensors} tensors, parts included, the most that this "
        "server takes",
        "plan.tensors",
    )


def check_header(size: int, limits: Limits) -> None:
    """Refuses a plan whose header has at least `size` bytes, if that is above the limit.

    Raises:
        Refusal: if it is.
    """
    if size > limits.max_header_bytes:
        raise above_limit(
            limits,
            "max_header_bytes",
            f"the plan's tensors need a header of {size} bytes or more; this server makes at most "
            f"{limits.max_header_bytes}",
            "plan.tensors",
        )


@dataclass(frozen=True)
class Incoming:
    """A request: its plan as bytes, its other fields parsed.

    Attributes:
        plan: the plan.
        read_offset: first byte wanted; like the next two, a field of FetchRequest.
        read_limit: number of bytes wanted, 0 for all.
        expected_digest: the digest that the plan must have, "" for any.
        model: the name of a model that stands for the plan, "" for none.
        seed: the seed of the model; None for its own.
        fingerprints: the field of DescribeRequest.
        problem: the refusal, if the bytes are not a valid message.
    """

    plan: PlanBytes
    read_offset: int = 0
    read_limit: int = 0
    expected_digest: str = ""
    fingerprints: bool = False
    model: str = ""
    seed: int | None = None
    problem: Refusal | None = None


def read_fetch(data: bytes) -> Incoming:
    """Parses a FetchRequest. Never raises: gRPC would answer INTERNAL."""
    try:
        plan, rest = _split(data)
        fields = _parsed(service_pb2.FetchRequest, rest)
        seed = fields.seed if fields.HasField("seed") else None
        if fields.model:
            _check_named(plan, fields)
        elif seed is not None:
            raise malformed("it has a seed beside a plan, which has its own; give a model's name")
    except Refusal as refusal:
        return Incoming(PlanBytes(b""), problem=refusal)
    return Incoming(
        plan,
        fields.read_offset,
        fields.read_limit,
        fields.expected_digest,
        model=fields.model,
        seed=seed,
    )


def read_describe(data: bytes) -> Incoming:
    """Parses a DescribeRequest. Never raises: gRPC would answer INTERNAL."""
    try:
        plan, rest = _split(data)
        fields = _parsed(service_pb2.DescribeRequest, rest)
    except Refusal as refusal:
        return Incoming(PlanBytes(b""), problem=refusal)
    return Incoming(plan, fingerprints=fields.fingerprints)


def read_get_model(data: bytes) -> service_pb2.GetModelRequest | Refusal:
    """Parses a GetModelRequest. Never raises: gRPC would answer INTERNAL."""
    try:
        return _parsed(service_pb2.GetModelRequest, data)
    except Refusal as refusal:
        return refusal


def read_nothing(data: bytes) -> bytes:
    """Accepts any bytes, for a request whose message has no fields."""
    return data


def _check_named(plan: PlanBytes, fields: service_pb2.FetchRequest) -> None:
    """Checks a request that names a model: its plan is the server's, so only one may be meant."""
    if plan.data:
        raise malformed(f"it has a plan and names the model {fields.model!r}; give one of them")
    if not fields.expected_digest:
        # Parts of one file would otherwise come from two versions of the model.
        raise malformed(
            f"it names the model {fields.model!r} without expected_digest; take the digest from "
            "GetModel, so that every part is of the same plan"
        )


def _split(data: bytes) -> tuple[PlanBytes, bytes]:
    plans, rest = [], []
    for count, (number, begin, start, end) in enumerate(_fields(data)):
        if count == _MAX_FIELDS:
            raise _too_many_fields("request")
        if number == _PLAN:
            plans.append(data[start:end])
        else:
            rest.append(data[begin:end])
    # Several plans are merged, and merging messages is joining their bytes.
    return PlanBytes(plans[0] if len(plans) == 1 else b"".join(plans)), b"".join(rest)


def _too_many_fields(what: str) -> Refusal:
    return malformed(f"the {what} has more than {_MAX_FIELDS} fields beside tensors")


def _parsed(kind: type[_M], data: bytes, where: str = "") -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        # Text that is not UTF-8 is among the reasons.
        raise malformed(f"{where}not a valid {kind.DESCRIPTOR.name} message") from error


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message on the wire.

    Yields:
        (number, begin, start, end): the field is data[begin:end]. If it is length-delimited,
        as messages are, its content is data[start:end]; otherwise number is 0.
    """
    at = 0
    while at < len(data):
        begin = at
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == _DELIMITED:
            length, start = _varint(data, at)
            at = start + length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        else:
            raise malformed(f"wire type {kind} at byte {begin}")
        if at > len(data) or not number:
            raise malformed(f"the field at byte {begin} is not whole")
        yield number if kind == _DELIMITED else 0, begin, start, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        return read_varint(data, at)
    except ValueError as error:
        raise malformed(str(error)) from error
