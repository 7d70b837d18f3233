"""A poller looks while somebody asks, once a second, and holds nobody up."""

from __future__ import annotations

import threading
import time

import pytest
from initserver.models import polling
from initserver.models.polling import Poller


class Watched:
    """Something to look at: each look takes as long as somebody wants."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def look(self) -> None:
        self.begun += 1
        assert self.may_end.wait(30)
        self.ended += 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(polling, "_EVERY", 0.1)
    return Watched()


def test_a_look_is_made_when_one_is_due_and_somebody_asks(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_EVERY", 60.0)  # for machines that stand still for seconds
    found = Poller(watched.look)
    found.poll()
    assert watched.begun == 0
    monkeypatch.setattr(polling, "_EVERY", 0.1)
    time.sleep(0.15)
    assert watched.begun == 0
    found.poll(wait=True)
    monkeypatch.setattr(polling, "_EVERY", 60.0)
    found.poll(wait=True)
    assert (watched.begun, watched.ended) == (1, 1)


def test_nobody_waits_for_a_long_look(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_OLDEST", 60.0)  # for machines that stand still for seconds
    found = Poller(watched.look)
    watched.may_end.clear()
    time.sleep(0.15)
    began = time.monotonic()
    for _ in range(1000):
        found.poll()
    # If each caller waited for itself, all of them would wait for ten seconds.
    assert time.monotonic() - began < 5
    assert (watched.begun, watched.ended) == (1, 0)
    watched.may_end.set()
    found.close()
    assert watched.ended == 1


def test_everybody_waits_if_nobody_has_looked_for_long(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_OLDEST", 0.2)
    found = Poller(watched.look)
    watched.may_end.clear()
    time.sleep(0.25)
    seen: list[int] = []

    def ask() -> None:
        found.poll()
        seen.append(watched.ended)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for one in askers:
        one.start()
    time.sleep(0.2)
    assert seen == []
    monkeypatch.setattr(polling, "_EVERY", 60.0)  # for an asker that is late
    watched.may_end.set()
    for one in askers:
        one.join(30)
    assert seen == [1, 1, 1]
    assert watched.begun == 1


def test_a_look_that_fails_is_followed_by_another(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)

    def fail() -> None:
        watched.begun += 1
        raise RuntimeError("no")

    found = Poller(fail)
    for number in (1, 2):
        time.sleep(0.15)
        found.poll(wait=True)
        assert watched.begun == len(failures) == number
