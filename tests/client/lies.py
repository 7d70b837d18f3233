"""Lies of a rogue server, drawn from a seed: in data, status, details, trailers and pauses.

Not among them: wrong values with the right checksum, which no client can find without making the
values itself.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import TypeAlias

import google_crc32c
import grpc
import initclient as ic
from google.rpc import error_details_pb2, status_pb2
from initcore import layout
from initcore.wire import to_proto
from initserve.v1 import service_pb2

from tests.client.http2 import (
    DATA,
    END_STREAM,
    GOAWAY,
    RST_STREAM,
    Closed,
    Connection,
    frame,
    headers,
    message,
)
from tests.client.servers import Response, honest

PLAN = ic.Plan({"w": ic.normal((40, 30)), "b": ic.zeros((10,))}, seed=1)
_HEADER = layout(PLAN).header

Answer: TypeAlias = (
    service_pb2.ListModelsResponse
    | service_pb2.GetModelResponse
    | service_pb2.GetServerInfoResponse
)

_GRPC = (("content-type", b"application/grpc"),)
# gRPC 1.85 ends the process on codes that it has no name for.
_HTTP2_CODES = range(13)

_CHARACTERS = [
    "\x1b[2J",
    "\r",
    "\n",
    "\x00",
    "\u202e",
    "\x9b",
    "é",
    "%",
    "words ",
    "\U0001f600",
    "A",
]
_REASONS = ["", "PLAN_INVALID", "MAX_TENSORS", "MAX_STREAMS", "MAX_FINGERPRINT_BYTES", "\x1b[31m"]
_FIELDS = ["tensors[0].scheme", "tensors[9].shape", f"tensors[{'9' * 900}].x", "tensors[٣].x", ""]
_NUMBERS = ["0", "1", "-1", "soon", "", "20", "9" * 400, "9" * 4500, "-9999", "1.5", "0x10", "nan"]


def text(draw: random.Random, most: int = 40) -> str:
    """A text to show, or better not."""
    if draw.random() < 0.3:
        return "words"
    return "".join(draw.choices(_CHARACTERS, k=draw.randint(0, most)))


class Rogue:
    """Answers calls with lies.

    Args:
        seed: chooses them.
        method: "fetch" or "describe".
        answer: what an honest server answers to a call of another method; None means that it is
            one of these.
        honest_after: calls after which it is honest; None means never.

    Attributes:
        told: the kinds of the lies, in order.
    """

    def __init__(
        self,
        seed: int,
        method: str = "fetch",
        honest_after: int | None = None,
        answer: Answer | None = None,
    ) -> None:
        self._draw = random.Random(seed)
        self._given = answer
        self._method = method
        self._honest_after = honest_after
        self.told: list[str] = []

    def __call__(self, connection: Connection, request: bytes) -> None:
        if self._honest_after is not None and len(self.told) >= self._honest_after:
            lie: Callable[..., None] = Rogue.honest
        else:
            lie = self._draw.choice(_LIES)
        self.told.append(lie.__name__)
        lie(self, connection, self._answer(request))

    def _answer(self, request: bytes) -> list[bytes]:
        """The messages of an honest server."""
        if self._given is not None:
            return [self._given.SerializeToString()]
        if self._method == "describe":
            return [described(b"\x10\x01" in request[-2:])]
        parsed = service_pb2.FetchRequest.FromString(request)
        return list(fetched(parsed.read_offset, parsed.read_limit))

    # Endings.

    def _begin(self, to: Connection) -> None:
        to.send(headers(to.stream, _GRPC, status=200))

    def _end(self, to: Connection, code: object = 0, *more: tuple[str, bytes]) -> None:
        to.send(headers(to.stream, [("grpc-status", str(code).encode()), *more], last=True))

    def _send(self, to: Connection, messages: list[bytes]) -> None:
        self._begin(to)
        to.send(b"".join(message(to.stream, one) for one in messages))

    # What tests ask for by name.

    def work(self, to: Connection, messages: list[bytes]) -> None:
        """Messages, then signs of life for ever."""
        self.told.append("work")
        self._work(to, messages)

    # Lies.

    def honest(self, to: Connection, messages: list[bytes]) -> None:
        """No lie."""
        self._send(to, messages)
        self._end(to)

    def changed_messages(self, to: Connection, messages: list[bytes]) -> None:
        """Messages that are lost, doubled, swapped, cut, changed, or not of this service."""
        draw = self._draw
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(messages) + 1)
            match draw.randrange(7):
                case 0:
                    del messages[at:]
                case 1 if at < len(messages):
                    messages.insert(draw.randrange(len(messages) + 1), messages[at])
                case 2 if messages:
                    draw.shuffle(messages)
                case 3 if at < len(messages) and messages[at]:
                    data = bytearray(messages[at])
                    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
                    messages[at] = bytes(data)
                case 4:
                    messages.insert(at, draw.randbytes(draw.randint(0, 60)))
                case 5:
                    messages.insert(at, Response(working=service_pb2.Working()).SerializeToString())
                case _:
                    messages.insert(at, b"")
        self._send(to, messages)
        self._end(to)

    def another_file(self, to: Connection, messages: list[bytes]) -> None:
        """Info, header or offsets of another file, with the right checksums."""
        draw = self._draw
        if self._given is not None:
            return self.honest(to, [self._another_answer().SerializeToString()])
        if self._method == "describe":
            answer = service_pb2.DescribeResponse.FromString(messages[0])
            self._change_info(answer.info)
            if answer.tensors and draw.random() < 0.5:
                draw.choice(answer.tensors).std = draw.random()
            if draw.random() < 0.3:
                answer.header = draw.randbytes(50)
            if draw.random() < 0.3:
                del answer.tensors[draw.randrange(3) :]
            for tensor in answer.tensors:
                if draw.random() < 0.2:
                    tensor.fingerprint = draw.randbytes(draw.randint(0, 40))
                    tensor.scheme = draw.randint(-5, 99)
            return self.honest(to, [answer.SerializeToString()])
        parsed = [Response.FromString(one) for one in messages]
        self._change_info(parsed[0].info)
        for one in parsed[1:]:
            chunk = one.chunk
            if draw.random() < 0.3 and chunk.offset < len(_HEADER):
                data = bytearray(chunk.data)
                data[draw.randrange(len(_HEADER) - chunk.offset)] ^= 1
                chunk.data = bytes(data)
                chunk.crc32c = google_crc32c.value(chunk.data)
            if draw.random() < 0.2:
                chunk.offset = draw.choice([0, 1, 1 << 40, (1 << 64) - 1, chunk.offset + 1])
            if draw.random() < 0.1:
                chunk.data = b""
        return self.honest(to, [one.SerializeToString() for one in parsed])

    def _another_answer(self) -> Answer:
        """The answer with names, digests, sizes and plans of others."""
        draw, answer = self._draw, deepcopy(self._given)
        if isinstance(answer, service_pb2.ListModelsResponse):
            answer.models.extend(answer.models[0] for _ in range(draw.choice([0, 3, 2000])))
            models = list(answer.models)
        elif isinstance(answer, service_pb2.GetModelResponse):
            models = [answer.info]
            if draw.random() < 0.6:
                answer.plan.seed = draw.randrange(1 << 64)
            if draw.random() < 0.3:
                del answer.plan.tensors[:1]
            for _ in range(draw.choice([0, 1, 300])):
                answer.files.add(name=text(draw), size=draw.randrange(1 << 64))
        else:
            assert isinstance(answer, service_pb2.GetServerInfoResponse)
            answer.version, answer.backend = text(draw), text(draw, 3000)
            answer.stream_version = draw.randrange(1 << 32)
            # Schemes are numbers, which later versions may have more of.
            answer.schemes.extend(draw.randint(-5, 99) for _ in range(draw.choice([0, 5, 2000])))  # type: ignore[misc]
            models = []
        for model in models:
            if draw.random() < 0.5:
                model.name = draw.choice(["", "../x", text(draw), "x" * 10_000])
            if draw.random() < 0.3:
                model.plan_digest = draw.choice(["", "0" * 64, text(draw)])
            if draw.random() < 0.3:
                model.total_size = model.tensors = draw.randrange(1 << 64)
        return answer

    def _change_info(self, info: service_pb2.FileInfo) -> None:
        draw = self._draw
        if draw.random() < 0.4:
            info.plan_digest = draw.choice(["", "0" * 64, text(draw), "\x1b" * 30_000])
        if draw.random() < 0.3:
            info.total_size = draw.choice([0, 1, (1 << 64) - 1])
        if draw.random() < 0.2:
            info.stream_version = draw.randrange(1 << 32)
        if draw.random() < 0.4:
            info.warnings.extend(text(draw) for _ in range(draw.choice([1, 5, 400])))

    def status(self, to: Connection, messages: list[bytes]) -> None:
        """Any status, with any details, before, amid or after the messages."""
        draw = self._draw
        code = draw.choice([*range(1, 17)] * 3 + [17, 99, -1, 1 << 40, "abc", ""])
        trailers = [("grpc-message", text(draw, 300).encode("utf-8", "replace")[:3000])]
        trailers = [
            (name, value.replace(b"\x00", b"").replace(b"\r", b"%0d").replace(b"\n", b"%0a"))
            for name, value in trailers
        ]
        if draw.random() < 0.6:
            value = self._details(code if isinstance(code, int) else 3)
            if draw.random() < 0.1:
                value = value[: len(value) // 2] + draw.randbytes(5)
            coded = base64.b64encode(value).rstrip(b"=")
            trailers.append(("grpc-status-details-bin", coded if draw.random() < 0.95 else b"!"))
        for _ in range(draw.choice([0, 0, 0, 1, 2])):
            trailers.append(("grpc-retry-pushback-ms", draw.choice(_NUMBERS).encode()))
        if draw.random() < 0.05:
            trailers.append(("padding", b"x" * draw.choice([8000, 20_000])))
        if draw.random() < 0.6:
            # As the only headers.
            fields = [("grpc-status", str(code).encode()), *trailers]
            to.send(headers(to.stream, [*_GRPC, *fields], status=200, last=True))
            return
        self._send(to, messages[: draw.randint(0, len(messages))])
        self._end(to, code, *trailers)

    def _details(self, code: int) -> bytes:
        draw = self._draw
        status = status_pb2.Status(message=text(draw))
        status.code = code if draw.random() < 0.8 and -1 << 31 <= code < 1 << 31 else 7
        for _ in range(draw.randint(0, 3)):
            match draw.randrange(4):
                case 0:
                    info = error_details_pb2.ErrorInfo(reason=draw.choice(_REASONS))
                    for key in draw.sample(["limit", "version", "x"], draw.randint(0, 3)):
                        info.metadata[key] = draw.choice([*_NUMBERS, text(draw)])
                    status.details.add().Pack(info)
                case 1:
                    retry = error_details_pb2.RetryInfo()
                    retry.retry_delay.seconds = draw.choice([0, 0, 1, -5, 1 << 62, -(1 << 62)])
                    retry.retry_delay.nanos = draw.choice([0, 10**7, -(10**9), (1 << 31) - 1])
                    status.details.add().Pack(retry)
                case 2:
                    bad_request = error_details_pb2.BadRequest()
                    for _ in range(draw.randint(0, 3)):
                        bad_request.field_violations.add(
                            field=draw.choice([*_FIELDS, text(draw)]), description=text(draw)
                        )
                    status.details.add().Pack(bad_request)
                case _:
                    detail = status.details.add()
                    detail.type_url = "type.googleapis.com/google.rpc.BadRequest"
                    detail.value = draw.randbytes(20)
        return status.SerializeToString()

    def pause(self, to: Connection, messages: list[bytes]) -> None:
        """A pause amid the messages, or for ever."""
        self._send(to, messages[: self._draw.randint(0, len(messages))])
        to.wait(self._draw.choice([0.05, 0.2, 600]))
        self._end(to)

    def silence(self, to: Connection, messages: list[bytes]) -> None:
        """Not even headers."""
        to.wait(600)

    def signs_of_life(self, to: Connection, messages: list[bytes]) -> None:
        """It works, and works, and works."""
        self._work(to, messages[: self._draw.randint(0, len(messages))])

    def _work(self, to: Connection, messages: list[bytes]) -> None:
        self._send(to, messages)
        pause = self._draw.choice([0.001, 0.02, 0.2])
        working = Response(working=service_pb2.Working()).SerializeToString()
        while True:
            to.send(message(to.stream, working))
            to.wait(pause)

    def broken_frames(self, to: Connection, messages: list[bytes]) -> None:
        """Lengths that lie, bytes that are no frames, streams and connections that end."""
        draw, stream = self._draw, to.stream
        some = messages[: draw.randint(0, len(messages))]
        match draw.randrange(9):
            case 0:
                self._send(to, some)
                raise Closed
            case 1:
                self._send(to, some)
                to.send(frame(RST_STREAM, 0, stream, draw.choice(_HTTP2_CODES).to_bytes(4, "big")))
            case 2:
                self._send(to, some)
                last = draw.choice([0, stream]).to_bytes(4, "big")
                to.send(frame(GOAWAY, 0, 0, last + draw.choice(_HTTP2_CODES).to_bytes(4, "big")))
                raise Closed
            case 3:
                self._send(to, some)
                to.send(frame(DATA, END_STREAM, stream))
            case 4:
                self._begin(to)
                one = messages[0]
                told = draw.choice([0, len(one) - 1, len(one) + 1, 1 << 28, 0xFFFFFFFF])
                to.send(message(stream, one, length=told))
                self._end(to)
            case 5:
                self._begin(to)
                to.send(message(stream, messages[0], flag=draw.choice([1, 2, 255])))
                self._end(to)
            case 6:
                kind = ("content-type", draw.choice([b"text/html", b"application/grpc+json", b""]))
                code = draw.choice([200, 204, 301, 401, 404, 429, 502, 503])
                to.send(headers(stream, [kind], status=code))
                to.send(frame(DATA, END_STREAM, stream, b"<html>no</html>"))
            case 7:
                self._send(to, some)
                self._end(to, draw.choice([0, 14]), ("grpc-status", b"5"))
            case _:
                self._send(to, some)
                to.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                raise Closed


_LIES = [
    Rogue.changed_messages,
    Rogue.changed_messages,
    Rogue.another_file,
    Rogue.another_file,
    Rogue.status,
    Rogue.status,
    Rogue.status,
    Rogue.broken_frames,
    Rogue.broken_frames,
    Rogue.pause,
    Rogue.silence,
    Rogue.signs_of_life,
]


@cache
def fetched(offset: int, limit: int) -> tuple[bytes, ...]:
    """The messages of an honest server for a range."""
    request = service_pb2.FetchRequest(plan=to_proto(PLAN), read_offset=offset, read_limit=limit)
    return tuple(one.SerializeToString() for one in honest(request))


@cache
def described(fingerprints: bool) -> bytes:
    """The description of an honest server."""
    from initserver import Server, ServerConfig

    request = service_pb2.DescribeRequest(plan=to_proto(PLAN), fingerprints=fingerprints)
    with (
        Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        call = channel.unary_unary("/initserve.v1.InitService/Describe")
        answer: bytes = call(request.SerializeToString(), timeout=30)
        return answer
