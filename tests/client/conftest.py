"""A real server on loopback for all tests of this folder, and a clean environment."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from initserver import Server, ServerConfig


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5)) as server:
        yield server.address


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("INITSERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["process", "server"])
def source(request: pytest.FixtureRequest) -> str:
    """Values of `target=`: this process, and a server."""
    return "local" if request.param == "process" else request.getfixturevalue("target")
