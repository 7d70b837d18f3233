"""Files that rotate, in every way: the last good value stays, and the next good one is taken."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initserver.net import watched_files
from initserver.net.watched_files import WatchedFiles
from initserver.rpc.tokens import Tokens

from tests.server.certificates import Authority
from tests.server.test_security_tls import serving, shown

ROOT = Authority()

# Within so many seconds a good file is in use; on a loaded machine there is time.
SOON = 20.0


def soon(value: Callable[[], object], wanted: object) -> None:
    """Waits until a value is the wanted one."""
    deadline = time.monotonic() + SOON
    while value() != wanted:
        assert time.monotonic() < deadline, f"it is still {value()!r}, not {wanted!r}"
        time.sleep(0.02)


def load(contents: Sequence[bytes]) -> bytes:
    """A file is good if it ends in "end", with or without a line's end."""
    text = contents[0].rstrip(b"\n")
    if not text.endswith(b"end"):
        raise ValueError("it is not whole")
    return text


def write_in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def rename_over(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    os.replace(other, path)


def swap_the_folder(path: Path, content: bytes) -> None:
    """As Kubernetes does: the file is a link through ..data, which is replaced."""
    version = Path(tempfile.mkdtemp(dir=path.parent))
    (version / path.name).write_bytes(content)
    link = path.parent / "..next"
    link.symlink_to(version.name)
    os.replace(link, path.parent / "..data")
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(Path("..data", path.name))


def keep_the_old_times(path: Path, content: bytes) -> None:
    found = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def go_back_in_time(path: Path, content: bytes) -> None:
    rename_over(path, content)
    os.utime(path, ns=(0, 10**9))


def come_from_the_future(path: Path, content: bytes) -> None:
    write_in_place(path, content)
    later = time.time_ns() + 10**13
    os.utime(path, ns=(later, later))


WAYS = [
    write_in_place,
    rename_over,
    swap_the_folder,
    keep_the_old_times,
    go_back_in_time,
    come_from_the_future,
]


def remove(path: Path) -> None:
    path.unlink()


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_half_written(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def be_empty(path: Path) -> None:
    path.write_bytes(b"")


OUTAGES = [remove, dangle, become_a_folder, be_half_written, be_empty]

Step: TypeAlias = tuple[Callable[[Path], None] | None, Callable[[Path, bytes], None]]
STEPS = st.lists(st.tuples(st.sampled_from([None, *OUTAGES]), st.sampled_from(WAYS)), max_size=5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses, for many examples."""
    for name, seconds in (("_UNSETTLED", 0.05), ("_REREAD", 0.02), ("_RETRY", 0.02)):
        monkeypatch.setattr(watched_files, name, seconds)
    monkeypatch.setattr(watched_files, "SETTLED", 0.05)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
@pytest.mark.usefixtures("quick")
def test_the_last_good_value_stays_and_the_next_one_is_taken(
    steps: list[Step],
) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "file"
    path.write_bytes(b"version 0 end\n")
    try:
        watched = WatchedFiles("the file", [str(path)], load)
        good = b"version 0 end"
        for number, (outage, way) in enumerate(steps, 1):
            if outage is not None:
                outage(path)
                for _ in range(3):
                    assert watched.current() == good
                # Files that are not whole stay refused, however long they stay.
                time.sleep(0.03)
                assert watched.current() == good
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            if not path.exists():
                path.unlink(missing_ok=True)
                write_in_place(path, b"")
            good = b"version %d end" % number
            way(path, good + b"\n")
            soon(watched.current, good)
    finally:
        shutil.rmtree(folder)


def test_times_that_never_change_hide_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system whose times are coarse, and a file of the same size."""
    path = tmp_path / "file"
    path.write_bytes(b"one end")
    watched = WatchedFiles("the file", [str(path)], load)
    same = watched._sign()
    monkeypatch.setattr(watched, "_sign", lambda: same)
    monkeypatch.setattr(watched_files, "_UNSETTLED", 0.0)
    path.write_bytes(b"two end")
    soon(watched.current, b"two end")


def test_contents_that_were_refused_are_tried_again(tmp_path: Path) -> None:
    """The reason may have been the moment, and not the contents."""
    path = tmp_path / "file"
    path.write_bytes(b"one end")
    calls = itertools.count()

    def moody(contents: Sequence[bytes]) -> bytes:
        if next(calls) in (1, 2):
            raise OSError(5, "Input/output error")
        return load(contents)

    watched = WatchedFiles("the file", [str(path)], moody)
    path.write_bytes(b"two end")
    assert watched.current() == b"one end"
    soon(watched.current, b"two end")


def test_a_certificate_that_is_not_valid_yet_comes_into_use_when_it_is(tmp_path: Path) -> None:
    old = ROOT.sign("old")
    with serving(tmp_path, old) as server:
        new = ROOT.sign("new", begins=3 / 86400)
        new.write(tmp_path, "server")
        assert shown(server) == old.cert.decode()
        soon(lambda: shown(server), new.cert.decode())


def test_the_pair_is_used_when_both_of_its_files_are_there(tmp_path: Path) -> None:
    old, new = ROOT.sign("old"), ROOT.sign("new")
    with serving(tmp_path, old) as server:
        (tmp_path / "server.crt").write_bytes(new.cert)
        for _ in range(3):
            assert shown(server) == old.cert.decode()
        (tmp_path / "server.key").write_bytes(new.key)
        soon(lambda: shown(server), new.cert.decode())


@pytest.mark.parametrize("cut", ["first-token\nsecond-to", "first-token\n", "", "first-token\nsec"])
def test_a_token_file_that_is_being_written_keeps_its_tokens(cut: str, tmp_path: Path) -> None:
    """Half a token is no token, and the tokens that are not written yet stay accepted."""
    path = tmp_path / "tokens"
    path.write_text("first-token\nsecond-token\n")
    path.chmod(0o600)
    tokens = Tokens(str(path))
    path.write_text(cut)
    began = time.monotonic()
    known = {name: tokens.caller(name.encode()) for name in ("first-token", "second-token")}
    half = tokens.caller(b"second-to")
    if time.monotonic() - began < 1.5:
        assert known == {"first-token": "", "second-token": ""}
        assert half is None
    path.write_text("first-token\nsecond-token\nthird-token\n")
    soon(lambda: tokens.caller(b"third-token"), "")
    assert tokens.caller(b"second-token") == ""


def test_a_token_file_that_stays_short_is_meant_that_way(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("first-token\nsecond-token\n")
    path.chmod(0o600)
    tokens = Tokens(str(path))
    path.write_text("first-token\n")
    soon(lambda: tokens.caller(b"second-token"), None)
    assert tokens.caller(b"first-token") == ""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    assert tokens.caller(b"first-token") == ""
