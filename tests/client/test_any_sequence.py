"""A download never accepts a wrong byte, for any messages, in any order, with any end."""

from __future__ import annotations

import google_crc32c
import initclient as ic
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from initclient._source.credentials import Credentials
from initclient._source.request import Request
from initclient._source.service import Service
from initclient._transport.download import Stream, Transfer
from initclient._transport.failover import Attempts, Call
from initclient._transport.faults import Fault, Verdict
from initcore import VirtualFile, layout
from initcore.backends import load
from initserve.v1 import service_pb2

FILE = layout(ic.Plan({"w": ic.normal((50, 11)), "b": ic.uniform((33,))}, seed=2))
TRUTH = bytes(VirtualFile(FILE, load("numpy")).read(0, FILE.size))
CUT = 1100
Response = service_pb2.FetchResponse


class Memory:
    """A sink that counts the writes of each byte."""

    def __init__(self) -> None:
        self.bytes = bytearray(FILE.size)
        self.written = np.zeros(FILE.size, dtype=int)

    def write_at(self, offset: int, data: memoryview) -> None:
        self.bytes[offset : offset + len(data)] = data
        self.written[offset : offset + len(data)] += 1


class Download(RuleBasedStateMachine):
    """A stream that retries, against a server and a network with any fault."""

    @initialize(range=st.sampled_from([(0, FILE.size), (0, CUT), (CUT, FILE.size)]))
    def start(self, range: tuple[int, int]) -> None:
        self.sink = Memory()
        retry = ic.Retry(attempts=10**9)
        service = Service(("a:1", "b:1"), Credentials(), retry)
        transfer = Transfer(Request(FILE, service), self.sink, 0.0)
        call = Call.to(service.addresses, retry, None, 0.0)
        receiver = transfer.streams[0].receiver
        receiver.begin = receiver.position = range[0]
        receiver.end = range[1]
        self.stream = Stream(transfer, receiver, Attempts(call))
        self.ask()

    def ask(self) -> None:
        attempt = self.stream.next(0.0)
        self.request = None if attempt is None else self.stream.request(attempt)
        self.at = self.request.read_offset if self.request else 0

    def feed(self, message: Response) -> None:
        self.feed_raw(message.SerializeToString())

    def feed_raw(self, raw: bytes) -> None:
        try:
            self.stream.feed(raw)
        except Fault as fault:
            # An excluded server would be the end; this test wants to go on.
            fault.verdict = Verdict.AGAIN
            self.fail(fault)

    def fail(self, fault: Fault) -> None:
        self.stream.failed(fault, 0.0)
        self.ask()

    @property
    def running(self) -> bool:
        return self.request is not None

    def chunk(self, offset: int, length: int) -> Response:
        data = TRUTH[offset : offset + length]
        crc32c = google_crc32c.value(data)
        return Response(chunk=service_pb2.Chunk(offset=offset, data=data, crc32c=crc32c))

    @precondition(lambda self: self.running)
    @rule()
    def send_the_info(self) -> None:
        info = service_pb2.FileInfo(total_size=FILE.size, plan_digest=FILE.digest, stream_version=1)
        self.feed(Response(info=info))

    @precondition(lambda self: self.running)
    @rule(length=st.integers(0, 900))
    def send_the_next_chunk(self, length: int) -> None:
        request = self.request
        assert request is not None
        end = request.read_offset + request.read_limit if request.read_limit else FILE.size
        message = self.chunk(self.at, min(length, end - self.at))
        self.at += len(message.chunk.data)
        self.feed(message)

    @precondition(lambda self: self.running)
    @rule(offset=st.integers(0, FILE.size), length=st.integers(0, 900))
    def send_a_chunk_of_another_place(self, offset: int, length: int) -> None:
        self.feed(self.chunk(offset, length))

    @precondition(lambda self: self.running)
    @rule(length=st.integers(1, 900), bit=st.integers(0, 2**20))
    def send_a_damaged_chunk(self, length: int, bit: int) -> None:
        raw = bytearray(self.chunk(self.at, length).SerializeToString())
        if raw:
            raw[bit // 8 % len(raw)] ^= 1 << bit % 8
            self.feed_raw(bytes(raw))

    @precondition(lambda self: self.running)
    @rule(raw=st.binary(max_size=30))
    def send_noise(self, raw: bytes) -> None:
        self.feed_raw(raw)

    @precondition(lambda self: self.running)
    @rule(size=st.integers(0, 2 * FILE.size), digest=st.sampled_from([FILE.digest, "", "0" * 64]))
    def send_an_info_of_any_file(self, size: int, digest: str) -> None:
        info = service_pb2.FileInfo(total_size=size, plan_digest=digest, stream_version=1)
        self.feed(Response(info=info))

    @precondition(lambda self: self.running)
    @rule()
    def break_the_connection(self) -> None:
        self.fail(Fault(ic.TransportError("broke")))

    @precondition(lambda self: self.running)
    @rule()
    def end_without_an_error(self) -> None:
        try:
            self.stream.finish()
        except Fault as fault:
            self.fail(fault)
        else:
            assert self.stream.receiver.complete
            self.ask()

    @precondition(lambda self: not self.running)
    @rule()
    def ask_when_all_is_there(self) -> None:
        assert self.stream.next(0.0) is None

    @invariant()
    def every_byte_up_to_the_position_is_right_and_was_written_once(self) -> None:
        receiver = self.stream.receiver
        begin, position, end = receiver.begin, receiver.position, receiver.end
        assert begin <= position <= end
        assert self.sink.bytes[begin:position] == TRUTH[begin:position]
        assert (self.sink.written[begin:position] == 1).all()
        assert not self.sink.written[:begin].any()
        assert not self.sink.written[position:].any()

    @invariant()
    def it_asks_for_exactly_what_is_missing(self) -> None:
        receiver = self.stream.receiver
        if self.request is None:
            assert receiver.complete
        elif not receiver.answered or self.request.read_offset == receiver.position:
            limit = self.request.read_limit or FILE.size - self.request.read_offset
            assert self.request.read_offset + limit == receiver.end
            assert self.request.expected_digest == FILE.digest


TestAnySequence = Download.TestCase
TestAnySequence.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
