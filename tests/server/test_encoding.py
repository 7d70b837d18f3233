"""Chunks written by hand are exactly what the generated code writes."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from initclient._transport.messages import IncomingChunk, parse_response
from initserve.v1 import service_pb2
from initserver.wire.encoding import OutgoingChunk, serialize_response
from numpy.typing import NDArray

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


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 1 << 20, (1 << 21) - 22, 1 << 21])
@pytest.mark.parametrize("offset", [0, 1, 1 << 20, 2**49 - 1, 2**49, 2**63])
def test_a_chunk_that_is_made_in_its_message_is_the_same_message_to_every_parser(
    offset: int, size: int
) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)

    def write(out: NDArray[np.uint8]) -> None:
        assert out.ctypes.data % 8 == 0
        assert len(out) == size
        out[:] = data

    chunk = OutgoingChunk.written(offset, size, write)
    assert (bytes(chunk.data), chunk.nbytes) == (data.tobytes(), len(chunk.message))
    sent = serialize_response(chunk)
    assert type(sent) is bytes
    own = service_pb2.FetchResponse.FromString(sent).chunk
    checksum = google_crc32c.value(data.tobytes())
    assert (own.offset, own.data, own.crc32c) == (offset, data.tobytes(), checksum)
    # The client's parser takes it without a copy, as that of release 0.2.0 does.
    found = parse_response(sent)
    assert isinstance(found, IncomingChunk)
    assert (found.offset, found.crc32c) == (offset, checksum)
    assert found.data.obj is sent or not size
    assert found.data == data.tobytes()
    part = chunk.part(offset + size // 3, offset + size // 2)
    assert part.data == data[size // 3 : size // 2].tobytes()


@given(data=st.binary(max_size=300), begin=st.integers(0, 300), end=st.integers(0, 300))
def test_a_part_of_a_chunk_is_the_chunk_of_that_part(data: bytes, begin: int, end: int) -> None:
    begin, end = sorted((min(begin, len(data)), min(end, len(data))))
    part = OutgoingChunk.of(1000, memoryview(data)).part(1000 + begin, 1000 + end)
    assert part.message == OutgoingChunk.of(1000 + begin, memoryview(data[begin:end])).message


def test_an_info_has_the_bytes_of_the_generated_code() -> None:
    message = service_pb2.FetchResponse(info=service_pb2.FileInfo(total_size=5, warnings=["a"]))
    assert serialize_response(message) == message.SerializeToString()
