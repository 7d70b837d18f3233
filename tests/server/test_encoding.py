"""Chunks written by hand are exactly what the generated code writes."""

from __future__ import annotations

import google_crc32c
from hypothesis import example, given
from hypothesis import strategies as st
from initserve.v1 import service_pb2
from initserver.wire.encoding import OutgoingChunk, serialize_response

U64 = st.integers(0, 2**64 - 1) | st.integers(0, 64).map(lambda bits: (1 << bits) - 1)


@given(offset=U64, data=st.binary(max_size=300))
@example(offset=0, data=b"")
@example(offset=127, data=bytes(127))
@example(offset=2**63, data=bytes(1 << 20))
@example(offset=1, data=bytes.fromhex("ab9be09b"))  # its checksum is 0
def test_a_chunk_has_the_bytes_of_the_generated_code(offset: int, data: bytes) -> None:
    message = service_pb2.FetchResponse(
        chunk=service_pb2.Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
    )
    chunk = OutgoingChunk.of(offset, memoryview(data))
    sent = serialize_response(chunk)
    assert sent == message.SerializeToString()
    assert (bytes(chunk.data), chunk.nbytes) == (data, len(sent))
    # grpc hangs a stream whose serializer returns anything else.
    assert type(sent) is bytes


@given(data=st.binary(max_size=300), begin=st.integers(0, 300), end=st.integers(0, 300))
def test_a_part_of_a_chunk_is_the_chunk_of_that_part(data: bytes, begin: int, end: int) -> None:
    begin, end = sorted((min(begin, len(data)), min(end, len(data))))
    part = OutgoingChunk.of(1000, memoryview(data)).part(1000 + begin, 1000 + end)
    assert part.message == OutgoingChunk.of(1000 + begin, memoryview(data[begin:end])).message


def test_an_info_has_the_bytes_of_the_generated_code() -> None:
    message = service_pb2.FetchResponse(info=service_pb2.FileInfo(total_size=5, warnings=["a"]))
    assert serialize_response(message) == message.SerializeToString()
