"""The hand-written parser reads what the generated code reads, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from initclient._transport.messages import IncomingChunk, parse_response
from initserve.v1 import service_pb2

OFFSETS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**63])
CHUNKS = st.builds(
    service_pb2.Chunk,
    offset=OFFSETS,
    data=st.binary(max_size=300),
    crc32c=st.integers(0, 2**32 - 1),
)


def read(raw: bytes) -> service_pb2.FetchResponse:
    """The parsed chunk as a message."""
    found = parse_response(raw)
    if isinstance(found, IncomingChunk):
        chunk = service_pb2.Chunk(offset=found.offset, data=bytes(found.data), crc32c=found.crc32c)
        return service_pb2.FetchResponse(chunk=chunk)
    if isinstance(found, service_pb2.Working):
        return service_pb2.FetchResponse(working=found)
    return service_pb2.FetchResponse(info=found)


@given(chunk=CHUNKS)
def test_chunks(chunk: service_pb2.Chunk) -> None:
    message = service_pb2.FetchResponse(chunk=chunk)
    assert read(message.SerializeToString()) == message


def test_the_data_of_a_chunk_is_not_copied() -> None:
    message = service_pb2.FetchResponse(chunk=service_pb2.Chunk(offset=5, data=bytes(1000)))
    raw = message.SerializeToString()
    found = parse_response(raw)
    assert isinstance(found, IncomingChunk)
    assert found.data.obj is raw


@given(size=st.integers(0, 2**64 - 1), digest=st.text(max_size=80), warnings=st.lists(st.text()))
def test_infos(size: int, digest: str, warnings: list[str]) -> None:
    info = service_pb2.FileInfo(total_size=size, plan_digest=digest, warnings=warnings)
    message = service_pb2.FetchResponse(info=info)
    assert read(message.SerializeToString()) == message


@given(chunk=CHUNKS, other=CHUNKS, rest=st.binary(max_size=40))
def test_the_same_fields_in_any_other_form(
    chunk: service_pb2.Chunk, other: service_pb2.Chunk, rest: bytes
) -> None:
    """Twice, in another order, with fields of a later version, or anything behind it."""
    one = service_pb2.FetchResponse(chunk=chunk).SerializeToString()
    two = service_pb2.FetchResponse(chunk=other).SerializeToString()
    parts = [
        service_pb2.Chunk(crc32c=chunk.crc32c).SerializeToString(),
        service_pb2.Chunk(data=chunk.data).SerializeToString(),
        service_pb2.Chunk(offset=chunk.offset).SerializeToString(),
        b"\x7a\x03new",
    ]
    inner = b"".join(parts)
    for raw in (one + two, one + rest, b"\x12" + bytes([len(inner) % 128]) + inner, rest):
        same_or_refused(raw)


@given(chunk=CHUNKS, data=st.data())
def test_damaged_messages(chunk: service_pb2.Chunk, data: st.DataObject) -> None:
    raw = bytearray(service_pb2.FetchResponse(chunk=chunk).SerializeToString())
    if raw:
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
        same_or_refused(bytes(raw))
        same_or_refused(bytes(raw[:at]))


def same_or_refused(raw: bytes) -> None:
    try:
        expected = service_pb2.FetchResponse.FromString(raw)
    except Exception:
        with pytest.raises(ValueError, match="not a message"):
            parse_response(raw)
        return
    expected.DiscardUnknownFields()
    expected.chunk.DiscardUnknownFields() if expected.HasField("chunk") else None
    found = read(raw)
    found.DiscardUnknownFields()
    assert found == expected
