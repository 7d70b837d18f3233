"""Damaged, reordered, short, long or foreign data is an error: never a value, never a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import initclient as ic
import pytest
from initcore import layout
from initserve.v1 import service_pb2

from tests.client.servers import Changed, Response, serving

PLAN = ic.Plan({"w": ic.normal((40, 30)), "b": ic.zeros((10,))}, seed=1)
ONCE = ic.Retry(attempts=1)
SOON = ic.Retry(base_delay=0.001)


def seal(message: Response) -> None:
    """Makes the checksum right again."""
    message.chunk.crc32c = google_crc32c.value(message.chunk.data)


def flip_a_byte(messages: list[Response]) -> None:
    data = bytearray(messages[3].chunk.data)
    data[17] ^= 4
    messages[3].chunk.data = bytes(data)


def flip_a_checksum(messages: list[Response]) -> None:
    messages[2].chunk.crc32c ^= 1


def shift_an_offset(messages: list[Response]) -> None:
    messages[2].chunk.offset += 8


def swap_chunks(messages: list[Response]) -> None:
    messages[2], messages[3] = messages[3], messages[2]


def skip_a_chunk(messages: list[Response]) -> None:
    del messages[3]


def repeat_a_chunk(messages: list[Response]) -> None:
    messages.insert(3, messages[3])


def end_early(messages: list[Response]) -> None:
    del messages[-1]


def end_before_the_info(messages: list[Response]) -> None:
    messages.clear()


def end_after_the_info(messages: list[Response]) -> None:
    del messages[1:]


def send_too_much(messages: list[Response]) -> None:
    messages[-1].chunk.data += b"\0"
    seal(messages[-1])


def send_one_more_chunk(messages: list[Response]) -> None:
    last = messages[-1].chunk
    messages.append(
        Response(chunk=service_pb2.Chunk(offset=last.offset + len(last.data), data=b"\0"))
    )
    seal(messages[-1])


def another_digest(messages: list[Response]) -> None:
    messages[0].info.plan_digest = "0" * 64


def another_size(messages: list[Response]) -> None:
    messages[0].info.total_size += 1


def another_stream_version(messages: list[Response]) -> None:
    messages[0].info.stream_version = 2


def another_header(messages: list[Response]) -> None:
    messages[1].chunk.data = messages[1].chunk.data.replace(b'"w"', b'"v"')
    seal(messages[1])


def no_info(messages: list[Response]) -> None:
    del messages[0]


def info_twice(messages: list[Response]) -> None:
    messages.insert(2, messages[0])


def nothing_known(messages: list[Response]) -> None:
    messages.insert(2, Response())


DAMAGE = {
    flip_a_byte: "CRC-32C",
    flip_a_checksum: "CRC-32C",
    shift_an_offset: "byte 1000 must come next",
    swap_chunks: "must come next",
    skip_a_chunk: "byte 2000 must come next",
    repeat_a_chunk: "must come next",
    end_early: "ended the file early",
    end_before_the_info: "0 of",
    end_after_the_info: "0 of",
    send_too_much: "past the end 5136 of the requested range",
    another_digest: "plan digest 0000",
    another_size: "file size",
    another_stream_version: "stream version 2",
    another_header: "another header",
    no_info: "before the file's info",
    info_twice: "after the file's info",
    nothing_known: "an unknown one",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found(damage: Callable[[list[Response]], Any], tmp_path: Path) -> None:
    with serving(Changed(lambda messages, context: damage(messages))) as target:
        with pytest.raises(ic.IntegrityError, match=DAMAGE[damage]) as caught:
            ic.fetch(PLAN, target=target, retry=ONCE)
        if damage not in (flip_a_byte, another_header):
            assert target in str(caught.value)
        with pytest.raises(ic.IntegrityError):
            ic.fetch_file(PLAN, tmp_path / "out.safetensors", target=target, retry=ONCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_repaired(damage: Callable[[list[Response]], Any], tmp_path: Path) -> None:
    expected = ic.fetch_file(PLAN, tmp_path / "here").read_bytes()
    server = Changed(lambda messages, context: damage(messages), times=1)
    with serving(server) as target:
        path = ic.fetch_file(PLAN, tmp_path / "there", target=target, retry=SOON)
    assert path.read_bytes() == expected
    first, second = server.requests
    assert second[1].expected_digest == layout(PLAN).digest
    assert second[1].plan == first[1].plan


def test_damage_that_does_not_end_is_given_up_and_leaves_nothing(tmp_path: Path) -> None:
    def damage(messages: list[Response], context: grpc.ServicerContext) -> None:
        messages[1].chunk.crc32c ^= 1

    server = Changed(damage)
    retry = ic.Retry(attempts=5, base_delay=0.001)
    with (
        serving(server) as target,
        pytest.raises(ic.IntegrityError, match=r"CRC-32C.*gave up after 5 calls in .* s; 0 of 51"),
    ):
        ic.fetch_file(PLAN, tmp_path / "out", target=target, retry=retry)
    assert len(server.requests) == 5
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_whole_file_is_not_looked_at() -> None:
    """Messages after the last byte of the file are ignored."""
    expected = ic.fetch(PLAN)["w"].tobytes()
    with serving(Changed(lambda messages, context: send_one_more_chunk(messages))) as target:
        assert ic.fetch(PLAN, target=target, retry=ONCE)["w"].tobytes() == expected


def test_an_undamaged_stream_in_odd_pieces_is_fine(tmp_path: Path) -> None:
    with serving(Changed(lambda messages, context: None)) as target:
        there = ic.fetch_file(PLAN, tmp_path / "there", target=target)
    assert there.read_bytes() == ic.fetch_file(PLAN, tmp_path / "here").read_bytes()


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    path.write_text("precious")
    with (
        serving(Changed(lambda messages, context: end_early(messages))) as target,
        pytest.raises(ic.IntegrityError),
    ):
        ic.fetch_file(PLAN, path, target=target, retry=ONCE)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_connection_says_how_far_it_came(tmp_path: Path) -> None:
    def break_off(messages: list[Response], context: grpc.ServicerContext) -> Any:
        yield from messages[:3]
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    with (
        serving(Changed(break_off)) as target,
        pytest.raises(ic.TransportError, match=r"after 2000 of \d+ bytes.*going away"),
    ):
        ic.fetch_file(PLAN, tmp_path / "out", target=target, retry=ONCE)
    assert list(tmp_path.iterdir()) == []


def test_a_description_of_other_tensors_is_refused() -> None:
    with (
        serving(Changed(lambda messages, context: None)) as target,
        pytest.raises(ic.IntegrityError, match="describes 1 tensors of this plan, which has 2"),
    ):
        ic.describe(PLAN, target=target)
