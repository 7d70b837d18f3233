"""Faults of servers: what each does to the messages of one download, by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from initserve.v1 import service_pb2

from tests.simulation.channels import Event, Status
from tests.simulation.contents import Content, chunk

SILENCE = float("inf")

_HINTS = (0.0, 0.5, 3.0, 20.0, 86_400.0, 1e9, 3e11)
_DIGEST = "bin"


def status(
    random: Random,
    code: grpc.StatusCode,
    text: str,
    *details: Message,
    pushback: str | None = None,
) -> Status:
    """An error with details; now and then the details are damaged, or say something else."""
    trailers: list[tuple[str, str | bytes]] = []
    if details:
        packed = [any_pb2.Any() for _ in details]
        for each, detail in zip(packed, details, strict=True):
            each.Pack(detail)
        other = random.random() < 0.05
        number = 2 if other else code.value[0]
        message = status_pb2.Status(code=number, message=text, details=packed)
        raw = message.SerializeToString()
        if random.random() < 0.05:
            raw = raw[: random.randrange(len(raw))]
        trailers.append((f"grpc-status-details-{_DIGEST}", raw))
    if pushback is not None:
        trailers.append(("grpc-retry-pushback-ms", pushback))
    return Status(code, text, tuple(trailers))


def info(reason: str) -> error_details_pb2.ErrorInfo:
    """A reason."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="initserve")


def retry(seconds: float) -> error_details_pb2.RetryInfo:
    """A hint."""
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=int(seconds)))


def unknown_scheme(random: Random) -> Status:
    """The answer of a server of another version, which lacks a scheme of the plan."""
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="tensors[0].scheme", description="scheme 97 is not known to this version"
    )
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    return status(random, grpc.StatusCode.INVALID_ARGUMENT, "the plan is wrong", bad)


def hinted(random: Random) -> Status:
    """A busy or stopping server that names a time, a sensible one or not."""
    seconds = random.choice(_HINTS)
    code = random.choice((grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE))
    if random.random() < 0.5:
        reason = info("MAX_STREAMS")
        return status(random, code, "that many downloads are running", reason, retry(seconds))
    pushback = random.choice((str(int(seconds * 1000)), "-1", "soon", "9" * 30))
    return status(random, code, "busy", pushback=pushback)


def any_status(random: Random) -> Status:
    """Any code with any details."""
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    details: list[Message] = []
    if random.random() < 0.3:
        details.append(info(random.choice(("MAX_STREAMS", "MAX_FETCH_BYTES", "", "INTERNAL"))))
    if random.random() < 0.2:
        details.append(retry(random.choice(_HINTS)))
    text = random.choice(("", "it is so", "Socket closed", "x" * 5000, "\x1b[2Jfailed to connect"))
    return status(random, random.choice(codes), text, *details)


def refused() -> Event:
    """No server listens."""
    text = "failed to connect to all addresses; last error: Connection refused"
    return _end(Status(grpc.StatusCode.UNAVAILABLE, text), 0.002)


def broken() -> Status:
    """The connection was closed."""
    return Status(grpc.StatusCode.UNAVAILABLE, "Socket closed")


Change = Callable[[Random, Event, Content, float], Iterator[Event]]
"""Replaces one event of a good download by others; the last argument is the idle timeout."""


def _end(ended: Status, delay: float = 0.001) -> Event:
    return Event(delay, status=ended, text=f"status {ended.code().name}: {ended.details()[:60]!r}")


def _ends(make: Callable[[Random], Status]) -> Change:
    def change(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
        yield _end(make(random), event.delay)

    return change


def _message(delay: float, response: service_pb2.FetchResponse, text: str) -> Event:
    return Event(delay, response.SerializeToString(), text=text)


def _damage(
    alter: Callable[[Random, service_pb2.FetchResponse, Content], None], name: str
) -> Change:
    """Alters a message, after which the client must take nothing more."""

    def change(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
        response = service_pb2.FetchResponse.FromString(event.raw or b"")
        alter(random, response, content)
        yield _message(event.delay, response, f"lie: {name}")
        yield replace(event, good=0, text="the right message, after a lie")
        yield from _forever_silent()

    return change


def _forever_silent() -> Iterator[Event]:
    yield Event(SILENCE, text="silence")


def _silence(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    yield from _forever_silent()


def _pause(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    yield replace(event, delay=random.uniform(0.5, 2.0) * idle)


def _alive(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    while True:
        working = service_pb2.FetchResponse(working=service_pb2.Working())
        yield _message(0.9 * idle, working, "working")


def _worked(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    working = service_pb2.FetchResponse(working=service_pb2.Working())
    for _ in range(random.randrange(1, 4)):
        yield _message(0.8 * idle, working, "working")
    yield event


def _twice(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    yield event
    yield replace(event, delay=0.0, good=0, text="the same message again")
    yield from _forever_silent()


def _early(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    yield Event(event.delay, text="early end")


def _garbage(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    raw = random.choice((b"", b"\xff" * 20, random.randbytes(40), (event.raw or b"")[:-1]))
    yield Event(event.delay, raw, text="garbage")
    yield from _forever_silent()


def _wrong_crc(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    response.chunk.crc32c ^= 1 << random.randrange(32)


def _wrong_bytes(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    data = bytearray(response.chunk.data or b"\0")
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    response.chunk.data = bytes(data)


def _wrong_offset(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    others = (0, response.chunk.offset + 1, content.layout.size, 2**63, response.chunk.offset - 1)
    wrong = [at for at in others if at >= 0 and at != response.chunk.offset]
    response.chunk.offset = random.choice(wrong)


def _no_bytes(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    response.chunk.data, response.chunk.crc32c = b"", 0


def _past_the_end(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    data = content.data[response.chunk.offset :] + random.randbytes(random.randrange(1, 50))
    raw = chunk(response.chunk.offset, data)
    response.CopyFrom(service_pb2.FetchResponse.FromString(raw))


def _other_info(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    field = random.choice(("total_size", "plan_digest", "stream_version"))
    other = {"total_size": content.layout.size + 1, "plan_digest": "0" * 64, "stream_version": 99}
    response.info.CopyFrom(content.info)
    setattr(response.info, field, other[field])


def _second_info(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    response.info.CopyFrom(content.info)


def _other_header(random: Random, response: service_pb2.FetchResponse, content: Content) -> None:
    """Another header with the right checksum; elsewhere a wrong checksum."""
    begin = response.chunk.offset
    data = bytearray(response.chunk.data)
    if begin >= len(content.layout.header) or not data:
        _wrong_crc(random, response, content)
        return
    data[0] ^= 1
    raw = chunk(begin, bytes(data))
    response.CopyFrom(service_pb2.FetchResponse.FromString(raw))


def _other_values(random: Random, event: Event, content: Content, idle: float) -> Iterator[Event]:
    """Other elements with the right checksum, which only a spot check finds."""
    response = service_pb2.FetchResponse.FromString(event.raw or b"")
    begin, data = response.chunk.offset, bytearray(response.chunk.data)
    elements = range(max(0, content.layout.data_begin - begin), len(data))
    if not elements:
        yield event
        return
    data[random.choice(elements)] ^= 1 << random.randrange(8)
    yield replace(event, raw=chunk(begin, bytes(data)), text=f"lie: other values in {event.text}")


OTHER_VALUES = "other values"

AT_THE_INFO: dict[str, Change] = {
    "another file": _damage(_other_info, "another file"),
}
"""Faults in place of the file info."""

AT_A_CHUNK: dict[str, Change] = {
    "wrong checksum": _damage(_wrong_crc, "wrong checksum"),
    "wrong bytes": _damage(_wrong_bytes, "wrong bytes"),
    "wrong offset": _damage(_wrong_offset, "wrong offset"),
    "no bytes": _damage(_no_bytes, "no bytes"),
    "past the end": _damage(_past_the_end, "past the end"),
    "another header": _damage(_other_header, "another header"),
    "a second info": _damage(_second_info, "a second info"),
    "twice": _twice,
    OTHER_VALUES: _other_values,
}
"""Faults in place of a chunk."""

ANYWHERE: dict[str, Change] = {
    "cut": _ends(lambda _: broken()),
    "any status": _ends(any_status),
    "hint": _ends(hinted),
    "unknown scheme": _ends(unknown_scheme),
    "silence": _silence,
    "pause": _pause,
    "endless signs of life": _alive,
    "signs of life": _worked,
    "early end": _early,
    "garbage": _garbage,
}
"""Faults in place of any message."""

NAMES = tuple(
    name for name in ("refused", *AT_THE_INFO, *AT_A_CHUNK, *ANYWHERE) if name != OTHER_VALUES
)
"""All faults that a server of any schedule may have; "refused" is one where nothing listens."""
