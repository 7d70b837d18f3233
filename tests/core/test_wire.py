"""Checksums and varints, which stand once for both sides of the wire."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from initcore.wire.checksum import crc32c
from initcore.wire.varint import read_varint, write_varint
from initserve.v1 import service_pb2


@pytest.mark.parametrize("implementation", ["c", "python"])
def test_checksums_are_those_of_the_bytes_in_any_part_of_an_array(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google_crc32c, "implementation", implementation)
    array = np.arange(1000, dtype=np.uint8)
    assert crc32c(array[3:998].data) == google_crc32c.value(array[3:998].tobytes())
    # The known answer of RFC 3720, B.4: 32 bytes of zeros.
    assert crc32c(memoryview(bytes(32))) == 0x8A9136AA


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_a_checksum_goes_on_where_the_one_before_ended(data: bytes, cut: int) -> None:
    view = memoryview(data)
    assert crc32c(view[cut:], crc32c(view[:cut])) == google_crc32c.value(data)


@given(value=st.integers(0, 2**64 - 1), before=st.binary(max_size=3), after=st.binary(max_size=3))
@example(value=0, before=b"", after=b"")
@example(value=2**64 - 1, before=b"", after=b"\xff")
def test_a_varint_is_the_generated_codes_and_is_read_back(
    value: int, before: bytes, after: bytes
) -> None:
    raw = write_varint(value)
    message = service_pb2.Chunk(offset=value).SerializeToString()
    assert (b"\x08" + raw if value else b"") == message
    assert read_varint(before + raw + after, len(before)) == (value, len(before) + len(raw))


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"\xff" * 9, b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"]
)
def test_a_varint_without_an_end_or_beyond_64_bits_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="does not end, at byte 0"):
        read_varint(raw, 0)
