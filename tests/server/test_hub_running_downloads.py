"""A folder that changes under a running download: the old bytes go on, or the body ends early."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import initclient as ic
import pytest
from initcore import Plan, dump_plan, normal
from initserver import Server

from tests.server.hub import ask, put, serving
from tests.server.processes import wait_for

# Larger than what connections hold on their way.
SIZE = 64 << 20
WEIGHTS = "/m/resolve/main/model.safetensors"
TOKENIZER = "/m/resolve/main/tokenizer.json"


def a_plan(seed: int) -> Plan:
    return Plan({"w": normal((SIZE >> 14, 1 << 12))}, seed=seed)


def file_of(plan: Plan, folder: Path) -> bytes:
    path = ic.fetch_file(plan, folder, shard_size="5GB", target="local")
    return (path / "model.safetensors").read_bytes()


def replace(place: Path, write: Callable[[Path], object]) -> None:
    """Puts a new file in the place of another, as programs do that write with care."""
    new = place.with_name(f".{place.name}.new")
    write(new)
    os.replace(new, place)


@contextmanager
def reading(server: Server, path: str) -> Iterator[Callable[[], bytes]]:
    """A download of which little has arrived; the rest, to the end of the connection, on call."""
    host, _, port = server.hub_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(1000)
        head, _, begun = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert f"Content-Length: {size_of(server, path)}".encode() in head

        def rest() -> bytes:
            body = bytearray(begun)
            while data := client.recv(1 << 20):
                body += data
            return bytes(body)

        yield rest


def etag(server: Server, path: str) -> str:
    return str(ask(server, path, "HEAD").headers["ETag"])


def size_of(server: Server, path: str) -> int:
    return int(ask(server, path, "HEAD").headers["Content-Length"])


def test_a_download_goes_on_with_the_plan_that_it_began_with(tmp_path: Path) -> None:
    old, new = a_plan(1), a_plan(2)
    place = put(tmp_path / "models" / "m", old)
    expected = {plan: file_of(plan, tmp_path / plan.digest) for plan in (old, new)}
    with serving(tmp_path / "models") as server:
        before = etag(server, WEIGHTS)
        with reading(server, WEIGHTS) as rest:
            replace(place / "plan.yaml", lambda path: dump_plan(new, path))
            wait_for(lambda: etag(server, WEIGHTS) != before)
            # All others have the new plan by now.
            assert ask(server, WEIGHTS).body == expected[new]
            assert rest() == expected[old]


def test_a_download_that_resumes_after_a_change_begins_anew(tmp_path: Path) -> None:
    """RFC 9110, 13.1.1 and 13.1.5: a part of the old file never follows a part of the new one."""
    old, new = a_plan(1), a_plan(2)
    place = put(tmp_path / "models" / "m", old)
    whole = file_of(new, tmp_path / "new")
    with serving(tmp_path / "models") as server:
        before = etag(server, WEIGHTS)
        commit = ask(server, WEIGHTS, "HEAD").headers["X-Repo-Commit"]
        replace(place / "plan.yaml", lambda path: dump_plan(new, path))
        wait_for(lambda: etag(server, WEIGHTS) != before)
        after = etag(server, WEIGHTS)
        # With the tag of the old file the range is ignored: the client gets the new file whole.
        reply = ask(server, WEIGHTS, Range="bytes=1000-1999", If_Range=before)
        assert (reply.status, reply.body) == (200, whole)
        assert reply.headers["ETag"] == after
        assert "Content-Range" not in reply.headers
        # A client that wants the old file or nothing gets nothing.
        reply = ask(server, WEIGHTS, Range="bytes=1000-1999", If_Match=before)
        assert (reply.status, reply.headers["ETag"]) == (412, after)
        assert whole[1000:1100] not in reply.body
        # The commit names the old file, which goes on.
        path = f"/m/resolve/{commit}/model.safetensors"
        reply = ask(server, path, Range="bytes=1000-1999", If_Match=before)
        assert (reply.status, reply.headers["ETag"]) == (206, before)
        assert reply.body == file_of(old, tmp_path / "old")[1000:2000]
        for condition in ({"If_Range": after}, {"If_Match": after}, {}):
            reply = ask(server, WEIGHTS, Range="bytes=1000-1999", **condition)
            assert (reply.status, reply.headers["ETag"]) == (206, after)
            assert reply.body == whole[1000:2000]


@pytest.mark.parametrize("change", ["replaced", "written in place", "cut", "removed"])
def test_a_file_that_changes_is_sent_as_it_was_or_ends_early(tmp_path: Path, change: str) -> None:
    """Never bytes of both. A body that ends early is shorter than its length, so clients see it."""
    old, new = b"a" * SIZE, b"b" * SIZE
    place = put(tmp_path / "m", Plan({"w": normal((3, 3))})) / "tokenizer.json"
    place.write_bytes(old)
    with serving(tmp_path) as server:
        before = etag(server, TOKENIZER)
        with reading(server, TOKENIZER) as rest:
            if change == "replaced":
                replace(place, lambda path: path.write_bytes(new))
            elif change == "written in place":
                with place.open("r+b") as file:
                    file.write(new)
            elif change == "cut":
                os.truncate(place, SIZE // 4)
            else:
                place.unlink()
            body = rest()
        assert body == old[: len(body)]
        # A file that was opened before stays to its end, if it was replaced or removed.
        assert (len(body) == SIZE) == (change in ("replaced", "removed"))
        if change != "removed":
            wait_for(lambda: etag(server, TOKENIZER) not in (before, "None"))
            assert ask(server, TOKENIZER).body == place.read_bytes()
            reply = ask(server, TOKENIZER, Range="bytes=0-9", If_Range=before)
            assert (reply.status, reply.body) == (200, place.read_bytes())
            assert ask(server, TOKENIZER, Range="bytes=0-9", If_Match=before).status == 412
