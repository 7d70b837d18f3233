"""Revisions of models: what they cover, what changes them, and what a change leaves readable."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import initclient as ic
import pytest
from initcore import Plan
from initcore.machine import SETTLED
from initserver import Server
from initserver.config import Limits
from initserver.hub import folders
from initserver.hub.answers import HubError
from initserver.hub.revisions import Revisions
from initserver.models import (
    Blob,
    BlobChangedError,
    Models,
    ModelSettings,
    blob_id,
    blob_of,
    parse_settings,
)

from tests.server.hub import Reply, ask, llama, put, serving
from tests.server.processes import wait_for


def revisions(folder: Path) -> Revisions:
    return Revisions(Models(str(folder), Limits()), Limits())


def commit(server: Server, name: str = "m", revision: str = "main") -> str:
    return head(server, "config.json", revision, name).headers["X-Repo-Commit"]


def head(server: Server, file: str, revision: str = "main", name: str = "m") -> Reply:
    return ask(server, f"/{name}/resolve/{revision}/{file}", "HEAD")


def weights_of(server: Server, revision: str) -> bytes:
    body = ask(server, f"/m/resolve/{revision}/model.safetensors").body
    return body[8 + int.from_bytes(body[:8], "little") :]


def data_of(plan: Plan) -> bytes:
    return b"".join(value.tobytes() for value in ic.fetch(plan).values())


def test_replicas_have_the_same_commits_and_tags(tmp_path: Path) -> None:
    first = put(tmp_path / "a" / "m", llama(), "seeds: open\n")
    shutil.copytree(first, tmp_path / "b" / "m")
    one, other = revisions(tmp_path / "a"), revisions(tmp_path / "b")
    for revision in ("main", "seed-0", f"seed-{2**64 - 1}"):
        found = one.get("m", revision)
        assert found.commit == other.get("m", revision).commit
        assert {f.path: f.etag for f in found.files.values()} == {
            f.path: f.etag for f in other.get("m", revision).files.values()
        }
    # A replica that has just started knows the commits of open seeds too.
    late = revisions(tmp_path / "a")
    assert late.get("m", one.get("m", "seed-9").commit).seed == 9


def test_a_revision_covers_plan_files_and_layout(tmp_path: Path) -> None:
    commits = set()
    for number, (plan, settings, files) in enumerate(
        [
            (llama(), "", {}),
            (llama(seed=8), "", {}),
            (llama(), "shard_size: 20KB\n", {}),
            (llama(), "shard_size: 21KB\n", {}),
            (llama(), "seeds: open\n", {}),
            (llama(), "", {"tokenizer_json": "{}"}),
            (llama(), "", {"tokenizer_json": "[]"}),
        ]
    ):
        put(tmp_path / str(number) / "m", plan, settings, **files)
        commits.add(revisions(tmp_path / str(number)).get("m").commit)
    assert len(commits) == 7


def test_an_open_seed_is_a_revision(tmp_path: Path) -> None:
    put(tmp_path / "m", llama(seed=7), "seeds: open\n")
    with serving(tmp_path) as server:
        assert weights_of(server, "seed-11") == data_of(llama(seed=11))
        assert weights_of(server, commit(server, revision="seed-11")) == data_of(llama(seed=11))
        assert weights_of(server, "main") == weights_of(server, "seed-7") == data_of(llama())
        assert commit(server, revision="seed-7") == commit(server)
        assert head(server, "plan.yaml", "seed-7").status == 200
        # Its seed is another one.
        assert head(server, "plan.yaml", "seed-11").code == "EntryNotFound"
        tags = {head(server, "model.safetensors", f"seed-{n}").headers["ETag"] for n in range(9)}
        assert len(tags) == 9
        for wrong in ("seed-", "seed-01", "seed--1", "seed-1.0", f"seed-{2**64}", "seed-1x"):
            assert head(server, "config.json", wrong).code == "RevisionNotFound"


def test_the_seed_is_fixed_unless_the_folder_opens_it(tmp_path: Path) -> None:
    put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        reply = ask(server, "/m/resolve/seed-11/config.json")
        assert reply.code == "RevisionNotFound"
        assert "seeds: open" in reply.json()["error"]


def test_a_changed_model_has_another_commit_and_the_one_before_goes_on(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama(seed=7))
    with serving(tmp_path) as server:
        before = commit(server)
        put(place, llama(seed=8))
        wait_for(lambda: commit(server) != before)
        assert weights_of(server, "main") == data_of(llama(seed=8))
        assert weights_of(server, before) == data_of(llama(seed=7))
        # Its own files have the same contents, but for the plan.
        assert head(server, "config.json", before).status == 200
        assert head(server, "plan.yaml", before).code == "RevisionNotFound"


def test_a_changed_file_is_not_sent_under_the_old_commit(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "config.json").write_text("{}")
        wait_for(lambda: commit(server) != before)
        assert ask(server, "/m/resolve/main/config.json").body == b"{}"
        assert head(server, "config.json", before).code == "RevisionNotFound"
        assert head(server, "model.safetensors", before).status == 200


def test_files_that_are_being_written_leave_the_revision(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "config.json").write_text('{"half')
        time.sleep(1.2)
        (place / "config.json").write_text('{"half of')  # still at it, however late this is
        assert commit(server) == before
        # The old contents are gone: clients are asked to come again, and get no wrong bytes.
        reply = ask(server, "/m/resolve/main/config.json")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        (place / "config.json").write_text(json.dumps({"whole": True}))
        wait_for(lambda: commit(server) != before)
        assert ask(server, "/m/resolve/main/config.json").json() == {"whole": True}


def test_a_file_that_is_removed_and_written_anew_is_never_missing(tmp_path: Path) -> None:
    """Without it a client would go on as if the model had no such file."""
    place = put(tmp_path / "m", llama(), tokenizer_json="{}")
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "tokenizer.json").unlink()
        time.sleep(1.2)
        os.utime(place)  # as if it had been removed just now, however late this is
        assert commit(server) == before
        assert ask(server, "/m/resolve/main/tokenizer.json").status == 503
        (place / "tokenizer.json").write_text("[]")
        wait_for(lambda: commit(server) != before)
        assert ask(server, "/m/resolve/main/tokenizer.json").body == b"[]"
        after = commit(server)
        (place / "tokenizer.json").unlink()
        wait_for(lambda: commit(server) != after)
        assert head(server, "tokenizer.json").code == "EntryNotFound"


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(tmp_path / "m", llama())
    put(tmp_path / "new", llama(), vocab_json="{}")

    def refusing(path: str) -> Blob:
        # As a file of another user; the tests may run as root, who may read all.
        if path.endswith("vocab.json"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return blob_of(path)

    monkeypatch.setattr(folders, "blob_of", refusing)
    reason = "vocab.json cannot be read: Permission denied"
    with serving(tmp_path) as server:
        reply = ask(server, "/new/resolve/main/config.json")
        assert (reply.status, reason in reply.json()["error"]) == (503, True)
        before = commit(server)
        (place / "vocab.json").write_text("{}")
        wait_for(
            lambda: commit(server) == before and f"model m are not read: {reason}" in caplog.text
        )
        assert weights_of(server, "main") == data_of(llama())


def test_a_change_with_a_time_in_the_future_is_seen(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "config.json").write_text("{}")
        put(tmp_path / "new", llama())
        for path in (place / "config.json", tmp_path / "new" / "plan.yaml"):
            os.utime(path, (time.time() + 1e6, time.time() + 1e6))
        wait_for(lambda: commit(server) != before)
        wait_for(lambda: head(server, "config.json", name="new").status == 200)


def test_callers_share_looks_at_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown commits, and a folder that cannot be served, cost no look for each request."""
    put(tmp_path / "m", llama())
    put(tmp_path / "wrong", llama(), "seeds: maybe\n")
    looks: Counter[str] = Counter()

    def slow(path: str) -> Blob:
        looks[path] += 1
        time.sleep(0.05)
        return blob_of(path)

    found = revisions(tmp_path)
    found.get("m")
    monkeypatch.setattr(folders, "blob_of", slow)

    def ask_for(number: int) -> str:
        with pytest.raises(HubError) as error:
            found.get("wrong" if number % 2 else "m", "0" * 40)
        return error.value.message

    with ThreadPoolExecutor(32) as pool:
        messages = set(pool.map(ask_for, range(32)))
    assert len(messages) == 2
    assert any("seeds is 'maybe'" in message for message in messages)
    # All files are young, and are hashed at each look: 16 times if each caller looked.
    assert looks[str(tmp_path / "m" / "config.json")] <= 8
    assert looks[str(tmp_path / "wrong" / "config.json")] <= 8


def test_a_wrong_plan_leaves_the_revision(tmp_path: Path) -> None:
    place = put(tmp_path / "m", llama())
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "plan.yaml").write_text("tensors: [")
        (place / "config.json").write_text("{}")
        time.sleep(1.2)
        assert commit(server) == before
        assert weights_of(server, "main") == data_of(llama())


def test_the_swap_of_a_config_map_changes_all_files_together(tmp_path: Path) -> None:
    place = tmp_path / "models" / "m"
    for number in (1, 2):
        put(place / f"..{number}", llama(seed=number))
        (place / f"..{number}" / "config.json").write_text(f'{{"n": {number}}}')
    (place / "..data").symlink_to("..1")
    for name in ("plan.yaml", "config.json"):
        (place / name).symlink_to(f"..data/{name}")
    with serving(tmp_path / "models") as server:
        before = commit(server)
        # As a kubelet, which writes all files before it swaps the link.
        time.sleep(SETTLED + 0.2)
        (place / "..new").symlink_to("..2")
        (place / "..new").rename(place / "..data")
        pairs = set()

        def look() -> bool:
            found = commit(server)
            config = ask(server, f"/m/resolve/{found}/config.json")
            if config.status == 200:
                pairs.add((found, config.body, weights_of(server, found)))
            return found != before

        wait_for(look)
        old, new = ((b'{"n": %d}' % n, data_of(llama(seed=n))) for n in (1, 2))
        found = {(config, weights) for _, config, weights in pairs}
        assert found - {old} == {new}
        assert weights_of(server, "main") == data_of(llama(seed=2))


def test_files_outside_the_folder_and_odd_ones_are_not_served(tmp_path: Path) -> None:
    place = put(tmp_path / "models" / "m", llama())
    (tmp_path / "secret.txt").write_text("secret")
    (place / "link.txt").symlink_to(tmp_path / "secret.txt")
    (place / "loop.txt").symlink_to("loop.txt")
    (place / "model.safetensors").write_text("not the plan's")
    (place / "folder").mkdir()
    (place / "odd name").write_text("x")
    (place / ".hidden").write_text("x")
    os.mkfifo(place / "pipe")
    with serving(tmp_path / "models") as server:
        info = ask(server, "/api/models/m").json()
        names = {one["rfilename"] for one in info["siblings"]}
        assert names == {"config.json", "model.safetensors", "plan.yaml"}
        assert weights_of(server, "main") == data_of(llama())
        for name in ("link.txt", "pipe", "folder", ".hidden", "odd%20name", "loop.txt"):
            assert head(server, name).code == "EntryNotFound"


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * (3 << 20))
    blob = blob_of(str(path))
    pieces = blob.read(10, 3 << 20)
    assert len(next(pieces)) == (1 << 20) - 10
    path.write_bytes(b"b" * (3 << 20))
    with pytest.raises(BlobChangedError):
        next(pieces)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BlobChangedError):
        next(blob.read(0, 10))


def test_the_id_of_contents_is_that_of_git(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    # git hash-object
    assert (
        blob_of(str(path)).oid == blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shard_size: 0\n", "shard_size is 0"),
        ("shard_size: big\n", "shard_size is 'big'"),
        ("seeds: maybe\n", "seeds is 'maybe'"),
        ("seed: 7\n", "the key 'seed'"),
        ("- 1\n", "has no keys"),
        ("{", "is no YAML"),
        ("\x00", "is no YAML"),
    ],
)
def test_wrong_settings_are_refused_with_key_and_value(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_settings(text.encode())


def test_settings_have_defaults() -> None:
    assert parse_settings(b"") == ModelSettings(5 * 10**9, seeds_are_open=False)
    assert parse_settings(b"shard_size: 1GiB\nseeds: open\n") == ModelSettings(2**30, True)


def test_wrong_settings_leave_the_revision_and_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = put(tmp_path / "m", llama())
    put(tmp_path / "new", llama(), "seeds: maybe\n")
    with serving(tmp_path) as server:
        before = commit(server)
        (place / "initserve.yaml").write_text("shard_size: 0\n")
        wait_for(lambda: commit(server) == before and "shard_size is 0" in caplog.text)
        assert commit(server) == before
        reply = ask(server, "/new/resolve/main/config.json")
        assert (reply.status, "seeds is 'maybe'" in reply.json()["error"]) == (503, True)
