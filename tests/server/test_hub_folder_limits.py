"""A model's folder beyond a limit is refused with the reason; what was served before goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc
import initclient as ic
import pytest
from initserve.v1 import service_pb2, service_pb2_grpc
from initserver import Server
from initserver.hub import folders
from initserver.models import MOST_FILES, blobs

from tests.server.hub import ask, llama, put, serving
from tests.server.processes import wait_for

GIB = 1 << 30


def fill(place: Path) -> str:
    """100 files beside the plan are right, and one of them is there: 100 more."""
    for number in range(MOST_FILES):
        (place / f"{number}.txt").touch()
    return "the folder has 102 entries; a model may have 100 files beside its plan"


def enlarge(place: Path) -> str:
    """A file without a block on the disk, as large as it says."""
    with (place / "tokenizer.json").open("wb") as file:
        file.truncate(GIB + 1)
    return f"tokenizer.json has {GIB + 1} bytes; a file beside a plan may have {GIB}"


BEYOND = pytest.mark.parametrize("go_beyond", [fill, enlarge], ids=["files", "bytes"])
Change = Callable[[Path], str]


def status(server: Server, name: str) -> int:
    return ask(server, f"/{name}/resolve/main/config.json").status


@BEYOND
def test_a_folder_beyond_a_limit_is_refused_with_the_reason(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    go_beyond: Change,
) -> None:
    # Each request looks at the folder.
    monkeypatch.setattr(folders, "_EVERY", 0.0)
    reason = go_beyond(put(tmp_path / "acme" / "beyond", llama()))
    put(tmp_path / "acme" / "small", llama())
    with serving(tmp_path) as server:
        for path in ("/acme/beyond/resolve/main/config.json", "/api/models/acme/beyond"):
            reply = ask(server, path)
            assert (reply.status, reply.code) == (503, None)
            assert reply.json()["error"] == f"the model cannot be served: {reason}"
        assert f"the files of the model acme/beyond are not read: {reason}" in caplog.text
        # Once, not for each look.
        assert caplog.text.count(reason) == 1
        assert status(server, "acme/small") == 200
        assert b"acme/beyond" in ask(server, "/").body
        # Its plan is right, and callers over gRPC need nothing else.
        found = ic.fetch(ic.Model("acme/beyond", digest=llama().digest), target=server.address)
        assert set(found) == set(llama().tensors)


@BEYOND
def test_a_model_that_goes_beyond_a_limit_stays_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, go_beyond: Change
) -> None:
    place = put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        before = ask(server, "/api/models/m").json()
        reason = go_beyond(place)
        wait_for(lambda: status(server, "m") == 200 and reason in caplog.text)
        assert ask(server, "/api/models/m").json() == before
        for name in ("tokenizer.json", *(f"{number}.txt" for number in range(MOST_FILES))):
            (place / name).unlink(missing_ok=True)
        (place / "new.txt").write_text("new")
        wait_for(lambda: ask(server, "/m/resolve/main/new.txt").body == b"new")


def test_as_many_files_as_a_model_may_have_are_served(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama())
    for number in range(MOST_FILES - 1):
        (place / f"{number}.txt").touch()
    with serving(tmp_path) as server:
        names = {one["rfilename"] for one in ask(server, "/api/models/m").json()["siblings"]}
        assert names == {*os.listdir(place), "model.safetensors"}
        with grpc.insecure_channel(server.address) as channel:
            request = service_pb2.GetModelRequest(name="m")
            answer = service_pb2_grpc.InitServiceStub(channel).GetModel(request, timeout=30)
        assert {file.name for file in answer.files} == {*os.listdir(place)} - {"plan.yaml"}


def test_a_file_as_large_as_it_may_be_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert blobs.MOST_BLOB_BYTES == GIB
    monkeypatch.setattr(blobs, "MOST_BLOB_BYTES", 1000)
    (tmp_path / "x").write_bytes(bytes(1000))
    assert blobs.blob_of(str(tmp_path / "x")).size == 1000
    (tmp_path / "x").write_bytes(bytes(1001))
    with pytest.raises(ValueError, match="x has 1001 bytes; a file beside a plan may have 1000"):
        blobs.blob_of(str(tmp_path / "x"))
